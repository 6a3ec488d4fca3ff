#!/usr/bin/env bash
# moviepy 2.2.1. Ten frames in a Matroska file whose first time stamp is 2 s (a cut of a longer recording;
# MP4 hides such a start in its edit list) should be read as ten frames.
# VideoFileClip gives 30: Matroska's "duration" is the time at which the last frame ends, counted from
# zero; moviepy reads that many frames from the first on and fills up with the last one. Only UserWarnings
# tell of it, and the clip seems to freeze for two of three seconds.
# Do instead: remux (ffmpeg -i in.mkv -c copy out.mp4), or read with PyAV.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check moviepy==2.2.1 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, subprocess, warnings
import imageio_ffmpeg, numpy as np
from moviepy import VideoFileClip

print("moviepy", importlib.metadata.version("moviepy"))
writer = imageio_ffmpeg.write_frames("start.mp4", (32, 32), fps=10, macro_block_size=1)
writer.send(None)
for i in range(10):
    writer.send(np.full((32, 32, 3), 20 * i, np.uint8).tobytes())
writer.close()
seen = {}
for name, options in {"at-0.mkv": [], "at-2.mkv": ["-output_ts_offset", "2"], "at-2.mp4": ["-output_ts_offset", "2"]}.items():
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", "start.mp4", "-c", "copy", *options, name], check=True)
    with warnings.catch_warnings(record=True) as caught, VideoFileClip(name, audio=False) as clip:
        warnings.simplefilter("always")
        greys = [int(frame[5, 5, 0]) for frame in clip.iter_frames()]
    seen[name] = len(greys)
    print(f"{name}: {imageio_ffmpeg.count_frames_and_secs(name)[0]} frames in the file, {len(greys)} read, {len(caught)} warnings, last {greys[-3:]}")
assert seen == {"at-0.mkv": 10, "at-2.mkv": 30, "at-2.mp4": 10}, f"moviepy read other numbers of frames: {seen}"
EOF
