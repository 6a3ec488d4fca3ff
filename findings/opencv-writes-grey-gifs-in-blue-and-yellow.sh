#!/usr/bin/env bash
# OpenCV 5.0.0.93 and Pillow 13.0.0. A GIF holds 256 colours, so a frame with 64 shades of grey should be kept as it is, as Pillow
# does. cv2.imwrite and cv2.imwriteanimation use, unless told otherwise, a fixed palette of 8 x 8 x 4 levels: red and green in
# steps of 36, blue in steps of 85. The ramp becomes 18 colours, most of them yellow or blue, and is off by 16 levels on average.
# IMWRITE_GIF_QUALITY=8, which sounds like the best, leaves four greys: 8 is the name of a colour table of 256. Depth maps, masks
# and previews change their values, and scores of a saved preview are those of the palette. Do instead: [cv2.IMWRITE_GIF_DITHER,
# 3], which makes a palette for the frame and keeps the ramp, or Pillow.
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
ramp = np.zeros((64, 64, 3), np.uint8) + np.linspace(0, 255, 64).astype(np.uint8)[None, :, None]
animation = cv2.Animation()
animation.frames, animation.durations = [ramp, ramp[:, ::-1].copy()], [40, 40]


def read(name):
    with Image.open(name) as image:
        found = np.array(image.convert("RGB"))
    return len(np.unique(found.reshape(-1, 3), axis=0)), float(np.abs(found.astype(int) - ramp).mean()), found[0]


found = {}
for name, options in (("default", []), ("quality 8", [cv2.IMWRITE_GIF_QUALITY, 8]), ("dither 3", [cv2.IMWRITE_GIF_DITHER, 3])):
    cv2.imwriteanimation("a.gif", animation, options)
    found[name] = read("a.gif")
cv2.imwrite("b.gif", ramp)
found["imwrite"] = read("b.gif")
Image.fromarray(ramp).save("c.gif")
found["Pillow"] = read("c.gif")
for name, (colours, error, row) in found.items():
    print(f"{name}: {colours} colours, mean error {error:.1f}, as {row[::13].tolist()}")
grey = {name: bool((row == row[:, :1]).all()) for name, (_, _, row) in found.items()}
assert not grey["default"] and not grey["imwrite"] and found["default"][1] > 10, "a grey ramp is grey now"
assert found["quality 8"][0] == 4
assert found["dither 3"][1] == found["Pillow"][1] == 0
EOF
