#!/usr/bin/env bash
# SSIM-PIL 1.0.14. compare_ssim of two frames should be 1 only where they are equal.
# It goes by tiles of 7 x 7 pixels and leaves out what does not fill a tile on the right and at the bottom: up to six rows and six
# columns. Of a frame of 256 x 256 those are the last four, of 64 x 64 the last one, and of 32 x 32 the last four again, nearly a
# quarter of the pixels. Frames that differ in these places alone have SSIM 1.0, whether by a line of padding that an encoder
# left, or by what comes into view as a camera pans. Tiles of 8, which divide the usual sizes, leave nothing out.
# Do instead: tile_size=8 for sizes that it divides, or SSIM with a sliding window from another package.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check ssim-pil==1.0.14 numpy==2.4.6 pillow==13.0.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import numpy as np
from PIL import Image
from SSIM_PIL import compare_ssim

print("SSIM-PIL", importlib.metadata.version("ssim-pil"))
for size, rest in ((256, 4), (64, 1), (32, 4)):
    frame = np.random.default_rng(0).integers(0, 256, (size, size), dtype=np.uint8)
    edge = frame.copy()
    edge[-rest:], edge[:, -rest:] = 255 - edge[-rest:], 255 - edge[:, -rest:]
    one, other = Image.fromarray(frame), Image.fromarray(edge)
    found = compare_ssim(one, other, GPU=False)
    tiles = compare_ssim(one, other, tile_size=8, GPU=False)
    share = np.mean(frame != edge)
    print(f"{size} x {size}, {share:.0%} of the pixels inverted: SSIM {found:.4f}, with tiles of 8 {tiles:.4f}")
    assert abs(found - 1) < 1e-9, "the last rows and columns count"
    assert tiles < 0.98
EOF
