#!/usr/bin/env bash
# pingouin 0.6.1. A confidence interval should be as exact as the numbers it is made of, and an interval of a difference with
# p < 0.001 should leave out 0. ttest rounds CI95 to two decimals, and compute_bootci both of its ends. For scores such as LPIPS, of
# which models differ by thousandths, the interval of a paired difference of 0.001 is [0.0, 0.0], beside T = 18.5, and that of a
# mean of 0.1206 is [0.12, 0.12]: intervals of no width, which read as no difference or as perfect certainty. T, p and the effect
# size beside them are in full precision. Numbers of 0 to 100 lose little, and so the rounding shows only where it harms.
# Do instead: pingouin.options["round.column.CI95"] = None for the tables, decimals=6 for compute_bootci, or report percent.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pingouin==0.6.1 numpy==2.4.6 pandas==2.3.3 scipy==1.17.1 \
  statsmodels==0.15.0 scikit-learn==1.9.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import numpy as np
import pingouin

print("pingouin", importlib.metadata.version("pingouin"))
one = np.array([0.1203, 0.1211, 0.1199, 0.1207, 0.1215, 0.1201, 0.1210, 0.1205])
other = one - np.array([0.0011, 0.0010, 0.0013, 0.0009, 0.0012, 0.0008, 0.0011, 0.0010])


def paired():
    table = pingouin.ttest(one, other, paired=True)
    return float(table["T"].iloc[0]), float(table["p_val"].iloc[0]), [float(end) for end in table["CI95"].iloc[0]]


score, p, interval = paired()
print(f"paired difference of {np.mean(one - other):.5f}: T = {score:.1f}, p = {p:.1g}, CI95 = {interval}")
assert score > 18 and p < 1e-5 and interval == [0, 0], "intervals are not rounded to two decimals any more"
boot = [pingouin.compute_bootci(one, func="mean", seed=1, **how).tolist() for how in ({}, {"decimals": 6})]
print(f"bootstrap of a mean of {one.mean():.5f}: {boot[0]}, with decimals=6 {boot[1]}")
assert boot[0] == [0.12, 0.12] and boot[1][0] < one.mean() < boot[1][1]
pingouin.options["round.column.CI95"] = None
exact = paired()[2]
print("CI95 without rounding:", exact)
assert 0.0009 < exact[0] < exact[1] < 0.0012
EOF
