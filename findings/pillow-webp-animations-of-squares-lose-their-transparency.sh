#!/usr/bin/env bash
# Pillow 13.0.0. A WebP animation of RGBA frames, saved lossless, should be read again as it was: here an opaque square that moves
# over transparent ground.
# It is read in mode RGB, the ground opaque and black. libwebp cuts each frame down to the rectangle that is not transparent or
# has changed; where all these rectangles are full, the file has no frame with alpha, and Pillow takes the whole animation for
# opaque. A disc keeps its transparency, and so does a square with an odd left edge, as rectangles begin at even places. So
# sprites that are rectangles, title cards and subtitle boxes lose their masks, by shape and by position, and are composed with
# black in silence.
# Do instead: save with kmax=1, which stores whole frames, or as APNG; and look at the mode of what was read.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import io

import numpy as np
import PIL
from PIL import Image, ImageDraw, features

print("Pillow", PIL.__version__, "with libwebp", features.version("webp"))


def frame(shape, left):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    getattr(ImageDraw.Draw(image), shape)((left, 24, left + 15, 39), fill=(255, 0, 0, 255))
    return image


def read_again(shape, lefts, kind="WEBP", **options):
    """The mode of the animation that is read, and how many pixels of its frames are opaque."""
    frames = [frame(shape, left) for left in lefts]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=100, **options)
    opaque, same = [], []
    with Image.open(file) as image:
        mode = image.mode
        for number, true in enumerate(frames):
            image.seek(number)
            found = np.asarray(image.convert("RGBA"))
            opaque.append(int((found[..., 3] == 255).sum()))
            same.append(np.array_equal(found[..., 3], np.asarray(true)[..., 3]))
    print(f"{kind} {options}, {shape} at {lefts}: mode {mode}, opaque pixels of 4096 {opaque}")
    return mode, all(same)


even, odd = [24, 28, 34, 38], [25, 29, 35, 39]
assert read_again("ellipse", even, lossless=True) == ("RGBA", True)
assert read_again("rectangle", odd, lossless=True) == ("RGBA", True)
assert read_again("rectangle", even, lossless=True) == ("RGB", False), "squares keep their transparency now"
assert read_again("rectangle", even, lossless=True, exact=True) == ("RGB", False)
assert read_again("rectangle", even, lossless=True, kmax=1) == ("RGBA", True), "the way out does not work"
assert read_again("rectangle", even, "PNG")[1], "APNG loses transparency"
PY
