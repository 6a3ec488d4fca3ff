#!/usr/bin/env bash
# pyspng 0.1.4. load without a format should give the channels that a PNG has, as it does at 8 bits: a grey picture is (height,
# width), one of colours (height, width, 3). A grey picture of 16 bits comes as (height, width, 2) and one of colours as (height,
# width, 4); the added channel is 65535 everywhere. Depth maps, disparities and KITTI's flow are such files. What follows
# takes the array for a map of two channels, as flow has, or for four planes; a mean depth is far too large, and
# the scale made of the maximum is 65535 for each map. Do instead: load(data)[..., 0], or [..., :3], for 16 bits, or read with OpenCV.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyspng==0.1.4 opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import cv2
import numpy as np
import pyspng

print("pyspng", importlib.metadata.version("pyspng"))
deep = (np.arange(4096, dtype=np.uint16) * 4).reshape(64, 64)
shapes = {}
for name, picture in (("grey", deep), ("colours", np.dstack([deep, deep // 2, deep // 4]))):
    for bits, array in ((8, (picture >> 8).astype(np.uint8)), (16, picture)):
        read = pyspng.load(cv2.imencode(".png", array)[1].tobytes())
        shapes[name, bits] = read.shape
        print(f"{name}, {bits} bits: written {array.shape}, read {read.shape}; maximum {array.max()} and {read.max()}")
        if bits == 16:
            true = array if name == "grey" else array[..., ::-1]
            kept = read[..., 0] if name == "grey" else read[..., :3]
            assert read.dtype == np.uint16 and np.array_equal(kept, true) and (read[..., -1] == 65535).all()
assert shapes["grey", 8] == (64, 64) and shapes["colours", 8] == (64, 64, 3)
assert shapes["grey", 16] == (64, 64, 2) and shapes["colours", 16] == (64, 64, 4), "16-bit pictures have the channels of the file"
EOF
