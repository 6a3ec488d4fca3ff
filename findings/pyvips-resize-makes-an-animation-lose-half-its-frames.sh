#!/usr/bin/env bash
# pyvips 3.2.0 with libvips 8.18.7. new_from_file(path, n=-1) loads all frames of an animation, and the guess is that resize, like
# thumbnail, makes each frame smaller, so that the file that is written has as many frames as before. The frames are one tall
# picture with the metadata page-height. resize shrinks the picture and leaves page-height as it was: at a half, ten frames of 32
# pixels are written as five of 16x32 that show two frames each, one above the other; at double size twenty come out of ten, and
# at 0.75, where page-height no longer divides the height, one very tall still. None of it raises or warns. Frames also bleed into
# each other at their edges. thumbnail knows of pages and does all of it right. Do instead:
# pyvips.Image.thumbnail("in.webp[n=-1]", width), or split the frames, resize each, join them and set page-height.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyvips==3.2.0 pyvips-binary==8.18.7 pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import numpy as np
import pyvips
from PIL import Image

print("pyvips", importlib.metadata.version("pyvips"), "libvips", ".".join(str(pyvips.version(part)) for part in range(3)))
noise = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
frames = [Image.fromarray(frame) for frame in noise]
frames[0].save("in.webp", save_all=True, append_images=frames[1:], duration=40, lossless=True)


def written(image, name):
    image.write_to_file(name)
    with Image.open(name) as found:
        return getattr(found, "n_frames", 1), found.size


whole = pyvips.Image.new_from_file("in.webp", n=-1)
found = {scale: written(whole.resize(scale), f"{scale}.webp") for scale in (1, 0.5, 2, 0.75)}
for scale, (number, size) in found.items():
    print(f"resize({scale}) of ten frames of 32x32: {number} frames of {size[0]}x{size[1]}")
thumbnail = written(pyvips.Image.thumbnail("in.webp[n=-1]", 16), "thumbnail.webp")
print("thumbnail of width 16:", thumbnail)
assert found[1] == (10, (32, 32)) and thumbnail == (10, (16, 16))
assert found[0.5] == (5, (16, 32)) and found[2] == (20, (64, 32)), "resize keeps the number of frames"
assert found[0.75] == (1, (24, 240))
EOF
