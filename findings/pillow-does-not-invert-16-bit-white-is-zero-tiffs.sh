#!/usr/bin/env bash
# Pillow 13.0.0. A TIFF whose PhotometricInterpretation is 0 ("white is zero") holds the brightness upside
# down; Pillow inverts it when it opens one of 8 bits, so one of 16 bits should be inverted, too.
# It comes as stored, a negative: white reads 0. Nothing tells, for the mode is I;16 either way.
# Depth maps, masks and scans come as such files; a first frame or a mask taken from one is
# inverted only if it is deep. Do instead: look at im.tag_v2[262], and subtract from 65535 where it is 0.
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


def tiff(bits, photometric, values):
    """A little-endian TIFF file of one grey row."""
    data = np.array(values, f"<u{bits // 8}").tobytes()
    tags = {256: len(values), 257: 1, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 1, 279: len(data)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return io.BytesIO(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data)


seen = {}
for bits, values in ((8, [0, 64, 255]), (16, [0, 16448, 65535])):
    for photometric, meaning in ((1, "black is zero"), (0, "white is zero")):
        image = Image.open(tiff(bits, photometric, values))
        seen[bits, photometric] = np.array(image)[0].tolist()
        print(f"{bits} bits, {meaning}: stored {values}, read {seen[bits, photometric]} in mode {image.mode}")
assert seen[8, 0] == [255, 191, 0], "TIFF files of 8 bits are no longer inverted."
assert seen[16, 0] == seen[16, 1] == [0, 16448, 65535], "TIFF files of 16 bits are now inverted."
EOF
