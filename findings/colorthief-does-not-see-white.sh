#!/usr/bin/env bash
# colorthief 0.2.1. get_color, the dominant colour of a picture, should be near white for a white frame with a red square of 1 % in
# it. Pixels with more than 250 in all three colours are left out before counting, and so it is red. With a ground of 250, which
# looks the same, it is 252, 252, 252, and with black ground black: only white has no part. A white frame alone raises, and so one
# fade ends a run. The palette of such a frame is the same red twice or three times: more colours than were asked for, and no white.
# Drawings, slides, products and sketches stand on white, and a search by colour or a caption made of it names their smallest part.
# Do instead: image.convert("RGB").quantize(5).convert("RGB").getcolors() of Pillow.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check colorthief==0.2.1 pillow==13.0.0
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, io

from colorthief import ColorThief
from PIL import Image

print("colorthief", importlib.metadata.version("colorthief"))


def frame(ground, side):
    """A frame of one grey with a red square, as colorthief takes it, and Pillow's most frequent colour of it."""
    image = Image.new("RGB", (100, 100), (ground,) * 3)
    image.paste((200, 0, 0), (0, 0, side, side))
    file = io.BytesIO()
    image.save(file, "PNG")
    return ColorThief(file), max(image.quantize(5).convert("RGB").getcolors())[1]


for ground in (0, 128, 250, 251, 255):
    thief, other = frame(ground, 10)
    found = thief.get_color(quality=1)
    print(f"99 % of {ground}, 1 % of red: colorthief {found}, Pillow {other}")
    assert max(abs(value - ground) for value in other) <= 2
    if ground > 250:
        assert found[0] > 190 and max(found[1:]) < 10, "white is counted now"
    else:
        assert max(abs(value - ground) for value in found) <= 6
palette = frame(255, 30)[0].get_palette(color_count=2, quality=1)
print("palette of two colours:", palette)
assert len(palette) == 3 and all(value[0] > 190 and max(value[1:]) < 10 for value in palette)
try:
    frame(255, 0)[0].get_color()
except Exception as error:
    print("white alone:", error)
else:
    raise AssertionError("a white frame has a colour now")
EOF
