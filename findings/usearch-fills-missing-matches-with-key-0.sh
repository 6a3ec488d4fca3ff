#!/usr/bin/env bash
# usearch 2.26.6. search of one vector for its five nearest in an index of three gives three matches. search of a batch gives arrays
# of five columns, and the two that do not exist should be marked, as by -1. Their key is 0, which is the key of the first
# clip in most indexes, with a distance of NaN: keys[:, :5] looks up that clip for every query, and recall or
# votes over the neighbours count it. The number of real matches stands in .counts, which nobody asks for whose index is larger than k;
# an index of the clips of one shot, or one from which most clips were removed again, is not. The mean of the distances is NaN.
# Do instead: numpy.where(numpy.isnan(matches.distances), -1, matches.keys.astype(int)), or number the clips from 1.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check usearch==2.26.6 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata

import numpy as np
from usearch.index import Index

print("usearch", importlib.metadata.version("usearch"))
vectors = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
index = Index(ndim=16, metric="cos", dtype="f32")
index.add(np.array([0, 7, 8]), vectors)
one, batch = index.search(vectors[1], 5), index.search(vectors[1:], 5)
print("one query: keys", one.keys.tolist())
print("a batch: keys", batch.keys.tolist(), "distances", batch.distances.round(2).tolist(), "counts", batch.counts.tolist())
assert len(one) == 3 and sorted(one.keys.tolist()) == [0, 7, 8]
assert batch.keys.shape == (2, 5) and batch.counts.tolist() == [3, 3]
assert np.isnan(batch.distances[:, 3:]).all() and np.isfinite(batch.distances[:, :3]).all()
assert not batch.keys[:, 3:].any(), "missing matches have another key now"
votes = np.bincount(batch.keys.ravel().astype(int))
print("votes for clip 0:", votes[0], "- for clips 7 and 8:", votes[7:].tolist())
assert votes[0] == 6 and votes[7:].tolist() == [2, 2]
other = Index(ndim=16, metric="cos", dtype="f32")
other.add(np.array([7, 8]), vectors[1:])
found = other.search(vectors[1:], 3).keys.tolist()
print("an index without a clip 0:", found)
assert [row[2] for row in found] == [0, 0] and 0 not in other
marked = np.where(np.isnan(batch.distances), -1, batch.keys.astype(int))
assert marked[:, 3:].tolist() == [[-1, -1]] * 2
EOF
