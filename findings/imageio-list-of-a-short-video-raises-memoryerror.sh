#!/usr/bin/env bash
# imageio 2.38.1 with its "ffmpeg" plugin. `list(imageio.v2.get_reader("ten_frames.mp4"))` should be
# the ten frames, as a comprehension over the same reader is.
# It raises MemoryError at once, though nothing is allocated: len(reader) is sys.maxsize, as the
# plugin says "endless" for any file, and list() asks for that much room before it reads a frame.
# A data job then looks for a memory leak, or skips the clip as too large. Do instead: a
# comprehension, reader.count_frames() for the length, or imageio.v3.imiter with the pyav plugin.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check imageio==2.38.1 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import sys
import imageio, imageio.v2, numpy as np

print("imageio", imageio.__version__)
imageio.v2.mimwrite("ten.mp4", [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(10)], fps=10, macro_block_size=1)
reader = imageio.v2.get_reader("ten.mp4", "ffmpeg")
print("len(reader):", len(reader), "count_frames():", reader.count_frames(), "frames by a comprehension:", len([f for f in reader]))
assert len(reader) == sys.maxsize, "The reader now knows its length."
try:
    list(reader)
except MemoryError:
    print("list(reader): MemoryError")
else:
    raise SystemExit("list(reader) worked.")
EOF
