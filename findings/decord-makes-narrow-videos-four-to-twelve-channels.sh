#!/usr/bin/env bash
# decord 0.6.0. A frame read by VideoReader should be (height, width, 3), whatever the size.
# Videos of 8, 12, 16, 24, 48 or 72 pixels in width come back with 12, 8, 6, 4, 4 and 4 channels,
# and get_batch refuses them. decord takes bytes per row / width for the number of channels; FFmpeg
# pads the rows of these widths to a multiple of the width, and the padding becomes "channels".
# The pixels are scrambled, not lost: the first 3 x width bytes of every row are the picture.
# Beware in tests with tiny clips and in VideoReader(..., width=48): use widths divisible by 32.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check decord==0.6.0 av==18.1.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import av, decord, numpy as np

print("decord", decord.__version__)


def video(path, width, height=32):
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = (220, 40, 40)
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode())
    return path


channels = {}
for width in (8, 12, 16, 20, 24, 32, 48, 64, 72):
    frame = decord.VideoReader(video(f"{width}.mp4", width))[0].asnumpy()
    channels[width] = frame.shape[2]
    rows = frame.reshape(32, -1)[:, : width * 3].reshape(32, width, 3)
    print(f"width {width}: shape {frame.shape}, pixel {frame[5, 1].tolist()}, from the row's bytes {rows[5, 1].tolist()}")
    assert np.abs(rows.astype(int) - (220, 40, 40)).max() < 12, "The rows no longer begin with the picture."
expected = {8: 12, 12: 8, 16: 6, 20: 3, 24: 4, 32: 3, 48: 4, 64: 3, 72: 4}
assert channels == expected, f"decord gave other numbers of channels: {channels}"
try:
    decord.VideoReader("48.mp4").get_batch([0])
except decord.DECORDError as error:
    print("get_batch, width 48:", str(error).splitlines()[0].split("] ", 1)[-1])
else:
    raise SystemExit("get_batch read a video 48 pixels wide.")
EOF
