#!/usr/bin/env bash
# pose-format 0.15.0. Frame n of a pose at 12.5 frames a second is shown at n / 12.5 s, so that body.interpolate(12.5) of a pose at 25
# should have frames 0, 2, 4 and so on, as body.slice_step(2) has. The two differ, though both say 12.5 fps and have equally many frames.
# interpolate spreads the new frames evenly from the first old frame to the last, as if a clip of ten frames lasted nine intervals
# at the old rate and four at the new one, where the five new frames are 80 ms apart: of a hand that moves by 10 pixels a frame,
# 20 in 80 ms, it has 0, 22.5, 45. The speed is wrong by (10 - 1) * 12.5 / 25 / (5 - 1), 12.5 % here; at twice the rate everything
# is 5 % too slow. For a clip of 100 frames it is 1 % or less, so that short clips, as for training, move faster or slower than
# long ones, and poses drift against their video and its sound by up to a frame.
# Do instead: slice_step for whole factors, or numpy.interp at the times n / fps.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pose-format==0.15.0 scipy==1.17.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import numpy as np
from pose_format.numpy import NumPyPoseBody

print("pose-format", importlib.metadata.version("pose-format"))


def moving(frames):
    """A body of one point at 25 frames a second that moves right by 10 pixels a frame."""
    data = np.zeros((frames, 1, 1, 2), np.float32)
    data[:, 0, 0, 0] = 10 * np.arange(frames)
    return NumPyPoseBody(25, data, np.ones((frames, 1, 1), np.float32))


def speed(body):
    """Pixels a second, which are the same in all frames."""
    steps = np.diff(np.asarray(body.data[:, 0, 0, 0], float))
    assert np.ptp(steps) < 1e-3
    return round(float(steps.mean() * body.fps), 1)


def places(body):
    return np.asarray(body.data[:, 0, 0, 0], float).round(2).tolist()


half, sliced = moving(10).interpolate(12.5, kind="linear"), moving(10).slice_step(2)
print("ten frames at half the rate, interpolate:", places(half), "slice_step:", places(sliced), "rates:", half.fps, sliced.fps)
assert half.fps == sliced.fps == 12.5
assert places(sliced) == [0, 20, 40, 60, 80]
assert places(half) == [0, 22.5, 45, 67.5, 90], "new frames lie at their times now"
speeds = {(frames, rate): speed(moving(frames).interpolate(rate, kind="linear")) for frames in (10, 100) for rate in (12.5, 25, 50)}
for (frames, rate), found in speeds.items():
    print(f"{frames} frames interpolated to {rate} fps: {found} pixels a second, before 250")
assert [speeds[10, rate] for rate in (12.5, 25, 50)] == [281.2, 250, 236.8]
assert [speeds[100, rate] for rate in (12.5, 25, 50)] == [252.6, 250, 248.7]
assert speed(sliced) == 250
EOF
