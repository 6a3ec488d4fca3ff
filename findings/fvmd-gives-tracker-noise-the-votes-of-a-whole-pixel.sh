#!/usr/bin/env bash
# fvmd 1.0.0, the authors' package of the Frechet Video Motion Distance. It makes histograms of the velocities of tracked points,
# with eight directions and votes that grow with the logarithm of the speed.
# A reasonable guess is that a change of the velocities by a thousandth of a pixel changes a histogram by about a thousandth.
# Votes are rounded up to whole powers of two: a point that moves by a thousandth of a pixel, as trackers always report of still
# ones, has the same vote as one that moves by a whole pixel, while exactly 0 has none. And the directions begin at the axes, so that
# points that move to the right at five pixels per frame fall into one of two bins by the sign of their vertical thousandth: the
# histograms of the two pans have no bin in common.
# So FVMD of still backgrounds and of pans depends on noise that nobody sees. Do instead: set velocities below a tenth of a pixel
# to 0 before calc_hist, turn the vectors by a sixteenth of a turn, and compare only what one tracker has tracked.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check numpy==2.4.6 scipy loguru==0.7.3
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check --no-deps fvmd==1.0.0
cat > "$work/count.py" <<'EOF'
import importlib.util
import sys
import types

import numpy as np

# The package's own __init__ imports the tracker and all it needs; its histograms need numpy alone.
spec = importlib.util.find_spec("fvmd")
package = types.ModuleType("fvmd")
package.__path__ = list(spec.submodule_search_locations)
sys.modules["fvmd"] = package
from fvmd.extract_motion_features import calc_hist


def histogram(x, y):
    """Of 25 points for 4 frames, which all have the velocity (x, y): one block of 8 directions."""
    return calc_hist(np.broadcast_to(np.array([x, y]), (1, 4, 25, 2))).ravel()


still, noisy, moving = (histogram(speed, 0.0) for speed in (0.0, 0.001, 1.0))
print("votes at 0, 0.001 and 1 px per frame:", still.sum(), noisy.sum(), moving.sum())
down, up = histogram(5.0, 0.001), histogram(5.0, -0.001)
print("5 px to the right and 0.001 px down:", down)
print("5 px to the right and 0.001 px up:  ", up)
print("squared distance: %.1f; to points that stand still: %.1f" % (((down - up) ** 2).sum(), ((down - still) ** 2).sum()))
assert still.sum() == 0 and noisy.sum() == moving.sum() > 0, "votes grow with the speed now"
assert (down * up).sum() == 0 and down.sum() == up.sum() > 0, "the two pans share a bin now"
EOF
cd "$work" && venv/bin/python count.py
