#!/usr/bin/env bash
# PyAV 18.1.0 (libavfilter 11). minterpolate=fps=20 should make 20 frames of 10 at 10 fps, or 19,
# as nothing lies beyond the last one; the filter framerate makes 20.
# It makes 17: the last input frame is never shown, nor anything between it and the one before,
# for the filter looks ahead by a frame and does not flush what it holds back at the end. Even
# mi_mode=dup, which searches for no motion, loses it. A generated clip loses its last state this way.
# Do instead: push the last frame a second time, which gives 19.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
from fractions import Fraction
import av, numpy as np
from av import library_versions

print("PyAV", av.__version__, "libavfilter", library_versions["libavfilter"])


def filtered(name, options, greys):
    """What the filter makes of frames of these greys at 10 fps, as greys."""
    graph, shades = av.filter.Graph(), []
    source = graph.add_buffer(width=64, height=48, format="yuv420p", time_base=Fraction(1, 10))
    between, sink = graph.add(name, options) if options else graph.add(name), graph.add("buffersink")
    source.link_to(between)
    between.link_to(sink)
    graph.configure()
    for i in range(len(greys) + 1):
        frame = None
        if i < len(greys):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), greys[i], np.uint8), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 10)
        graph.push(frame)
        try:
            while True:
                shades.append(int(graph.pull().to_ndarray(format="gray")[24, 32]))
        except (av.error.BlockingIOError, av.error.EOFError):
            pass
    return shades


greys = list(range(20, 220, 20))
seen = []
for name, options, given in (
    ("framerate", "fps=20", greys),
    ("minterpolate", "fps=20", greys),
    ("minterpolate", "fps=20:mi_mode=dup", greys),
    ("minterpolate", "fps=20", greys + greys[-1:]),
):
    made = filtered(name, options, given)
    seen.append((len(made), made[-1]))
    print(f"{name}={options}: {len(given)} frames up to grey {given[-1]} -> {len(made)} frames up to grey {made[-1]}")
assert seen == [(20, 200), (17, 180), (17, 180), (19, 200)], f"The ends are others: {seen}"
EOF
