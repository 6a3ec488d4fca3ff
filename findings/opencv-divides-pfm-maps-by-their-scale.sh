#!/usr/bin/env bash
# OpenCV 5.0.0.93 and Pillow 13.0.0. The third line of a PFM file is a scale: its sign says the order of bytes, and its size is a
# remark on the units of the numbers. Two readers should agree on the numbers. They do where the size is 1. Otherwise cv2.imread
# divides the values by it, and Pillow does not: disparities of Middlebury's set of 2014 say -0.003922, which is 1/255, so that
# OpenCV gives them 255 times as large. A file that says 2 is halved. OpenCV itself writes 1, so a copy made with it looks right
# to both. Errors of depth or flow are wrong by the factor, without a warning. Do instead: multiply by the absolute scale, read
# from the header, or read such files with Pillow.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import cv2
import numpy as np
import PIL
from PIL import Image

print("OpenCV", cv2.__version__, "Pillow", PIL.__version__)
disparity = np.array([[1, 2, 4], [8, 16, 32]], "<f4")
seen = {}
for scale in ("-1.0", "-2.0", "-0.003922"):
    with open("d.pfm", "wb") as file:
        file.write(f"Pf\n3 2\n{scale}\n".encode() + disparity[::-1].tobytes())
    seen[scale] = cv2.imread("d.pfm", cv2.IMREAD_UNCHANGED), np.array(Image.open("d.pfm"))
    print(f"scale {scale}: OpenCV {seen[scale][0].round(2).tolist()}, Pillow {seen[scale][1].tolist()}")
    assert np.array_equal(seen[scale][1], disparity)
assert np.array_equal(seen["-1.0"][0], disparity)
assert np.allclose(seen["-2.0"][0], disparity / 2), "OpenCV does not divide by the scale any more"
assert np.allclose(seen["-0.003922"][0] * 0.003922, disparity)
EOF
