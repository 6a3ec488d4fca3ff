#!/usr/bin/env bash
# xarray 2026.9.0. Two clips of 48 frames at 24 a second, one with times arange(48) / 24 and one with linspace(0, 47 / 24, 48) or
# arange(48) * (1 / 24), have the same times. Their difference should have 48 frames, or be refused.
# Arithmetic keeps the coordinates that both have, compared to the last bit: the difference has 33 frames, and nothing says so. An
# error is then a mean over 33 frames, and those where the model is worst may be among the missing. Where the second clip starts a
# millisecond later none are left, the mean is NaN and the sum of errors 0. It is documented (arithmetic_join is "inner"), but not
# warned of, as it is by concat.
# Do instead: xarray.set_options(arithmetic_join="exact") at the start, which raises; or whole numbers of frames as coordinates,
# and times beside them.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check xarray==2026.9.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata, warnings

import numpy as np
import xarray

print("xarray", importlib.metadata.version("xarray"))
frames = 48


def clip(times, error):
    """A clip with one value in each frame, which is error from frame 24 on."""
    return xarray.DataArray(np.where(np.arange(frames) < 24, 0.0, error), dims="time", coords={"time": times})


warnings.simplefilter("error")
true = clip(np.arange(frames) / 24, 0.0)
for name, times in (("linspace", np.linspace(0, 47 / 24, frames)), ("times 1 / 24", np.arange(frames) * (1 / 24))):
    assert np.abs(times - true.time.values).max() < 1e-15
    made = clip(times, 1.0)
    difference = made - true
    error = float(np.abs(difference).mean())
    print(f"{name}: {difference.sizes['time']} frames in the difference, mean error {error:.4f}; by place 48, and"
          f" {float(np.abs(made.values - true.values).mean()):.4f}")
    assert difference.sizes["time"] == 33, "times are joined otherwise now"
    assert abs(error - 0.5) > 0.01
later = clip(true.time.values + 0.001, 1.0) - true
print("a millisecond later:", later.sizes["time"], "frames, sum", float(later.sum()))
assert later.sizes["time"] == 0 and float(later.sum()) == 0
with xarray.set_options(arithmetic_join="exact"):
    try:
        made - true
    except ValueError as error:
        print("exact:", type(error).__name__)
    else:
        raise SystemExit("arithmetic_join='exact' raises nothing")
PY
