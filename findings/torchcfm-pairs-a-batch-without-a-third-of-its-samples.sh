#!/usr/bin/env bash
# torchcfm 1.0.7. ExactOptimalTransportConditionalFlowMatcher pairs a batch of noise with a batch of data by optimal transport. Of two
# batches of one size that is a permutation: each sample once, in another order, as in scipy's linear_sum_assignment.
# The plan is such a permutation, but pairs are drawn from it with replacement. Of 256 samples about 162 are in the batch, some six
# times, and 37 % are not, as after a bootstrap: an epoch shows a third of the videos not at all, and gradients are noisier.
# They are drawn by NumPy's generator, so that torch.manual_seed alone does not repeat a run; the times do follow it.
# Do instead: OTPlanSampler("exact").sample_plan(x0, x1, replace=False) before a plain ConditionalFlowMatcher, and seed NumPy too.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6 pot==0.9.7.post1
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check --no-deps torchcfm==1.0.7
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata
import importlib.util
import sys
import types

import numpy as np
import torch

# The package's own __init__ imports networks that need more packages; the pairing needs none of them.
package = types.ModuleType("torchcfm")
package.__path__ = list(importlib.util.find_spec("torchcfm").submodule_search_locations)
sys.modules["torchcfm"] = package
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher
from torchcfm.optimal_transport import OTPlanSampler

print("torchcfm", importlib.metadata.version("torchcfm"))
noise, data = torch.randn(2, 256, 8, generator=torch.Generator().manual_seed(0))


def counts(rows):
    return torch.unique(rows, dim=0, return_counts=True)[1]


def paired(seed):
    """The data of a batch: at time t, x is (1 - t) noise + t data, and the velocity is data - noise."""
    torch.manual_seed(seed)
    times, x, velocity = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0).sample_location_and_conditional_flow(noise, data)
    return times, (x + (1 - times[:, None]) * velocity).mul(1e4).round()


np.random.seed(0)
(times, first), (times_again, again) = paired(0), paired(0)
print(f"a batch of 256: {len(counts(first))} samples, one of them {int(counts(first).max())} times")
assert 130 < len(counts(first)) < 195, "each sample is in its batch now"
print("again after torch.manual_seed(0): times", torch.equal(times, times_again), "- pairs", torch.equal(first, again))
assert torch.equal(times, times_again) and not torch.equal(first, again), "pairs follow torch's seed now"
plan = OTPlanSampler("exact").get_map(noise, data)
assert ((plan > 0).sum(0) == 1).all() and ((plan > 0).sum(1) == 1).all()
told = OTPlanSampler("exact").sample_plan(noise, data, replace=False)[1]
print("with replace=False:", len(counts(told)))
assert len(counts(told)) == 256
EOF
