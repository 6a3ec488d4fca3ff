#!/usr/bin/env bash
# diffusers 0.42.1. FlowMatchEulerDiscreteScheduler with set_timesteps(n) should divide the way from noise to data into n steps:
# two steps go from sigma 1 to 0.5 to 0, and should be better than one.
# The sigmas run from 1 to 0.001 in n - 1 steps, and a last step of 0.001 is put behind them. So two steps cost two calls of the
# model and give the sample of one, four are as good as three, and curves of quality over few steps begin with a flat piece. With
# shift, as models of large pictures and videos use it, the smallest sigma is shifted twice: 0.009 instead of 0.003 for shift=3.
# Some pipelines pass sigmas of their own; code that calls the scheduler itself gets these.
# Do instead: set_timesteps(sigmas=numpy.linspace(1, 1 / n, n)), which gives n equal steps.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

print("diffusers", importlib.metadata.version("diffusers"))


def sigmas(steps, shift=1.0, even=False):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(**({"sigmas": np.linspace(1, 1 / steps, steps)} if even else {"num_inference_steps": steps}))
    return scheduler, [round(float(sigma), 4) for sigma in scheduler.sigmas]


def sample(steps, even=False):
    """Follows the exact flow from a noise of 1 to data of mean 2 and deviation 0.5, where it should come to 2.5."""
    scheduler, levels = sigmas(steps, even=even)
    value = torch.tensor([1.0], dtype=torch.float64)
    for time, sigma in zip(scheduler.timesteps, levels):
        share = (1 - sigma) * 0.25 / ((1 - sigma) ** 2 * 0.25 + sigma**2)
        data = 2 + share * (value - (1 - sigma) * 2)
        value = scheduler.step((value - data) / sigma, time, value, return_dict=False)[0].double()
    return round(float(value[0]), 3)


for steps in (1, 2, 3, 4):
    print(f"{steps} steps: sigmas {sigmas(steps)[1]}")
assert sigmas(2)[1] == [1, 0.001, 0] and sigmas(3)[1] == [1, 0.5005, 0.001, 0], "the last step is as long as the others now"
assert sigmas(2, even=True)[1] == [1, 0.5, 0]
last = sigmas(4, shift=3.0)[1][-2]
print("smallest sigma with shift=3:", last, "- 0.001 shifted once:", round(3 * 0.001 / (1 + 2 * 0.001), 4))
assert last == 0.0089
found = {steps: (sample(steps), sample(steps, even=True)) for steps in (1, 2, 4, 64)}
for steps, (plain, own) in found.items():
    print(f"{steps} steps: {plain}, with even sigmas {own}; true is 2.5")
assert abs(found[2][0] - found[1][0]) < 0.005 and found[1] == (2, 2), "two steps differ from one"
assert found[2][1] > 2.15 and found[4][1] > found[4][0] and all(abs(value - 2.5) < 0.05 for value in found[64])
EOF
