#!/usr/bin/env bash
# videojedi 1.1.0, the authors' package of JEDi, a kernel distance of sets of videos that is said to need fewer samples than FVD.
# A reasonable guess is that, like KID, it is unbiased: two sets of samples of one distribution score 0 on average at every number.
# Its estimate of the squared discrepancy counts each sample's likeness to itself, and it is multiplied by 100. For 1280 features
# that are nearly orthogonal it is 200 / n for equal distributions: 2 at 100 videos, 0.2 at 1000. A distance between different sets
# shrinks by as much when n grows, and of two models the one with more videos looks better.
# So compare values at one number of videos only, beside real videos against other real ones at that number, or subtract
# (mean k(x, x) - mean k(x, y)) / n for each set.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check numpy==2.4.6 scikit-learn
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check --no-deps videojedi==1.1.0
cat > "$work/score.py" <<'EOF'
import importlib.util
import sys
import types

import numpy as np

# The package's own __init__ imports V-JEPA and torch; the metric of given features needs neither.
spec = importlib.util.find_spec("videojedi")
package = types.ModuleType("videojedi")
package.__path__ = list(spec.submodule_search_locations)
sys.modules["videojedi"] = package
from videojedi.mmd_polynomial import mmd_poly


def jedi(first, second):
    """As JEDiMetric.compute_metric calls it."""
    return mmd_poly(first, second, degree=2, coef0=0) * 100


rng = np.random.default_rng(0)
values = {}
for num in (50, 100, 500, 2000):
    values[num] = jedi(*(rng.normal(size=(num, 1280)) for _ in range(2)))
    print(f"{num} and {num} samples of one normal distribution: {values[num]:.3f}; 200 / n = {200 / num:.3f}")
same = rng.normal(size=(100, 1280))
print(f"a set and itself: {jedi(same, same):.3f}")
assert all(abs(value * num / 200 - 1) < 0.05 for num, value in values.items()), "the bias is another now"
EOF
cd "$work" && venv/bin/python score.py
