#!/usr/bin/env bash
# flowiz 2.4.0. convert_from_flow(flow, mode="UV") makes the two 8-bit pictures of horizontal and vertical flow that networks of two
# streams learn from. The papers clip flow to a fixed range, such as 20 pixels, so a pixel value should mean one speed.
# Each frame is divided by its own longest vector first: motion of 1 pixel a frame and of 10 give the same pictures, and one fast
# speck turns the slow motion of all else to 128, that of none. So from frame to frame the same speed flickers, and
# speed, which tells a walk from a run, is gone. The same holds for colours, mode="RGB".
# Do instead: np.clip(flow / 20, -1, 1) * 127 + 128, rounded, and a fixed range for colours, such as that of flow_vis with a given maximum.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps flowiz==2.4.0
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 tqdm==4.70.1
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import flowiz
import numpy as np

print("flowiz", importlib.metadata.version("flowiz"))


def pictures(flow):
    return flowiz.convert_from_flow(flow.astype(np.float32), mode="UV"), flowiz.convert_from_flow(flow.astype(np.float32))


pan = np.zeros((8, 8, 2))
pan[..., 0] = 1
specked = pan.copy()
specked[0, 0, 0] = 200
(slow, slow_colours), (fast, fast_colours), (beside, _) = pictures(pan), pictures(10 * pan), pictures(specked)
print("horizontal picture of 1 and of 10 pixels a frame:", slow[4, 4, 0], fast[4, 4, 0])
print("of 1 pixel a frame where one pixel moves by 200:", beside[4, 4, 0], "(none is 128)")
assert slow[4, 4].tolist() == fast[4, 4].tolist() == [255, 128] and np.array_equal(slow_colours, fast_colours), "the range is a fixed one now"
assert beside[4, 4, 0] == 128
fixed = [int(np.round(np.clip(flow / 20, -1, 1) * 127 + 128)[4, 4, 0]) for flow in (pan, 10 * pan, specked)]
print("with a fixed range of 20:", fixed)
assert len(set(fixed)) == 2 and fixed[0] == fixed[2]
EOF
