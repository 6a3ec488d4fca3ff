#!/usr/bin/env bash
# awkward 2.14.0, arrays of rows that differ in number, such as the boxes and points of frames. points + [dx, dy] should add dx to
# every x and dy to every y, as in NumPy; and boxes * [width, height, width, height] should make pixels of parts.
# An array made from lists has axes of variable length, and for these values are matched from the left, as documented: of two
# points the first gets dx on both of its numbers and the second dy, four boxes are scaled box by box, and a single point becomes
# two. Other numbers of rows raise an error, so that a script which has been tried on three points is wrong in silence on two.
# Do instead: ak.to_regular(array, axis=-1) once after loading, after which the last axis matches as in NumPy; or field by field.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check awkward==2.14.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata

import awkward
import numpy as np

print("awkward", importlib.metadata.version("awkward"))
step = np.array([10, 100])
for count in (1, 2, 3):
    rows = [[number, number] for number in range(count)]
    true = (np.array(rows) + step).tolist()
    try:
        found = (awkward.Array(rows) + step).tolist()
    except ValueError as error:
        found = type(error).__name__
    regular = (awkward.to_regular(awkward.Array(rows), axis=-1) + step).tolist()
    print(f"{count} points, moved by {step.tolist()}: awkward {found}, NumPy {true}, regular {regular}")
    assert regular == true
    known = {1: [[10, 10], [100, 100]], 2: [[10, 10], [101, 101]], 3: "ValueError"}
    assert found == known[count], "points are moved otherwise now"
parts = [[0.25, 0.25, 0.5, 0.5]] * 4
scale = np.array([64, 48, 64, 48])
found = (awkward.Array(parts) * scale).tolist()
print("four boxes of", parts[0], "at 64 x 48:", found, "- NumPy", (np.array(parts) * scale).tolist()[0])
assert found[0] == [16, 16, 32, 32] and found[1] == [12, 12, 24, 24]
assert (awkward.to_regular(awkward.Array(parts), axis=-1) * scale).tolist() == [[16, 12, 32, 24]] * 4
PY
