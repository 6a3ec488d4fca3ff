#!/usr/bin/env bash
# scikit-image 0.26.0. structural_similarity of two grey clips, arrays of (frames, height, width), should be the mean over frames.
# The clip is taken for a volume, with windows of 7 x 7 x 7, seven frames at once. In a moving clip these hold more contrast than in
# one that stands still, and the same noise counts for less: 0.71 without motion, 0.88 at 2 pixels a frame and 0.93 at 4, where the mean
# over frames is 0.72 to 0.73 throughout. Clips of (frames, height, width, 3) with channel_axis=-1 are treated likewise. So a
# model scores higher on lively videos, and the numbers do not compare with published ones. Clips of seven frames or more give no
# sign of it; shorter ones raise ValueError about the size of the window.
# Do instead: call it for each frame and take the mean, or pass channel_axis=0 for grey clips, which comes to the same.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check scikit-image==0.26.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W error - <<'EOF'
import importlib.metadata

import numpy as np
from skimage.metrics import structural_similarity

print("scikit-image", importlib.metadata.version("scikit-image"))
rows, columns = np.mgrid[:64, :64]
picture = 128 + 60 * np.sin(columns / 6) + 60 * np.sin(rows / 8)
generator = np.random.default_rng(0)
found = {}
for speed in (0, 1, 2, 4):
    clip = np.stack([np.roll(picture, speed * number, 1) for number in range(16)]).astype(np.uint8)
    noisy = np.clip(clip + generator.normal(0, 15, clip.shape), 0, 255).astype(np.uint8)
    frames = np.mean([structural_similarity(one, other) for one, other in zip(clip, noisy)])
    found[speed] = (structural_similarity(clip, noisy), frames, structural_similarity(clip, noisy, channel_axis=0))
    print(f"{speed} pixels a frame: clip {found[speed][0]:.3f}, mean of frames {frames:.3f}, channel_axis=0 {found[speed][2]:.3f}")
    colours = [np.stack([video] * 3, -1) for video in (clip, noisy)]
    assert abs(structural_similarity(*colours, channel_axis=-1) - found[speed][0]) < 1e-6
    assert abs(frames - found[speed][2]) < 1e-6
assert all(abs(frames - 0.725) < 0.01 for _, frames, _ in found.values())
assert found[0][0] < 0.73 and found[2][0] > 0.86 and found[4][0] > 0.92, "the windows do not reach over frames any more"
try:
    structural_similarity(clip[:6], noisy[:6])
except ValueError as error:
    print("six frames: ValueError:", str(error)[:34])
else:
    raise AssertionError("short clips are taken")
EOF
