#!/usr/bin/env bash
# blosc2 4.14.1. Arithmetic of NDArray is that of NumPy by name and by sign, and so -7 % 3 should be 2, as in NumPy and Python.
# It is -1, the remainder of C, for whole numbers and floats, while -7 // 3 is -3, rounded down as in NumPy: the two no longer
# make the number up again, (a // 3) * 3 + a % 3 is -10. Nothing is raised, and positive numbers agree.
# Negative numbers go through % where something wraps around: frames of a loop moved back, differences of hues and of angles,
# rolled positions. The difference of two hues on their circle, (a - b + 90) % 180 - 90, is then off by a whole turn, and twelve
# degrees across red count as 168.
# Do instead: ((a % n) + n) % n, or take the remainder of the NumPy array, a[:] % n.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check blosc2==4.14.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata

import blosc2
import numpy as np

print("blosc2", importlib.metadata.version("blosc2"))
for kind in (np.int64, np.int32, np.int16, np.float64, np.float32):
    values = np.array([-7, -3, -1, 0, 7], kind)
    stored = blosc2.asarray(values)
    rest, floor = (stored % 3)[:], (stored // 3)[:]
    print(f"{values.dtype}: blosc2 % {rest.tolist()} // {floor.tolist()}; NumPy % {(values % 3).tolist()}"
          f" // {(values // 3).tolist()}")
    assert np.array_equal(floor, values // 3)
    assert np.array_equal(rest, np.fmod(values, 3)) and rest[0] == -1, "the remainder is that of NumPy now"
    assert floor[0] * 3 + rest[0] == -10
    assert np.array_equal((((stored % 3) + 3) % 3)[:], values % 3), "the way out does not work"
hues = np.array([175.0, 5.0, 90.0]), np.array([7.0, 173.0, 80.0])  # of 180, as OpenCV has them
plain = (hues[0] - hues[1] + 90) % 180 - 90
first, second = (blosc2.asarray(hue) for hue in hues)
stored = ((first - second + 90) % 180 - 90)[:]
print(f"differences of the hues {hues[0].tolist()} and {hues[1].tolist()}: blosc2 {stored.tolist()}, NumPy {plain.tolist()}")
assert plain.tolist() == [-12, 12, 10] and stored.tolist() == [-12, -168, 10]
PY
