#!/usr/bin/env bash
# motion-vector-extractor 2.0.0. The column source of its vectors is described as the offset of the reference frame from the current
# one, so a vector divided by it should be the motion from frame to frame.
# source is only the direction, -1 or 1. x264's usual files refer to frames further away, around B-frames above all. A pan of 4 pixels
# in every frame has vectors of 4, 8 and 16 pixels, all with -1 or 1, and 6.9 on average, more or less by the frame type;
# encoded without B-frames and with one reference, each is 4. So a motion score of these vectors, cheap as it is, measures the settings
# of the encoder as well as the motion, and two copies of one clip differ by a factor of 1.7.
# Do instead: encode all clips with bf=0 and refs=1 first, or compute optical flow of decoded frames.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 opencv-python-headless==5.0.0.93 av==18.1.0
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps motion-vector-extractor==2.0.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import collections, importlib.metadata

import av
import cv2
import numpy as np
from mvextractor.videocap import VideoCap

print("motion-vector-extractor", importlib.metadata.version("motion-vector-extractor"))
noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8), (0, 0), 2)
pattern = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)


def vectors(options):
    """Returns the offsets and the lengths of all vectors away from the border, for a pan of 4 pixels a frame."""
    with av.open("pan.mp4", "w") as file:
        stream = file.add_stream("libx264", rate=24, options={"threads": "1", **options})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for number in range(24):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(pattern, 4 * number, 1), format="rgb24")))
        file.mux(stream.encode())
    video, offsets, lengths, types = VideoCap(), set(), [], ""
    assert video.open("pan.mp4")
    while True:
        found, _, rows, kind = video.read()
        if not found:
            return offsets, np.concatenate(lengths), types
        types += kind
        rows = rows[(rows[:, 5] > 32) & (rows[:, 5] < 96)]
        offsets |= set(rows[:, 0].tolist())
        lengths.append(np.abs(rows[:, 7] / np.maximum(rows[:, 9], 1)))


means = {}
for name, options in (("usual settings", {}), ("bf=0, refs=1", {"bf": "0", "refs": "1"})):
    offsets, lengths, types = vectors(options)
    means[name] = lengths.mean()
    common = [(length, count) for length, count in sorted(collections.Counter(lengths.tolist()).items()) if count > 20]
    print(f"{name}: {types}, offsets {sorted(offsets)}, mean length {means[name]:.2f}, lengths {common}")
    assert offsets <= {-1, 1}, "source is the distance of the frames now"
assert means["usual settings"] > 6 and abs(means["bf=0, refs=1"] - 4) < 0.1
EOF
