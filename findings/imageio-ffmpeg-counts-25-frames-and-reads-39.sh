#!/usr/bin/env bash
# imageio-ffmpeg 0.8.1. Of a video with uneven times, as phones and screen recorders make them, read_frames should yield each
# frame once. Its help names count_frames_and_secs for knowing how many there are.
# read_frames leaves it to FFmpeg's program, which repeats and drops frames until they are evenly spaced at a rate of the
# container's, and count_frames_and_secs counts packets copied without that. Of 25 frames it says 25, and 39 come: some up to nine
# times, and in MP4 one never. The rate that read_frames gives for the same file is 6.41 in MP4, where 10 a second come. Evenly
# timed videos are right. Arrays made for the counted number overflow or are cut, captions by frame number are off, and clips stand
# still.
# Do instead: read_frames(path, output_params=["-fps_mode", "passthrough"]) for each frame once, or PyAV, which has their times too.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import av
import imageio_ffmpeg
import numpy as np

print("imageio-ffmpeg", importlib.metadata.version("imageio-ffmpeg"))


def write(path, times):
    """Writes 25 frames, each ten levels brighter than the last, at these tenths of a second."""
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 10, np.uint8))
            frame.pts = time
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def read(path, **options):
    """The numbers of the frames that read_frames yields, and the rate that it gives."""
    frames = imageio_ffmpeg.read_frames(path, **options)
    rate = next(frames)["fps"]
    return [round(np.frombuffer(frame, np.uint8).mean() / 10) for frame in frames], rate


every = list(range(25))
for name, times in (("even", every), ("uneven", [0, 1, 2, 10, 11, 12, 20, *range(21, 39)])):
    for path in (f"{name}.mp4", f"{name}.mkv"):
        write(path, times)
        counted, seconds = imageio_ffmpeg.count_frames_and_secs(path)
        found, rate = read(path)
        print(f"{path}: counted {counted} in {seconds} s, rate {rate}, read {len(found)}: {found}")
        assert counted == 25
        if name == "even":
            assert found == every
        else:
            assert len(found) == 39 and max(map(found.count, found)) >= 7, "frames come once now"
            assert (4 in found) == path.endswith("mkv")
        assert read(path, output_params=["-fps_mode", "passthrough"])[0] == every
EOF
