#!/usr/bin/env bash
# deepsig 1.2.8 (almost stochastic order between the scores of two models over their seeds). eps_min lies between 0 and 1: below 0.5
# the first model is better, 1 means that the second dominates it. Of a model with itself one expects 0.5, or a value that says "no difference".
# aso(scores, scores) is 1: the model is dominated by itself, in either order, also if the same scores are given in another order.
# Scores that are all one number give 0.5 for the same comparison. Where the other is better by 1e-12 the two values are 1 and 0.72,
# so they do not add up to about 1 as for other pairs. Rows of a table that share their runs are such pairs.
# Do instead: look at the difference of the means first, and report both orders.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check deepsig==1.2.8
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import deepsig

print("deepsig", importlib.metadata.version("deepsig"))
seeds = [0.5, 0.52, 0.48, 0.51, 0.49]


def aso(one, other):
    return float(deepsig.aso(one, other, seed=0, show_progress=False, num_bootstrap_iterations=200, num_jobs=1))


same, turned, flat = aso(seeds, seeds), aso(seeds, seeds[::-1]), aso([0.5] * 5, [0.5] * 5)
print(f"with itself: {same}; in another order: {turned}; five equal scores with themselves: {flat}")
assert same == turned == 1.0 and flat == 0.5, "a model is compared with itself otherwise now"
better = [score + 0.1 for score in seeds]
print(f"with one that is better by 0.1: {aso(seeds, better):.2f}, and the other way round: {aso(better, seeds)}")
assert aso(seeds, better) > 0.9 and aso(better, seeds) == 0.0
near = [score + 1e-12 for score in seeds]
print(f"with one that is better by 1e-12: {aso(seeds, near)}, and the other way round: {aso(near, seeds):.2f}")
assert aso(seeds, near) == 1.0 and aso(near, seeds) > 0.6
EOF
