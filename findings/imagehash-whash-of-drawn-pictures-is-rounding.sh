#!/usr/bin/env bash
# ImageHash 4.3.2. Hashes are made to find near-duplicates: a picture that is brighter by one level of 255 should have the same
# wavelet hash (whash), or one that differs in a bit or two, as by average_hash, phash and dhash.
# whash compares 8 x 8 blocks with their median. Where more than half of them lie on plain ground, all these blocks equal the
# median, and the last bits of floating-point sums decide: a disc on plain ground and the same one level brighter differ in up to
# 29 of the 64 bits, and others of them in 5; two unrelated pictures differ in about 32. So copies are not found, with the usual
# limit of 5 or 10 bits, where frames are drawn: sprites, cartoons, slides, letterboxed film. Pictures without plain ground are
# not hurt.
# Do instead: average_hash, phash or dhash for drawn frames.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check ImageHash==4.3.2 pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata

import imagehash
import numpy as np
from PIL import Image, ImageDraw

print("ImageHash", importlib.metadata.version("ImageHash"))


def disc(x, y, brighter=0):
    """A red disc on blue ground, 64 x 64, all of it brighter by some levels of 255."""
    image = Image.new("RGB", (64, 64), (40 + brighter, 60 + brighter, 90 + brighter))
    ImageDraw.Draw(image).ellipse((x - 12, y - 12, x + 12, y + 12), fill=(220 + brighter, 40 + brighter, 40 + brighter))
    return image


def distances(function, x, y):
    return [function(disc(x, y)) - function(disc(x, y, brighter)) for brighter in range(1, 12)]


places = [(40, 25), (20, 20), (31.5, 31.5)]
for function in (imagehash.average_hash, imagehash.phash, imagehash.dhash, imagehash.whash):
    found = [distances(function, *place) for place in places]
    print(f"{function.__name__}: bits of 64 that differ when brighter by 1 to 11 levels: {found}")
    if function is imagehash.whash:
        assert max(map(max, found)) > 20 and min(map(max, found)) > 10, "whash of plain ground is stable now"
    else:
        assert max(map(max, found)) <= 2
noise = np.random.default_rng(0).normal(size=(8, 8))
photo = np.asarray(Image.fromarray((noise * 40 + 110).clip(0, 240).astype(np.uint8)).resize((64, 64), Image.Resampling.BICUBIC))
found = [imagehash.whash(Image.fromarray(photo)) - imagehash.whash(Image.fromarray(photo + level)) for level in range(1, 12)]
print("whash of a picture without plain ground:", found)
assert max(found) <= 2
PY
