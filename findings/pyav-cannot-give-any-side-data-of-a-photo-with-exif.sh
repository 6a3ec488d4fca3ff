#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1). `frame.side_data.get(...)` should be None or the entry that one asks for.
# For a JPEG, WebP or TIFF file with Exif data it raises "ValueError: 31 is not a valid Type":
# FFmpeg now attaches the Exif block as side data of kind 31, PyAV's enum ends before it, and one
# unknown entry makes all of them unreadable, the display matrix included. TIFF files fail even
# without Exif, for FFmpeg makes a block of their tags.
# Photos are the first frames of image-to-video. frame.rotation still works, but calls a mirrored
# picture one turned by 180 degrees. Do instead: catch ValueError around side_data, or read photos with Pillow.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 pillow==13.0.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import io
import av, PIL
from av.sidedata.sidedata import Type
from PIL import Image

print("PyAV", av.__version__, "Pillow", PIL.__version__)
exif = Image.Exif()
exif[0x0112] = 2  # mirrored left-right


def read(kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (32, 16), (200, 30, 30)).save(file, kind, **options)
    file.seek(0)
    with av.open(file) as container:
        frame = next(container.decode(video=0))
    try:
        return frame.rotation, frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError as error:
        return frame.rotation, f"ValueError: {error}"


for kind in ("JPEG", "WEBP", "TIFF"):
    plain, tagged = read(kind), read(kind, exif=exif)
    print(f"{kind}: without Exif {plain}, mirrored by Exif {tagged}")
    assert tagged[0] == -180, f"{kind}: a mirrored picture is no longer one turned by 180 degrees."
    assert tagged[1] == "ValueError: 31 is not a valid Type", f"{kind} with Exif: side data can be read."
    assert (plain[1] is None) == (kind != "TIFF"), f"{kind} without Exif behaves in another way."
EOF
