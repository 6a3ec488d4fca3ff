#!/usr/bin/env bash
# PyAV 18.1.0. An encoder that is told color_range=2 (JPEG, full range) should say so in the file, or refuse, so that black and
# white come back as 0 and 255. H.264 in MP4, FFV1 in Matroska and DNxHR in MOV do. ProRes keeps no note of it, in MOV and
# Matroska alike, and neither does FFV1 in AVI, nor MPEG-4: the samples are written in full range, and read as limited. Everything
# below 16 becomes black and all above 235 white; in between contrast grows by a sixth. ProRes even says that it is limited
# (color_range=1); the others say nothing (0). Neither the encoder nor the muxer warns. FFV1 is chosen because it loses nothing,
# and in AVI it loses both ends of the scale. Do instead: reformat frames to limited range (dst_color_range=1) first, or use
# Matroska with FFV1.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import av
import numpy as np

print("PyAV", av.__version__)
ramp = np.zeros((128, 256, 3), np.uint8) + np.arange(256, dtype=np.uint8)[None, :, None]


def copy(name, codec, pixels, options=None):
    """The range that the file says, and the ramp, which was written in full range."""
    with av.open(name, "w") as file:
        stream = file.add_stream(codec, rate=24, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 256, 128, pixels
        stream.codec_context.color_range = 2
        frame = av.VideoFrame.from_ndarray(ramp, format="rgb24").reformat(format=pixels, dst_color_range=2)
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open(name) as file:
        (frame,) = file.decode(video=0)
        return frame.color_range, frame.to_ndarray(format="rgb24")[64, :, 1].astype(int)


kept = {
    "H.264 in MP4": copy("a.mp4", "libx264", "yuv420p", {"crf": "1"}),
    "FFV1 in Matroska": copy("a.mkv", "ffv1", "yuv444p"),
    "DNxHR in MOV": copy("a.mov", "dnxhd", "yuv422p10le", {"profile": "dnxhr_hqx"}),
}
lost = {
    "ProRes in MOV": copy("b.mov", "prores_ks", "yuv422p10le"),
    "ProRes in Matroska": copy("b.mkv", "prores_ks", "yuv422p10le"),
    "FFV1 in AVI": copy("b.avi", "ffv1", "yuv444p"),
    "MPEG-4 in MP4": copy("b.mp4", "mpeg4", "yuv420p", {"qscale": "1"}),
}
for name, (said, row) in (kept | lost).items():
    print(f"{name}: color_range {said}, 0, 8, 64, 128, 192, 248 and 255 become {row[[0, 8, 64, 128, 192, 248, 255]].tolist()}")
assert all(said == 2 and abs(row - np.arange(256)).max() <= 3 for said, row in kept.values())
assert all(said != 2 and row[12] == 0 and row[240] == 255 for said, row in lost.values()), "the range is kept now"
assert [lost[name][0] for name in ("ProRes in MOV", "FFV1 in AVI")] == [1, 0]
EOF
