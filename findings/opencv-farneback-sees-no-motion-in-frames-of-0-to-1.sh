#!/usr/bin/env bash
# OpenCV 5.0.0.93. calcOpticalFlowFarneback takes float32 frames as well as uint8 ones, though its manual names 8 bits only. As it
# raises no error for float32, the flow should not depend on whether black and white are 0 and 255 or 0 and 1, as it does not for
# DualTVL1. With float32 of 0 to 255 it is that of uint8. With 0 to 1, the usual range of tensors, it is all but zero: a pattern
# that moves by 3 pixels has a flow of 0.00001. The equations of each pixel are divided by a determinant plus a constant, which is
# small beside it for frames to 255 and outweighs it for frames to 1. So uint8 frames of low contrast lose motion as well: at a
# tenth of the contrast, a third of it. Motion scores of generated videos then call every video still. DIS refuses float frames
# with an error. Do instead: (frame * 255).round().astype(np.uint8) before, and beware of dark scenes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check opencv-contrib-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import cv2
import numpy as np

print("OpenCV", cv2.__version__)
noise = np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)
frame = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def motion(change, flow):
    """Mean flow to the right of a pattern that moves by 3 pixels, away from the borders."""
    return float(flow(change(frame), change(np.roll(frame, 3, 1)))[20:-20, 20:-20, 0].mean())


def farneback(one, other):
    return cv2.calcOpticalFlowFarneback(one, other, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def tvl1(one, other):
    return cv2.optflow.createOptFlow_DualTVL1().calc(one, other, None)


ranges = {
    "uint8": lambda one: one,
    "float32 to 255": lambda one: one.astype(np.float32),
    "float32 to 1": lambda one: one.astype(np.float32) / 255,
    "uint8 to 25": lambda one: one // 10,
}
found = {name: (motion(change, farneback), motion(change, tvl1)) for name, change in ranges.items()}
for name, (dense, total) in found.items():
    print(f"{name}: Farneback {dense:.5f}, DualTVL1 {total:.2f} pixels")
assert abs(found["uint8"][0] - 3) < 0.01 and abs(found["float32 to 255"][0] - 3) < 0.01
assert abs(found["float32 to 1"][0]) < 0.001, "Farneback sees motion in frames of 0 to 1"
assert found["uint8 to 25"][0] < 2.2, "Farneback sees all motion of frames with little contrast"
assert all(abs(total - 3) < 0.05 for _, total in found.values())
EOF
