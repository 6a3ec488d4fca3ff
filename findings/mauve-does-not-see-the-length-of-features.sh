#!/usr/bin/env bash
# mauve-text 0.4.0. compute_mauve of two sets of features is 1 for equal distributions and near 0 for ones that share little, as for
# two normal ones a deviation apart. A set drawn together to a hundredth of its size should be near 0 too.
# It has 1, exactly as the set itself, and so has one of double size: each feature is divided by its length first (cluster_feats has
# norm="l2", which compute_mauve does not let one change). Whatever a network puts into lengths, such as contrast, noise or
# certainty, does not count, and latents of a model with far too little spread pass for perfect. FID of the same sets sees it.
# Do instead: append a column of ones, of about the usual length of a feature, and so keep the length apart; or use another
# distance.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 mauve-text==0.4.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import numpy as np
from mauve import compute_mauve

print("mauve-text", importlib.metadata.version("mauve-text"))
features, others = np.random.default_rng(0).normal(size=(2, 300, 16))


def score(p, q):
    return float(compute_mauve(p_features=p, q_features=q, verbose=False).mauve)


def with_length(rows):
    return np.hstack([rows, np.full((len(rows), 1), 4.0)])


moved = score(features, others + 1)
scores = {scale: score(features, features * scale) for scale in (1, 0.01, 2)}
told = score(with_length(features), with_length(features * 0.01))
print(f"moved by a deviation: {moved:.3f}")
for scale, value in scores.items():
    print(f"times {scale}: {value:.3f}, mean squared length {16 * scale**2 * features.var():.4g}")
print(f"times 0.01, with a column of 4: {told:.3f}")
assert moved < 0.3 and min(scores.values()) > 0.999, "lengths of features count now"
assert told < 0.3
EOF
