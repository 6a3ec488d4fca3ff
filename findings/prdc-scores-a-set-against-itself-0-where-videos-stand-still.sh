#!/usr/bin/env bash
# prdc 0.2: precision, recall, density and coverage of generated samples. A set compared with itself should have 1 in all four.
# A sample counts as covered if it lies closer to a real one than that one's k-th neighbour, and "closer" is strict.
# In sets with more than k copies of each sample every such distance is 0, nothing is closer than 0, and all four are 0.
# With k copies or fewer precision, recall and coverage are 1. There is no warning at either side of the step.
# Frames of videos that stand still, or that loop, are such copies: with 6 equal frames a video and the usual k = 5 the ground
# truth has precision 0 against itself, and a still model is far worse than its pictures are.
# Do instead: leave duplicates out, one frame a video or unique rows, before the four are computed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check prdc==0.2 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata
import numpy as np
from prdc import compute_prdc

print("prdc", importlib.metadata.version("prdc"))
videos = np.random.default_rng(0).integers(-9, 10, size=(20, 16)).astype(float)  # whole numbers: equal rows have distance 0 exactly
for copies, expected in ((1, 1.0), (5, 1.0), (6, 0.0), (16, 0.0)):
    frames = np.repeat(videos, copies, axis=0)
    found = {name: float(value) for name, value in compute_prdc(frames, frames, nearest_k=5).items()}
    print(f"{copies} equal frames a video, the set against itself: {found}")
    assert all(found[name] == expected for name in ("precision", "recall", "coverage")), found
EOF
