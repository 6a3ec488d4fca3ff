#!/usr/bin/env bash
# moviepy 2.2.1. The frames of VideoFileClip should be the frames of the file, at constant rate at least.
# Of 25 frames at 7 fps, 81 at 16, 97 and 121 at 24 (usual lengths of generated clips) the last one is
# dropped; 16 or 49 frames at 8 fps are complete. moviepy takes the duration from FFmpeg's log, which
# is rounded to 10 ms, multiplies it by the rate, and cuts off the fraction: 3.57 s x 7 fps = 24.99.
# Extending a clip from its last frame, or comparing that frame, then uses the wrong one; nothing
# warns. Do instead: read frames with PyAV, imageio or ffmpeg until the file ends.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check moviepy==2.2.1 imageio-ffmpeg==0.8.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata
import imageio_ffmpeg, numpy as np
from moviepy import VideoFileClip

print("moviepy", importlib.metadata.version("moviepy"))


def write(path, count, fps):
    writer = imageio_ffmpeg.write_frames(path, (32, 32), fps=fps, macro_block_size=1)
    writer.send(None)
    for i in range(count):
        writer.send(np.full((32, 32, 3), 2 * i, np.uint8).tobytes())
    writer.close()


lost = {}
for count, fps in ((16, 8), (25, 7), (49, 8), (81, 16), (97, 24), (121, 24)):
    write("clip.mp4", count, fps)
    true = imageio_ffmpeg.count_frames_and_secs("clip.mp4")[0]
    with VideoFileClip("clip.mp4", audio=False) as clip:
        frames = list(clip.iter_frames())
        print(f"{true} frames at {fps} fps: moviepy says {clip.duration} s and gives {len(frames)}")
    assert true == count, "The file itself lacks frames."
    lost[count, fps] = true - len(frames)
complete = [clip for clip, frames in lost.items() if frames == 0]
assert complete == [(16, 8), (49, 8)] and max(lost.values()) == 1, "moviepy lost other frames."
EOF
