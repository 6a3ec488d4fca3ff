#!/usr/bin/env bash
# npy-append-array 0.9.19. append should put each block of latents below the last, as numpy.concatenate does, or refuse it.
# The axis that grows hangs on how the first block lies in memory. If it is a transposed array, or another in Fortran order, later blocks
# go to its right: two of 3 clips x 4 numbers make 3 clips of 8, not 6 of 4. Equal blocks do that in silence, as most are; one of fewer
# rows, such as the last of a set, raises ValueError.
# All blocks are also cast to the type of the first, where concatenate would choose one that holds both: after a block of uint8 frames,
# frames of 0 to 1 become 0, and after one of float16, large values become inf.
# Do instead: append(np.ascontiguousarray(block, dtype=np.float32)) for every block, and look at the shape at the end.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check npy-append-array==0.9.19 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import numpy as np
from npy_append_array import NpyAppendArray

print("npy-append-array", importlib.metadata.version("npy-append-array"))


def written(*blocks):
    with NpyAppendArray("latents.npy", delete_if_exists=True) as file:
        for block in blocks:
            file.append(block)
    return np.load("latents.npy")


rows = np.arange(12.0).reshape(3, 4)
columns = np.ascontiguousarray(rows.T).T
assert np.array_equal(rows, columns)
plain, turned, later = written(rows, rows + 100), written(columns, columns + 100), written(rows, columns + 100)
print("two blocks of (3, 4):", plain.shape, "- the same blocks, the first transposed in memory:", turned.shape)
assert plain.shape == later.shape == (6, 4) and np.array_equal(plain, later)
assert turned.shape == (3, 8) and turned[0].tolist() == [0, 1, 2, 3, 100, 101, 102, 103], "blocks go below each other now"
try:
    written(columns, columns[:2])
except ValueError as error:
    print("a last block of two rows: ValueError:", error)
else:
    raise AssertionError("a shorter block is taken")
frames = np.full((2, 4), 128, np.uint8)
mixed = written(frames, frames / 255)
print("frames of uint8, then of 0 to 1:", mixed[:, 0].tolist(), "- concatenate:", np.concatenate([frames, frames / 255])[:, 0].round(2).tolist())
assert mixed.dtype == np.uint8 and mixed[:, 0].tolist() == [128, 128, 0, 0], "types are not cast to the first any more"
halves = written(np.ones((1, 2), np.float16), np.full((1, 2), 70000.0))
print("float16, then 70000:", halves[:, 0].tolist())
assert halves[1, 0] == np.inf
EOF
