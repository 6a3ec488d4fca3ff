#!/usr/bin/env bash
# torchsde 0.2.6. sdeint takes and gives torch tensors, so that two runs after the same torch.manual_seed should give the same
# sample. They give two different ones. The Brownian motion has a seed of its own, which is drawn from NumPy's global generator:
# after numpy.random.seed the same sample comes again, whatever torch's seed is. Experiments with a seed are not repeated, and where
# each process of a parallel job sets the same NumPy seed, and another one for torch, all draw the same noise.
# Do instead: give sdeint bm=torchsde.BrownianInterval(..., entropy=seed, levy_area_approximation="space-time"), or set both seeds.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6 torchsde==0.2.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import numpy as np
import torch
import torchsde

print("torchsde", importlib.metadata.version("torchsde"))


class Noise:
    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return -y

    def g(self, t, y):
        return torch.ones_like(y)


times = torch.tensor([0.0, 1.0])


def sample(torch_seed, numpy_seed=None, **given):
    torch.manual_seed(torch_seed)
    if numpy_seed is not None:
        np.random.seed(numpy_seed)
    return torchsde.sdeint(Noise(), torch.zeros(3, 2), times, dt=0.1, **given)[-1]


def motion():
    return torchsde.BrownianInterval(t0=0.0, t1=1.0, size=(3, 2), entropy=0, levy_area_approximation="space-time")


print("first values, torch seed 0 twice:", *(f"{sample(0)[0, 0]:.4f}" for _ in range(2)))
print("torch seeds 0 and 1, NumPy seed 0:", *(f"{sample(seed, 0)[0, 0]:.4f}" for seed in (0, 1)))
assert not torch.equal(sample(0), sample(0)), "torch's seed repeats a sample now"
assert torch.equal(sample(0, 0), sample(1, 0)) and not torch.equal(sample(0, 0), sample(0, 1))
assert torch.equal(sample(0, bm=motion()), sample(1, bm=motion()))
EOF
