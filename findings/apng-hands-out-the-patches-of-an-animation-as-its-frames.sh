#!/usr/bin/env bash
# apng 0.3.4. APNG.open(path).frames gives a PNG for every frame, with its control chunk, and its manual saves each of them as a
# file to take an animation apart. They should be the frames that a browser shows. They are what the file stores. Pillow, like
# other writers, stores of each frame only the rectangle that changes, and leaves to the control chunk where it goes and whether
# it covers or blends: frame 0 is whole, the others are patches of other sizes, down to a few pixels. A file that the package made
# itself from whole PNGs comes back whole, so that a test of the round trip passes. Frames for training or for a score then differ
# in size, or, resized to one, show a blown-up corner. Do instead: read APNG with Pillow, which composes the frames.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check apng==0.3.4 pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, io

import numpy as np
from apng import APNG
from PIL import Image, ImageSequence

print("apng", importlib.metadata.version("apng"))
frames = []
for step in range(4):
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[12:20, 4 + 8 * step : 12 + 8 * step] = 255
    frames.append(Image.fromarray(frame))
frames[0].save("moving.png", save_all=True, append_images=frames[1:], duration=40)
taken = [Image.open(io.BytesIO(png.to_bytes())).size for png, _ in APNG.open("moving.png").frames]
with Image.open("moving.png") as animation:
    composed = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
print("sizes of the frames: apng", taken, "- Pillow", [frame.shape[1::-1] for frame in composed])
assert taken[0] == (48, 32) and all(size == (16, 8) for size in taken[1:]), "the frames are whole now"
assert all(np.array_equal(found, np.array(frame)) for found, frame in zip(composed, frames, strict=True))
for number, frame in enumerate(frames):
    frame.save(f"{number}.png")
APNG.from_files([f"{number}.png" for number in range(4)], delay=40).save("own.png")
assert {Image.open(io.BytesIO(png.to_bytes())).size for png, _ in APNG.open("own.png").frames} == {(48, 32)}
print("of its own file: all 48x32")
EOF
