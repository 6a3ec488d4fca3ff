#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1). An RGBA picture saved as AVIF should be decoded with alpha (yuva420p), as the
# same picture saved as WebP or PNG is.
# FFmpeg opens it as two video streams: the colours without alpha, and a grey one that holds the alpha.
# `decode(video=0)` shows what lies under the transparency, here red where the picture
# is see-through; a loop over all video streams takes the mask for another picture.
# Product shots and sprites are cut out this way. Do instead: read AVIF with Pillow (alpha is merged),
# or take the second stream as the alpha of the first.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 pillow==13.0.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import io
import av, numpy as np, PIL
from PIL import Image

print("PyAV", av.__version__, "Pillow", PIL.__version__)
picture = Image.new("RGBA", (64, 64), (200, 30, 30, 255))
picture.putalpha(Image.linear_gradient("L").resize((64, 64)))
seen = {}
for kind in ("PNG", "WEBP", "AVIF"):
    file = io.BytesIO()
    picture.save(file, kind)
    file.seek(0)
    pillow = Image.open(file).convert("RGBA").getchannel("A").getextrema()
    file.seek(0)
    with av.open(file) as container:
        formats = [stream.codec_context.pix_fmt for stream in container.streams.video]
        rgba = next(container.decode(video=0)).to_ndarray(format="rgba")
    seen[kind] = formats
    print(f"{kind}: streams {formats}, alpha by PyAV {rgba[..., 3].min()}..{rgba[..., 3].max()}, by Pillow {pillow[0]}..{pillow[1]}")
    assert (rgba[..., 3].min() == 255) == (kind == "AVIF"), f"{kind}: alpha is read in another way."
    assert pillow[0] < 10, f"{kind}: Pillow lost the alpha."
assert seen == {"PNG": ["rgba"], "WEBP": ["yuva420p"], "AVIF": ["yuv420p", "gray"]}, f"The streams differ: {seen}"
EOF
