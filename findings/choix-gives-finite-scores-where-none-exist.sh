#!/usr/bin/env bash
# choix 0.4.1. If one model won every comparison, the maximum-likelihood score of Bradley-Terry is infinite.
# ilsr_pairwise, lsr_pairwise and rank_centrality raise ValueError on such data and mm_pairwise a
# RuntimeError, so opt_pairwise, which fits the same likelihood, should refuse them as well.
# It returns +11.75, 0 and -11.75 with no warning. Its alpha is 1e-6 by default (theirs is 0), so the
# prior alone decides how far apart the candidates lie: the same results ten times over give 13.9.
# With alpha=0 it stops at 13.5, where the optimizer gave up, with no warning either.
# In small rating studies a model without a loss is common, and the gap then tells nothing about it.
# Do instead: set alpha yourself (0.01 or so), the same in every table, and say so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check choix==0.4.1 scipy==1.17.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, warnings
import choix

print("choix", importlib.metadata.version("choix"))
warnings.simplefilter("ignore")
wins = [(0, 1)] * 3 + [(1, 2)] * 3 + [(0, 2)] * 2  # (winner, loser)
for name, refusal in (("ilsr_pairwise", ValueError), ("lsr_pairwise", ValueError), ("rank_centrality", ValueError), ("mm_pairwise", RuntimeError)):
    try:
        getattr(choix, name)(3, wins)
    except refusal as error:
        print(f"{name}: {refusal.__name__}: {str(error)[:60]}")
    else:
        raise SystemExit(f"{name} no longer refuses data without a finite best fit.")
warnings.simplefilter("error")
tops = []
for times, options in ((1, {}), (10, {}), (100, {}), (1, {"alpha": 0})):
    scores = choix.opt_pairwise(3, wins * times, **options)
    tops.append(float(scores.max()))
    print(f"opt_pairwise, results {times} times over, {options or 'default alpha'}: {scores.round(2).tolist()}")
expected = (11.75, 13.87, 16.02, 13.48)
assert all(abs(a - b) < 0.1 for a, b in zip(tops, expected)), f"opt_pairwise gave other best scores: {tops}"
EOF
