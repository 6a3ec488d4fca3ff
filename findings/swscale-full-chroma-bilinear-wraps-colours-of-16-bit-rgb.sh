#!/usr/bin/env bash
# PyAV 18.1.0 (libswscale 9.5). SWS_FULL_CHR_H_INT is the flag for better chroma, so 4:2:0 video turned
# into 16-bit RGB with it should be a little nearer to the truth.
# With bilinear scaling, saturated colours of the packed formats rgb48 and rgba64 wrap around: of
# full-range video, (40, 200, 40) becomes black, and white becomes dark blue (0, 0, 136). Bicubic
# scaling is right, and so are bilinear without the flag, 8-bit RGB, and planar gbrp16.
# Who reads HDR or 10-bit footage at 16 bits must know. Do instead: convert to gbrp16le, or bicubic.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import av, numpy as np
from av import library_versions

print("PyAV", av.__version__, "libswscale", library_versions["libswscale"])
BILINEAR, BICUBIC, FULL_CHR_H_INT, ACCURATE_RND = 2, 4, 0x2000, 0x40000
colours = np.array([(220, 40, 40), (40, 200, 40), (40, 40, 220), (255, 255, 255)], np.uint8)
picture = colours.repeat(16, 0)[None].repeat(16, 0)
frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuvj420p")


def convert(layout, flags):
    """The middles of the four bars in units of 8 bits."""
    pixels = frame.reformat(format=layout, interpolation=flags).to_ndarray()[8, 8::16, :3]
    return np.round(pixels / (257 if pixels.dtype == np.uint16 else 1)).astype(int)


def far_off(pixels):
    return int(np.abs(pixels - colours.astype(int)).max())


for layout, flags, name, wrong in (
    ("rgb24", BILINEAR | FULL_CHR_H_INT | ACCURATE_RND, "bilinear, full chroma", False),
    ("gbrp16le", BILINEAR | FULL_CHR_H_INT | ACCURATE_RND, "bilinear, full chroma", False),
    ("rgb48le", BICUBIC | FULL_CHR_H_INT | ACCURATE_RND, "bicubic, full chroma", False),
    ("rgb48le", BILINEAR | ACCURATE_RND, "bilinear", False),
    ("rgb48le", BILINEAR | FULL_CHR_H_INT | ACCURATE_RND, "bilinear, full chroma", True),
    ("rgba64le", BILINEAR | FULL_CHR_H_INT | ACCURATE_RND, "bilinear, full chroma", True),
):
    pixels = convert(layout, flags)
    print(f"{layout:8} {name:21} off by {far_off(pixels):3}: {pixels.tolist()}")
    assert (far_off(pixels) > 100) == wrong, f"{layout} with {name} is now {'right' if wrong else 'wrong'}."
EOF
