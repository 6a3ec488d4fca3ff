#!/usr/bin/env bash
# scenedetect 0.7.2 (its headless package). Cuts in a video whose frames are unevenly apart have their true times with the
# backends opencv and pyav; so the last scene should end with the video as well.
# With the default backend, OpenCV, its start is true and its end is the number of frames divided by an average rate. In a
# Matroska file of 20 frames at 2 fps and 100 at 10 to 25 the scenes are 0 to 10 s, 10 to 12.4 s, and 12.4 to 4.8 s.
# In the same video as MP4 the end is 17.14 s, and the video ends at 16.4. With the backend pyav it is right to a frame.
# Whoever takes a clip's length from the two times gets a negative one, and loses the last shot.
# Screen recordings, slide shows and phone videos are such files. Do instead: open_video(path, backend="pyav").
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check scenedetect-headless==0.7.2 av==18.1.0 numpy==2.4.6 opencv-python-headless==5.0.0.93
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata
from fractions import Fraction

import av
import numpy as np
from scenedetect import ContentDetector, SceneManager, open_video

print("scenedetect-headless", importlib.metadata.version("scenedetect-headless"), "PyAV", av.__version__)
MS = Fraction(1, 1000)
SHOTS = ((20, 500, (200, 30, 30)), (60, 40, (20, 30, 200)), (40, 100, (240, 240, 60)))  # frames, ms between them, colour


def write(path):
    """Three shots; returns the time after the last frame in seconds."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.time_base = 128, 96, "yuv420p", MS
        stream.options = {"x264-params": "log=-1"}
        time = 0
        for count, step, colour in SHOTS:
            for _ in range(count):
                frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), colour, np.uint8), format="rgb24")
                frame.pts, frame.time_base, time = time, MS, time + step
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return time / 1000


def scenes(path, backend):
    manager = SceneManager()
    manager.add_detector(ContentDetector())
    manager.detect_scenes(open_video(path, backend=backend))
    return [(round(start.seconds, 2), round(end.seconds, 2)) for start, end in manager.get_scene_list()]


for path in ("uneven.mkv", "uneven.mp4"):
    end = write(path)
    found = {backend: scenes(path, backend) for backend in ("opencv", "pyav")}
    print(f"{path}, whose last frame ends at {end} s: {found}")
    for backend, spans in found.items():
        assert [start for start, _ in spans] == [0.0, 10.0, 12.4], (backend, spans)
    assert abs(found["pyav"][-1][1] - end) < 0.11, found
    last = found["opencv"][-1]
    assert last[1] < last[0] if path.endswith("mkv") else last[1] > end + 0.5, "OpenCV's end of the last scene has changed"
EOF
