#!/usr/bin/env bash
# evalica 0.4.2. Bradley-Terry scores order candidates by their strength. Where one has lost every comparison
# the maximum-likelihood scores lie infinitely far apart, so a fit should refuse, warn, or put the winner far above.
# bradley_terry gives the winner of ten out of ten, and the loser, the same score of 1e-6, with no warning; so do newman
# and eigen, with 0. Of three candidates with a clear order (8 of 8 comparisons agree) all three have the same score.
# One comparison the other way brings 9 to 1 as it should be. A candidate without a win also levels those that have some.
# Rating studies with few votes often have such a candidate, and a table of equal scores reads as "no difference".
# Do instead: look for candidates without a win or a loss first; elo, pagerank and average_win_rate keep the order.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check evalica==0.4.2 numpy==2.4.6 pandas==3.0.1
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, warnings
import evalica

print("evalica", importlib.metadata.version("evalica"))
warnings.simplefilter("error")
X, Y = evalica.Winner.X, evalica.Winner.Y


def scores(fit, *votes):
    """Each vote: left, right, who won, how often."""
    rows = [(left, right, won) for left, right, won, times in votes for _ in range(times)]
    return fit(*map(list, zip(*rows))).scores.round(5).to_dict()


order = (("a", "b", X, 3), ("b", "c", X, 3), ("a", "c", X, 2))
for name in ("bradley_terry", "newman", "eigen"):
    found = scores(getattr(evalica, name), *order)
    print(f"{name}, a over b over c in every vote: {found}")
    assert len(set(found.values())) == 1, f"{name} tells the three apart now"
found = scores(evalica.bradley_terry, ("a", "b", X, 10))
print(f"bradley_terry, a wins 10 of 10: {found}")
assert found["a"] == found["b"]
found = scores(evalica.bradley_terry, ("a", "b", X, 9), ("a", "b", Y, 1))
print(f"bradley_terry, a wins 9 of 10: {found}")
assert abs(found["a"] / found["b"] - 9) < 0.01
for name in ("elo", "pagerank", "average_win_rate"):
    found = scores(getattr(evalica, name), *order)
    assert found["a"] > found["b"] > found["c"], found
EOF
