#!/usr/bin/env bash
# Pillow 13.0.0. A frame of a 24-fps clip lasts 41.67 ms; a plain save(..., duration=1000 / 24) should
# give about that in each animated format, rounded to what the format can hold.
# Of 24 frames GIF lasts 960 ms (each delay is cut to 40, not rounded, so 25 fps; at 30 fps it
# cuts 33.3 to 30, a tenth too fast), WebP exactly 1000 (the error is carried: 42, 42, 41),
# PNG 1000 in fractions, and AVIF raises TypeError for a duration that is no integer.
# Motion measured or rated in such previews is of another speed. Do instead: for GIF choose delays of
# whole 10 ms that add up; for AVIF pass integers that add up.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pillow==13.0.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import io
import PIL
from PIL import Image

print("Pillow", PIL.__version__)


def total(kind, fps):
    """How long a second of frames lasts after a round trip, in ms."""
    frames = [Image.new("RGB", (16, 16), (8 * i, 0, 0)) for i in range(fps)]
    file, length = io.BytesIO(), 0
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=1000 / fps)
    image = Image.open(file)
    assert image.n_frames == fps, "Frames were merged."
    for i in range(fps):
        image.seek(i)
        image.load()
        length += image.info["duration"]
    return round(length)


seen = {}
for kind in ("GIF", "WEBP", "PNG", "AVIF"):
    try:
        seen[kind] = total(kind, 24), total(kind, 30)
    except TypeError as error:
        seen[kind] = type(error).__name__
        print(f"{kind}: TypeError: {error}")
    else:
        print(f"{kind}: a second at 24 fps lasts {seen[kind][0]} ms, at 30 fps {seen[kind][1]} ms")
expected = {"GIF": (960, 900), "WEBP": (1000, 1000), "PNG": (1000, 1000), "AVIF": "TypeError"}
assert seen == expected, f"The lengths are others: {seen}"
EOF
