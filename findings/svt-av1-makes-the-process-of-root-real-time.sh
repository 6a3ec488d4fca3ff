#!/usr/bin/env bash
# PyAV 18.1.0, whose wheels hold SVT-AV1 as `libsvtav1`. One guesses that an encoder leaves the calling process as it is. Where
# it runs as root, as in most containers, opening it puts the thread that called into Linux's real-time class, SCHED_FIFO with
# the highest priority, 99, and nothing puts it back: from then on the whole Python process, and what it starts, goes before
# every other process of the machine. A data pipeline that writes one AV1 clip starves its neighbours, and a test-suite or a
# benchmark that does so measures something else from there on. libx264, libx265 and libvpx leave the process alone.
# Instead: encode in a child process, or call os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)) afterwards.
# Without root nothing changes, and this script says so and ends with 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
cat > look.py <<'END'
import os
import sys

import av
import numpy as np


def encode(codec: str) -> None:
    with av.open(f"{codec}.mkv", "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for step in range(5):
            picture = np.full((64, 64, 3), 20 * step, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def scheduling() -> tuple[int, int]:
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority


print(f"av {av.__version__}, user {os.geteuid()}")
if os.geteuid() != 0:
    sys.exit("not root: SVT-AV1 changes nothing here" if scheduling() != (os.SCHED_OTHER, 0) else 0)
for codec in ("libx264", "libvpx-vp9", "libsvtav1"):
    encode(codec)
    print(f"after {codec}: policy, priority = {scheduling()}")
    expected = (os.SCHED_FIFO, 99) if codec == "libsvtav1" else (os.SCHED_OTHER, 0)
    if scheduling() != expected:
        sys.exit(f"changed: expected {expected} after {codec}")
END
"$folder/venv/bin/python" look.py
