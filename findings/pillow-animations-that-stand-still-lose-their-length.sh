#!/usr/bin/env bash
# Pillow 13.0.0. Five equal frames of 100 ms should be a file that lasts 500 ms, whatever the format.
# GIF merges them to one frame of 500 ms and AVIF keeps five. WebP and PNG merge them to a still picture
# without any duration, so the half second is gone: WebP reads back 0 ms, PNG none. As soon as one
# frame differs, all four keep the total.
# A generated clip that does not move (the failure one most wants to see) turns into a file of another
# kind, and a frame count or length taken from it is 1 or 0. Do instead: AVIF, or store the length beside.
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


def read_back(kind, greys):
    """The durations of the frames after a round trip."""
    frames = [Image.new("RGB", (16, 16), (grey,) * 3) for grey in greys]
    file, durations = io.BytesIO(), []
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=100)
    image = Image.open(file)
    for i in range(getattr(image, "n_frames", 1)):
        image.seek(i)
        image.load()
        durations.append(image.info.get("duration"))
    return durations


expected = {"GIF": [500], "WEBP": [0], "PNG": [None], "AVIF": [100] * 5}
for kind, durations in expected.items():
    still, moving = read_back(kind, [80] * 5), read_back(kind, [80, 80, 80, 80, 160])
    print(f"{kind}: five equal frames {still}, with another last frame {moving}")
    assert still == durations, f"{kind} keeps a still animation in another way."
    assert sum(moving) == 500, f"{kind} does not keep the length of a moving animation."
EOF
