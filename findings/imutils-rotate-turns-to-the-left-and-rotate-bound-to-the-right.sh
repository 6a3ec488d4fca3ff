#!/usr/bin/env bash
# imutils 0.5.4. rotate_bound(image, angle) should do what rotate(image, angle) does, but on a frame that is large enough for the
# corners. rotate turns to the left for a positive angle, as OpenCV and Pillow do, and rotate_bound to the right: of 90 degrees a
# mark at the top is at the left by one and at the right by the other, of 30 degrees both are 60 degrees apart. Nothing but a remark
# inside the source says so. At 180 degrees, and of symmetric things, both are equal.
# Who changes from one to the other because corners are cut off turns all frames, boxes and poses the wrong way, and augmentation
# with angles to both sides hides it in the pictures while labels turned along are wrong. Do instead: rotate_bound(image, -angle).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check imutils==0.5.4 opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import imutils
import numpy as np
from PIL import Image

print("imutils", importlib.metadata.version("imutils"))
frame = np.zeros((101, 101), np.uint8)
frame[14:27, 44:57] = 255  # a mark above the middle


def degrees(image):
    """Where the mark is, seen from the middle: 0 is to the right, 90 at the top."""
    row, column = np.argwhere(image > 127).mean(0) - (np.array(image.shape) - 1) / 2
    return round(np.degrees(np.arctan2(-row, column))) % 360


assert degrees(frame) == 90
for angle in (0, 30, 90, 180, -90):
    found = [degrees(imutils.rotate(frame, angle)), degrees(imutils.rotate_bound(frame, angle)),
             degrees(np.asarray(Image.fromarray(frame).rotate(angle))), degrees(imutils.rotate_bound(frame, -angle))]
    print(f"by {angle} degrees the mark goes from 90 to: rotate {found[0]}, rotate_bound {found[1]}, Pillow {found[2]}")
    left, right = (90 + angle) % 360, (90 - angle) % 360
    assert max(abs(found[0] - left), abs(found[2] - left), abs(found[3] - left)) <= 2
    assert abs(found[1] - right) <= 2, "rotate_bound turns to the left now"
EOF
