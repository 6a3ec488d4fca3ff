#!/usr/bin/env bash
# Pillow 13.0.0. A grey TIFF of 12 bits opens in mode I;16, and 2- or 4-bit files are stretched to the
# mode's full range on the way in, so white should be 65535.
# White is 4095: the samples are unpacked, not scaled, and nothing in the image says that only
# 12 bits are used. Divided by 65535, the whole picture lies below 1/16 of white, and convert("L")
# clips at 255 instead of dividing, so that all but the darkest tones become white.
# Do instead: read im.tag_v2[258] (bits per sample) before scaling camera and microscope pictures.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import io, struct
import numpy as np, PIL
from PIL import Image

print("Pillow", PIL.__version__)


def tiff(bits, values):
    """A little-endian TIFF file of one grey row."""
    packed = "".join(format(value, f"0{bits}b") for value in values)
    data = int(packed, 2).to_bytes(len(packed) // 8, "big")
    tags = {256: len(values), 257: 1, 258: bits, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: len(data)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return io.BytesIO(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data)


seen = {}
for bits in (4, 12):
    white = 2**bits - 1
    image = Image.open(tiff(bits, [0, white // 2, white, white]))
    seen[bits] = image.mode, np.array(image)[0].tolist(), np.array(image.convert("L"))[0].tolist()
    print(f"{bits} bits, black, grey, white: mode {seen[bits][0]}, {seen[bits][1]}, as L {seen[bits][2]}")
assert seen[4] == ("L", [0, 119, 255, 255], [0, 119, 255, 255]), "Files of 4 bits are read in another way."
assert seen[12] == ("I;16", [0, 2047, 4095, 4095], [0, 255, 255, 255]), "Files of 12 bits are read in another way."
EOF
