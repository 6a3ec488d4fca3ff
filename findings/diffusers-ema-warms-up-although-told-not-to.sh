#!/usr/bin/env bash
# diffusers 0.42.1. EMAModel(parameters, decay=0.9999, use_ema_warmup=False), which is the default, should average with 0.9999.
# It warms up all the same; the flag only chooses between two formulas. The decay is 0 at the first update, (1 + n) / (10 + n)
# after n, and comes to 0.999 after 8,990 updates and to 0.9999 after 89,990. Until then the number that was given plays no part: in
# a training of 5000 steps the averages with decays of 0.999 and 0.9999 are the same to the last bit, and 500 steps behind the
# weights, whichever was asked for. A comparison of decays in a short training compares nothing.
# Do instead: take decay for an upper limit, and set min_decay to the same number if it is to hold from the second update on.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata

import torch
from diffusers.training_utils import EMAModel

print("diffusers", importlib.metadata.version("diffusers"))


def average(steps, **how):
    """Returns the average of a weight that is 1, 2, 3, ... and the decay of its last update."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    model = EMAModel([weight], use_ema_warmup=False, **how)
    for _ in range(steps):
        weight.data += 1
        model.step([weight])
    return float(model.shadow_params[0]), model.cur_decay_value


for steps in (1, 2, 100, 5000):
    low, high, fixed = average(steps, decay=0.999), average(steps, decay=0.9999), average(steps, decay=0.9999, min_decay=0.9999)
    print(f"{steps} steps: decay 0.999 acts as {low[1]:.5f}, 0.9999 as {high[1]:.5f}, with min_decay {fixed[1]:.5f}; averages {low[0]:.1f}, {high[0]:.1f}, {fixed[0]:.1f}")
    assert low == high and high[1] < 0.9985, "decay acts from the start"
    assert fixed[1] == (0 if steps == 1 else 0.9999)
reached = {decay: next(step for step in range(2, 10**6) if EMAModel([], decay=decay).get_decay(step) == decay) for decay in (0.999, 0.9999)}
print("updates until the decay is reached:", reached)
assert reached[0.999] == 8991 and reached[0.9999] == 89991
EOF
