#!/usr/bin/env bash
# PyAV 18.1.0, with FFmpeg's filter reverse. A clip played backwards should show each frame for as long as before, the last one first.
# reverse turns the order of the pictures and leaves the times where they are: the first time goes to the last picture. That is right
# for frames at one rate. In a clip with uneven times, as of a phone, a screen recording, a GIF or WebP, or after dropping equal
# frames, each picture gets the length of the one that stood in its mirrored place: a title that was held for a second flashes by, and
# a frame of 0.1 s is held in its stead. The length of the whole clip stays, so that nothing looks wrong in its header.
# Who adds reversed clips to a training set teaches another speed of motion. (areverse of sound has no such times to keep.)
# Do instead: put the filter fps before reverse, or turn the list of frames over yourself and give each its own duration.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
from fractions import Fraction

import av
import av.filter
import numpy as np

print("PyAV", av.__version__)


def through(times, *filters):
    """Frame numbers and times in tenths of a second, of frames that are as bright as ten times their number."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format="gray", time_base=Fraction(1, 10))
    graph.link_nodes(source, *(graph.add(*one) for one in filters), graph.add("buffersink")).configure()
    for number, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), 10 * number, np.uint8), format="gray")
        frame.pts, frame.time_base = time, Fraction(1, 10)
        graph.push(frame)
    graph.push(None)
    found = []
    while True:
        try:
            frame = graph.pull()
        except (av.error.EOFError, EOFError, av.error.BlockingIOError):
            return found
        found.append((int(frame.to_ndarray().mean()) // 10, round(frame.pts * frame.time_base * 10)))


def lengths(frames):
    """Tenths of a second for which each frame is shown, but the last, whose length the next one would tell."""
    return {number: after - time for (number, time), (_, after) in zip(frames, frames[1:])}


even, uneven = [0, 1, 2, 3, 4], [0, 1, 2, 12, 13, 14]
assert through(even, ("reverse",)) == [(4, 0), (3, 1), (2, 2), (1, 3), (0, 4)]
before, after = through(uneven, ("null",)), through(uneven, ("reverse",))
print("frames and times:", before, "- reversed:", after)
print("tenths of a second that each frame is shown:", lengths(before), "- reversed:", lengths(after))
assert lengths(before)[2] == 10 and sum(lengths(before).values()) == sum(lengths(after).values()) == 14
assert [number for number, _ in after] == [5, 4, 3, 2, 1, 0]
assert [time for _, time in after] == uneven and lengths(after)[2] == 1 and lengths(after)[3] == 10, "times are reversed now"
steady = [number for number, _ in through(uneven, ("fps", "fps=10:round=up"), ("reverse",))]
print("at 10 fps first, frame 2 is shown for", steady.count(2), "tenths")
assert steady.count(2) == 10 and steady == sorted(steady, reverse=True)
EOF
