#!/usr/bin/env bash
# tifffile 2026.3.3. imwrite of grey frames, masks or depth maps, an array of (frames, height, width), should write one page for each
# frame, however many there are. It does for 1, 2, 5 and more. Three frames become a single RGB picture with a plane for each
# frame, and four an RGBA picture, of float32 as well: a first axis of 3 or 4 is taken for colours. So every other reader sees
# one coloured page instead of three grey ones, and the fourth frame as its transparency. Clips cut into pieces of 16 frames are
# fine until a last piece has three. tifffile's own imread gives the array back as it was, so that a test with it passes.
# Do instead: always pass photometric="minisblack" for grey frames.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check tifffile==2026.3.3 numpy==2.4.6 pillow==13.0.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import numpy as np
import tifffile
from PIL import Image

print("tifffile", importlib.metadata.version("tifffile"))
seen, told = {}, {}
for number in (1, 2, 3, 4, 5, 16):
    frames = np.stack([np.full((24, 32), 10 + 10 * index, np.uint8) for index in range(number)])
    for found, options in ((seen, {}), (told, {"photometric": "minisblack"})):
        tifffile.imwrite("clip.tif", frames, **options)
        with Image.open("clip.tif") as picture:
            found[number] = (picture.n_frames, picture.mode, picture.getpixel((0, 0)))
        assert np.array_equal(tifffile.imread("clip.tif").reshape(frames.shape), frames)
    print(f"{number} grey frames: {seen[number][0]} of mode {seen[number][1]}, first pixel {seen[number][2]}")
assert seen[3] == (1, "RGB", (10, 20, 30)) and seen[4] == (1, "RGBA", (10, 20, 30, 40)), "three or four frames are pages now"
assert all(seen[number] == (number, "L", 10) for number in (1, 2, 5, 16))
assert all(told[number] == (number, "L", 10) for number in told)
print("with photometric='minisblack':", told[3], told[4])
tifffile.imwrite("depth.tif", np.ones((3, 24, 32), np.float32))
with tifffile.TiffFile("depth.tif") as file:
    print("three depth maps of float32:", len(file.pages), "page,", file.pages[0].photometric.name)
    assert len(file.pages) == 1 and file.pages[0].photometric.name == "RGB"
EOF
