#!/usr/bin/env bash
# flow_matching 1.0.10. MixtureDiscreteEulerSolver.sample solves, as its help says, in the interval [time_grid[0], time_grid[-1]].
# At time t of the path with exponent 2 a share of 1 - t ** 2 of the tokens is still masked: 75 % of them when stopped at 0.5.
# None is. The last step puts the model's guess of the finished sample in place of all tokens, whatever its time is, also of those
# set before. Stopped at 0.5 the sample is whole, after a model that was last asked before 0.5, and going on from 0.5 to 1 starts
# with no mask at all: it changes nothing but what the model doubts. Refining, inpainting and guidance in two parts, or a look at
# half the way, are of another process. Do instead: sample to 1 with return_intermediates=True, and take the time wanted from there.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6 torchdiffeq==0.2.5 flow_matching==1.0.10 tqdm==4.70.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import torch
from flow_matching.path import MixtureDiscreteProbPath
from flow_matching.path.scheduler import PolynomialConvexScheduler
from flow_matching.solver import MixtureDiscreteEulerSolver
from flow_matching.utils import ModelWrapper

print("flow_matching", importlib.metadata.version("flow_matching"))
MASK = 8
path = MixtureDiscreteProbPath(PolynomialConvexScheduler(n=2.0))
asked = []


class Model(ModelWrapper):
    """A perfect model of data in which every token is 0 or 1, as likely as not."""

    def forward(self, x, t, **extras):
        asked.append(round(t[0].item(), 3))
        chances = torch.zeros(*x.shape, 9)
        chances[..., :2] = 0.5
        return chances


torch.manual_seed(0)
masked = torch.full((2000, 1), MASK)
solver = MixtureDiscreteEulerSolver(Model(None), path, vocabulary_size=9)
shares = {}
for end in (0.5, 0.9, 1.0):
    asked.clear()
    got = solver.sample(masked, step_size=0.02, time_grid=torch.tensor([0.0, end]))
    right = path.sample(masked, torch.zeros_like(masked), torch.full((2000,), end)).x_t
    shares[end] = [(tokens == MASK).float().mean().item() for tokens in (right, got)]
    print(f"stopped at {end}: {shares[end][0]:.2f} masked on the path, {shares[end][1]:.2f} by sample, last asked at {asked[-1]}")
between = solver.sample(masked, step_size=0.02, time_grid=torch.tensor([0.0, 0.5, 1.0]), return_intermediates=True)[1]
halfway = (between == MASK).float().mean().item()
print(f"at 0.5 on the way to 1: {halfway:.2f} masked")
assert shares[0.5][0] > 0.7 and 0.15 < shares[0.9][0] < 0.25 and halfway > 0.7
assert shares[0.5][1] == shares[0.9][1] == 0, "masks are left where sampling is stopped"
EOF
