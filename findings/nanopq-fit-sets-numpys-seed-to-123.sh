#!/usr/bin/env bash
# nanopq 0.2.2. PQ(M, Ks).fit(vectors) makes the codebooks of a product quantiser by k-means; its argument seed=123 is "the seed
# for random process", which should be that of the k-means alone, as random_state is in scikit-learn. It is a call of
# numpy.random.seed: each fit() sets NumPy's global generator back to the same place, with no warning. Whatever draws from it
# afterwards (augmentations, noise, the order of clips) draws the same numbers after every fit, whatever seed the program was
# given: with codebooks fitted anew in each epoch, every epoch has the same noise and order, and runs with other seeds are the
# same from there on. OPQ does so once for every iteration of its rotation.
# Do instead: draw from numpy.random.default_rng(seed), or put back the state: state = numpy.random.get_state(), set_state(state).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check nanopq==0.2.2 numpy==2.4.6 scipy==1.17.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, warnings

import nanopq
import numpy as np

print("nanopq", importlib.metadata.version("nanopq"))
latents = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
fitted = nanopq.PQ(M=2, Ks=8, verbose=False).fit(latents)
assert np.square(fitted.decode(fitted.encode(latents)) - latents).mean() < 0.7


def epochs(seed, fit):
    """The order of ten clips in three epochs."""
    np.random.seed(seed)
    orders = []
    for _ in range(3):
        if fit:
            nanopq.PQ(M=2, Ks=8, verbose=False).fit(latents)
        orders.append(np.random.permutation(10).tolist())
    return orders


for seed in (0, 1):
    print(f"seed {seed}, without fit:", epochs(seed, False))
    print(f"seed {seed}, with fit:   ", epochs(seed, True))
without, fits = [epochs(seed, False) for seed in (0, 1)], [epochs(seed, True) for seed in (0, 1)]
assert len({str(order) for run in without for order in run}) == 6, "orders without fit are alike"
assert len({str(order) for run in fits for order in run}) == 1, "fit leaves the global generator alone now"
np.random.seed(0)
state = np.random.get_state()
nanopq.PQ(M=2, Ks=8, verbose=False).fit(latents)
np.random.set_state(state)
assert np.random.permutation(10).tolist() == without[0][0]
EOF
