#!/usr/bin/env bash
# imageio 2.38.1. imageio.v3.imread of an animated GIF or PNG gives all frames, (6, 16, 16, 3), so that of
# the same animation as WebP or AVIF should do so, too.
# It gives the first frame only, (16, 16, 3), and improps says nothing of more: for the default
# index=None the Pillow plugin takes all frames of GIF and APNG, and the first of every other kind.
# A data set of animated WebP (the usual form of stickers) becomes one of stills without an error.
# Do instead: imread(file, index=...) with the literal Ellipsis, or imiter, which gives all frames of each.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check imageio==2.38.1 pillow==13.0.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import imageio, imageio.v3 as iio, numpy as np, PIL

print("imageio", imageio.__version__, "Pillow", PIL.__version__)
frames = np.stack([np.full((16, 16, 3), 20 * i, np.uint8) for i in range(6)])
for extension, all_of_them in ((".gif", True), (".png", True), (".webp", False), (".avif", False)):
    file = iio.imwrite("<bytes>", frames, extension=extension, duration=100)
    plain, every = iio.imread(file).shape, iio.imread(file, index=...).shape
    print(f"{extension}: imread {plain}, imread(index=...) {every}, imiter {len(list(iio.imiter(file)))} frames")
    assert every == (6, 16, 16, 3), f"Frames of {extension} are lost."
    assert (plain == every) == all_of_them, f"imread of {extension} now gives {plain}."
EOF
