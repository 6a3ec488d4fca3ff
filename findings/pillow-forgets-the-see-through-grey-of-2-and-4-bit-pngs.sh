#!/usr/bin/env bash
# Pillow 13.0.0. A grey PNG can name one see-through value (chunk tRNS), and convert("RGBA") gives that
# value alpha 0. It should do so whatever the bit depth.
# Of 1, 8 and 16 bits it does. Of 2 and 4 bits the pixels are stretched to 0..255 but the named value
# is not: value 3 of 2 bits is 255 in the picture, and Pillow looks for pixels of 3. The picture comes
# out wholly opaque, unless the value is 0. Optimizers write such files of icons and line art.
# Do instead: scale im.info["transparency"] by 85 (2 bits) or 17 (4 bits) yourself.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import io, struct, zlib
import numpy as np, PIL
from PIL import Image

print("Pillow", PIL.__version__)


def png(depth, values, see_through):
    """A PNG file of one grey row with a see-through value."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packed = "".join(format(value, f"0{depth}b") for value in values)
    row = int(packed, 2).to_bytes(len(packed) // 8, "big")
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", len(values), 1, depth, 0, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">H", see_through))
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


lost = []
for depth in (1, 2, 4, 8, 16):
    white = 2**depth - 1
    image = Image.open(png(depth, [0, white] * 4, see_through=white))
    alpha = np.array(image.convert("RGBA"))[0, :, 3].tolist()
    print(f"{depth} bits, white see-through: transparency {image.info['transparency']}, alpha of black and white {alpha[:2]}")
    assert alpha[:2] in ([255, 0], [255, 255]), "The alpha is neither right nor lost."
    if alpha[1] == 255:
        lost.append(depth)
assert lost == [2, 4], f"The transparency is lost at depths {lost}, not at 2 and 4."
EOF
