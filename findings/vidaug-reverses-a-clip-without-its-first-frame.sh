#!/usr/bin/env bash
# vidaug 1.5. InverseOrder should give the frames of a clip backwards. It gives all but the first: ten frames become nine, and a clip of
# one frame none, so that a batch of clips no longer stacks, or, where a loader pads or repeats, shows the end of the motion wrongly.
# RandomRotate should give frames as it was given them, as RandomTranslate and HorizontalFlip do. Of arrays of uint8 it makes float64 of
# 0 to 1, while PIL images stay as they are: in Sometimes(0.5, RandomRotate(10)) half of the clips of a batch are 255 times darker than
# the others, Add(50) after it, which cuts to whole numbers, leaves a plain grey of 50 and no picture, and InvertColor raises TypeError.
# Do instead: clip[::-1], and give lists of PIL images, or scale what comes back as float.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check scikit-image==0.26.0 opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps vidaug==1.5
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata
import random

import numpy as np
import vidaug.augmentors as augmentors
from PIL import Image

print("vidaug", importlib.metadata.version("vidaug"))
clip = [np.full((16, 16, 3), 20 * number, np.uint8) for number in range(10)]
backwards = [int(frame[0, 0, 0]) // 20 for frame in augmentors.InverseOrder()(clip)]
print("ten frames backwards:", backwards, "- one frame:", augmentors.InverseOrder()(clip[:1]))
assert backwards == list(range(9, 0, -1)) and augmentors.InverseOrder()(clip[:1]) == [], "the first frame is kept now"
random.seed(0)
ways = {"RandomRotate": augmentors.RandomRotate(10), "RandomTranslate": augmentors.RandomTranslate(4, 4), "HorizontalFlip": augmentors.HorizontalFlip()}
found = {name: way(clip)[5] for name, way in ways.items()}
for name, frame in found.items():
    print(f"a frame of uint8, 100 everywhere, after {name}: {frame.dtype}, {frame[8, 8, 0]:.3f} in the middle")
assert found["RandomRotate"].dtype == np.float64 and abs(found["RandomRotate"][8, 8, 0] - 100 / 255) < 1e-6, "rotation keeps the type now"
assert all(found[name].dtype == np.uint8 and found[name][8, 8, 0] == 100 for name in ("RandomTranslate", "HorizontalFlip"))
picture = ways["RandomRotate"]([Image.fromarray(frame) for frame in clip])[5]
assert np.asarray(picture)[8, 8, 0] == 100
turned = ways["RandomRotate"](clip)
brighter = [np.unique(augmentors.Add(50)(one)[5][6:10, 6:10]).tolist() for one in (clip, turned)]
print("a frame of 100 after Add(50), as it was and after RandomRotate:", brighter)
assert brighter == [[150], [50]]
try:
    augmentors.InvertColor()(turned)
except TypeError as error:
    print("InvertColor after RandomRotate: TypeError:", str(error).split(",")[0])
else:
    raise AssertionError("floats are inverted now")
EOF
