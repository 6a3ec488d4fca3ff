#!/usr/bin/env bash
# krippendorff 0.9.0. alpha() measures how far raters agree, by the squares of the differences of their ratings (level "interval",
# the default) or of the differences divided by the sums ("ratio"). Ratings of 1 to 5 fit into uint8, the type in which they lie
# in many arrays, and alpha should not depend on the type: unsigned integers are among those that the code names. Differences are
# made in the type of the ratings: 1 - 2 is 255 in uint8, and its square 65,025, while 2 - 1 is 1. Three raters that agree well
# (alpha 0.89) have 0.49, and by "ratio" 0.20 for 0.80, with no warning. Signed types, "nominal" and "ordinal" are right, and
# unsigned types of 16 to 64 bits are wrong in the same way. A study of generated videos looks as if its raters could not be
# trusted.
# Do instead: alpha(ratings.astype(float)).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check krippendorff==0.9.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, warnings

import krippendorff
import numpy as np

warnings.simplefilter("error")
print("krippendorff", importlib.metadata.version("krippendorff"))
ratings = np.array([[1, 2, 3, 4, 5, 5, 3, 2], [1, 2, 3, 5, 5, 4, 3, 2], [2, 2, 3, 4, 5, 5, 4, 1]])  # three raters, eight videos
levels = ("nominal", "ordinal", "interval", "ratio")
of_type = {}
for kind in (float, "int8", "int64", "uint8", "uint16", "uint32", "uint64"):
    alphas = [float(krippendorff.alpha(ratings.astype(kind), level_of_measurement=level)) for level in levels]
    of_type[np.dtype(kind).name] = np.array(alphas)
    print(f"{np.dtype(kind).name:8}", ", ".join(f"{level} {alpha:.2f}" for level, alpha in zip(levels, alphas)))
right = of_type["float64"]
assert np.allclose(right.round(2), [0.49, 0.90, 0.89, 0.80])
assert krippendorff.alpha(ratings.astype("uint8")) == of_type["uint8"][2], "another level is the default now"
for name, alphas in of_type.items():
    assert np.allclose(alphas[:2], right[:2])
    assert np.allclose(alphas[2:], right[2:]) == (not name.startswith("uint")), f"{name} is now otherwise"
assert np.allclose(of_type["uint8"].round(2)[2:], [0.49, 0.20])
EOF
