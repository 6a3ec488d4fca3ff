#!/usr/bin/env bash
# OpenCV 5.0.0.93, the module quality of opencv-contrib. QualitySSIM_compute and the like give a score for each channel, so their
# mean should be the score of the picture, and 1 for a frame with itself. They always give four numbers. Of three channels the
# fourth is 0 for SSIM, MSE and GMSD, and infinite for PSNR, and of a grey frame the last three are: the mean over them is 0.75 or
# 0.25 for the SSIM of a frame with itself, three quarters of the MSE, and always inf for PSNR. 0.75 looks like a bad score, not
# like an error, and MSE and GMSD look better than they are. Do instead: take the first frame.shape[2] numbers, or the first one
# of a grey frame.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check opencv-contrib-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import math

import cv2
import numpy as np

print("OpenCV", cv2.__version__)
numbers = np.random.default_rng(0)
frame = numbers.integers(0, 240, (64, 64, 3), dtype=np.uint8)
other = frame + numbers.integers(0, 16, frame.shape, dtype=np.uint8)
found = {}
for name in ("SSIM", "MSE", "PSNR", "GMSD"):
    compute = getattr(cv2.quality, f"Quality{name}_compute")
    found[name] = compute(frame, frame)[0], compute(frame, other)[0], compute(frame[..., 0], other[..., 0])[0]
    same, colour, grey = (np.round(scores, 3).tolist() for scores in found[name])
    print(f"{name}: with itself {same}, with another {colour}, grey {grey}")
same, colour, grey = found["SSIM"]
assert all(len(scores) == 4 for scores in found["SSIM"]), "there are as many numbers as channels"
assert np.mean(same) == 0.75 and same[3] == colour[3] == 0 and 0.24 < np.mean(grey) < 0.25
assert found["MSE"][1][3] == 0 and abs(np.mean(found["MSE"][1]) / cv2.norm(frame, other, cv2.NORM_L2SQR) * frame.size - 0.75) < 1e-6
assert math.isinf(found["PSNR"][1][3]) and math.isinf(found["PSNR"][2][1])
EOF
