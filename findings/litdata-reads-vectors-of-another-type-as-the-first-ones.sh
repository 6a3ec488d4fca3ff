#!/usr/bin/env bash
# litdata 0.2.76. Samples whose vectors are of float32 in some and of float64 or integers in others, as when some come from a list,
# should be read as they were written, as arrays of two axes are.
# Arrays and tensors of one axis are stored without a header, and their type is that of the first sample of a worker; the bytes of
# others are taken for it. Two float64 ones are read as four float32 values, 0, 1.875, 0, 1.875: other numbers, and twice as many,
# which padding or pooling hides. Of int64 they are near 0. Where types have one width, as int32 beside float32, even the length is
# right. Nothing is raised, at writing or reading; a number that is whole in the first sample and not in another does raise.
# Times, box lists and pooled latents have one axis.
# Do instead: numpy.asarray(vector, numpy.float32) for each, or store them as (1, n).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check litdata==0.2.76 torch==2.14.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, os

import numpy as np
import torch
from litdata import StreamingDataset
from litdata.streaming import Cache

print("litdata", importlib.metadata.version("litdata"))


def read(name, vectors):
    """The vectors, written as samples one after the other, as they are read again."""
    os.makedirs(name)
    cache = Cache(name, chunk_size=100)
    for number, vector in enumerate(vectors):
        cache[number] = {"x": vector}
    cache.done()
    cache.merge()
    dataset = StreamingDataset(name)
    found = [dataset[number]["x"] for number in range(len(dataset))]
    print(f"{name}: written {[np.asarray(vector).tolist() for vector in vectors]}, read {[np.asarray(vector).tolist() for vector in found]}")
    return found


def same(written, found):
    return [np.array_equal(a, b) for a, b in zip(written, found)]


single = np.ones(2, np.float32)
for name, other in (("float64", np.ones(2)), ("int64", np.ones(2, np.int64)), ("int32", np.ones(2, np.int32)),
                    ("float16", np.ones(2, np.float16))):
    found = read(name, [single, other])
    assert same([single, other], found) == [True, False] and found[1].dtype == np.float32, "types of vectors are kept now"
    assert len(found[1]) == 2 * other.itemsize // 4
    rows = [single[None], other[None]]
    assert same(rows, read(name + "-two-axes", rows)) == [True, True]
found = read("tensors", [torch.ones(2), torch.ones(2, dtype=torch.float64)])
assert found[1].shape == (4,)
assert same([single] * 2, read("alike", [single] * 2)) == [True, True]
EOF
