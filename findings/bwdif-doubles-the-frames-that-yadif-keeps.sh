#!/usr/bin/env bash
# PyAV 18.1.0 (libavfilter 11). bwdif is the newer and better yadif with the same options, so exchanging
# the names in a deinterlacing step should change the pixels and nothing else.
# It doubles the frames and the frame rate: the default mode of yadif is send_frame, that of bwdif (and
# of w3fdif and estdif) one frame per field. Progressive video is doubled as well, each frame
# nearly twice. Clips of a fixed number of frames then span half the time, and show half the motion.
# Do instead: bwdif=mode=send_frame, and deint=interlaced where most footage is progressive.
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


def filtered(name, options=""):
    """What the filter makes of ten progressive frames at 10 fps: each one's middle grey."""
    graph, shades = av.filter.Graph(), []
    source = graph.add_buffer(width=64, height=48, format="yuv420p", time_base=Fraction(1, 10))
    between, sink = graph.add(name, options) if options else graph.add(name), graph.add("buffersink")
    source.link_to(between)
    between.link_to(sink)
    graph.configure()
    for i in [*range(10), None]:
        frame = None
        if i is not None:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 20 * i, np.uint8), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 10)
        graph.push(frame)
        try:
            while True:
                shades.append(int(graph.pull().to_ndarray(format="gray")[24, 32]))
        except (av.error.BlockingIOError, av.error.EOFError):
            pass
    return shades


seen = {}
for name, options in (("yadif", ""), ("bwdif", ""), ("w3fdif", ""), ("estdif", ""), ("bwdif", "mode=send_frame")):
    shades = filtered(name, options)
    seen[f"{name} {options}".strip()] = len(shades)
    print(f"{name} {options}: {len(shades)} frames of 10: {shades[:6]} ...")
expected = {"yadif": 10, "bwdif": 20, "w3fdif": 20, "estdif": 20, "bwdif mode=send_frame": 10}
assert seen == expected, f"The numbers of frames are others: {seen}"
EOF
