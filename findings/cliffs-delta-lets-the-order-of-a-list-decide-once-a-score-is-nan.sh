#!/usr/bin/env bash
# cliffs-delta 1.0.0. cliffs_delta(a, b) is how often a score of a is higher than one of b, less how often it is lower, and a word
# for its size. A metric of one broken video is NaN. Then the result should be NaN, or an error, or leave that score out. Both
# lists are sorted, and Python's sorting puts numbers in a wrong order around a NaN, so that the other scores are miscounted too.
# Six scores that are all higher than seven others have a delta of 1.0. With one NaN among the seven it is anything from -1.0 to
# 0.75, by the order of the list alone: "large" for the other side, "negligible", "small", with no warning. With one NaN among the
# six it is 0.71 or 1.0. A comparison of two models turns over with the order of its files.
# Do instead: leave NaN out of both lists first.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check cliffs-delta==1.0.0
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, random, warnings

from cliffs_delta import cliffs_delta

warnings.simplefilter("error")
print("cliffs-delta", importlib.metadata.version("cliffs-delta"))
better, worse = [0.70, 0.80, 0.90, 0.85, 0.95, 0.75], [0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.65]
print("without NaN:", cliffs_delta(better, worse))
assert cliffs_delta(better, worse) == (1.0, "large")


def results(first, second):
    """All results over 300 orders of both lists."""
    generator = random.Random(0)
    orders = [(generator.sample(first, len(first)), generator.sample(second, len(second))) for _ in range(300)]
    return sorted({cliffs_delta(*order) for order in orders})


assert results(better, worse) == [(1.0, "large")], "the order matters without NaN"
of_worse = results(better, [*worse, float("nan")])
of_better = results([*better, float("nan")], worse)
print("NaN among the worse, by their order:", of_worse)
print("NaN among the better, by their order:", [(round(delta, 2), size) for delta, size in of_better])
assert of_worse[0] == (-1.0, "large") and of_worse[-1] == (0.75, "large")
assert {size for _, size in of_worse} == {"large", "small", "negligible"}
assert [round(delta, 2) for delta, _ in of_better] == [0.71, 1.0]
EOF
