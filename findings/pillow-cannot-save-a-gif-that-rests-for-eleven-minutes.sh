#!/usr/bin/env bash
# Pillow 13.0.0. A GIF frame may last 655.35 s. Frames of 300 s each are within the limit, so a GIF of
# any number of them should be saved.
# Three equal ones raise "OverflowError: int too big to convert": Pillow merges equal neighbours into one
# frame and adds up their durations with no regard to the limit. With different pictures it works, so
# whether a clip can be saved hangs on its content. Slide shows and screen recordings stand still.
# Do instead: make the first pixel of every second frame differ, or cut long rests yourself.
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


def save(greys, seconds):
    frames = [Image.new("L", (8, 8), grey) for grey in greys]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=round(seconds * 1000))
    return Image.open(file).n_frames


assert save([0, 90, 180], 300) == 3, "Different frames were merged."
assert save([0, 0], 300) == 1, "Equal frames were not merged."
print("three different frames of 300 s: saved; two equal ones: saved as one frame")
try:
    save([0, 0, 0], 300)
except OverflowError as error:
    print("three equal frames of 300 s: OverflowError:", error)
else:
    raise SystemExit("Three equal frames of 300 s were saved.")
EOF
