#!/usr/bin/env bash
# PyAV 18.1.0, FFmpeg's filter fps, which many loaders of videos use to sample at a lower rate.
# A reasonable guess is that 30 frames a second are sampled at 10 as frames 0, 3, 6, as framestep=3 or frames[::3] do.
# It rounds each frame's time to the nearest time of the output, and of all frames that fall on one keeps the last: 1, 4, 7. From 25
# to 5 it is 2, 7, 12, from 60 to 10 it is 2, 8, 14, and at half the rate, where a tie rounds up, 0, 2, 4 after all. The first
# frame is never seen then, though the clip begins at 0 s, and all frames are shown up to half a gap early. Captions and boxes with times,
# a first frame that was saved beside the video, and loaders that count frames are off by those frames.
# Do instead: fps=10:round=up, which gives 0, 3, 6, or framestep where the rates divide.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
from fractions import Fraction

import av
import numpy as np
from av import library_versions

print("PyAV", av.__version__, "libavfilter", library_versions["libavfilter"])


def kept(name, options, rate, number=120):
    """Numbers of the frames that come out of a filter, and the times at which they are shown."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format="gray", time_base=Fraction(1, rate))
    chosen, sink = graph.add(name, options), graph.add("buffersink")
    source.link_to(chosen)
    chosen.link_to(sink)
    graph.configure()
    found = []
    for index in [*range(number), None]:
        if index is not None:
            frame = av.VideoFrame.from_ndarray(np.full((16, 16), index, np.uint8), format="gray")
            frame.pts, frame.time_base = index, Fraction(1, rate)
        graph.push(None if index is None else frame)
        while True:
            try:
                out = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            found.append((int(out.to_ndarray()[0, 0]), out.pts * out.time_base))
    return found


for rate, wanted, first in ((30, 10, 1), (24, 8, 1), (25, 5, 2), (60, 10, 2), (30, 15, 0)):
    step = rate // wanted
    plain, up = kept("fps", f"fps={wanted}", rate), kept("fps", f"fps={wanted}:round=up", rate)
    print(f"{rate} to {wanted} frames a second: {[number for number, _ in plain[:4]]}, with round=up {[number for number, _ in up[:4]]}")
    assert [number for number, _ in plain[:10]] == [first + step * index for index in range(10)], "another frame comes first"
    assert [number for number, _ in up[:10]] == [step * index for index in range(10)]
    assert plain[0][1] == up[0][1] == 0
assert [number for number, _ in kept("framestep", "step=3", 30)[:4]] == [0, 3, 6, 9]
EOF
