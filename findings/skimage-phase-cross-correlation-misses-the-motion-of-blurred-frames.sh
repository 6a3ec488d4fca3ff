#!/usr/bin/env bash
# scikit-image 0.26.0. phase_cross_correlation finds by how much a frame is shifted against another, and a shift by 2 rows and 3
# columns should come out as (2, 3) or nearly so, the more so without noise.
# It does in sharp texture. By default all frequencies count alike (normalization="phase"), those without any picture in them
# included, which are most in a blurred frame: their phases are rounding and noise. Of texture that is blurred by 2 pixels it finds
# (1, 0) without noise and (0, 3) with noise of two levels where it should find (2, 3); of a soft spot with noise of one level,
# (9, -2). The error that is returned beside the shift is 1.0 for right and wrong ones. normalization=None is right in all of these.
# Frames out of focus, dark ones, upscaled ones and those of generators with little detail are blurred in this sense, and steadying or
# motion scores made from them are noise. Do instead: pass normalization=None.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W error - <<'EOF'
import importlib.metadata

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

print("scikit-image", importlib.metadata.version("scikit-image"))
random = np.random.default_rng(1)
rows, columns = np.mgrid[:64, :64]


def noisy(frame, levels):
    return (frame + random.normal(0, levels, frame.shape)).clip(0, 255).astype(np.uint8)


def texture(blur):
    """Two windows of 64x64 onto one picture, the second 2 rows and 3 columns further."""
    picture = gaussian_filter(np.random.default_rng(1).random((96, 96)), blur)
    picture = 20 + 200 * (picture - picture.min()) / np.ptp(picture)
    return picture[10:74, 10:74], picture[12:76, 13:77]


def spot(row, column):
    return 255 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 72)


pairs = {f"texture blurred by {blur}": texture(blur) for blur in (1, 2, 3)}
pairs |= {f"texture blurred by {blur}, noisy": [noisy(frame, 2) for frame in texture(blur)] for blur in (1, 2)}
pairs["soft spot, noisy"] = [noisy(spot(32, 32), 1), noisy(spot(30, 29), 1)]
default, plain = {}, {}
for name, (first, second) in pairs.items():
    default[name], error, _ = phase_cross_correlation(first, second)
    plain[name] = phase_cross_correlation(first, second, normalization=None)[0]
    print(f"{name}: {default[name].tolist()} by default (error {error:.3f}), {plain[name].tolist()} with normalization=None")
    assert plain[name].tolist() == [2, 3] and error > 0.99
for name, shift in default.items():
    right = shift.tolist() == [2, 3]
    assert right == name.startswith("texture blurred by 1"), "blurred frames are registered now"
EOF
