#!/usr/bin/env bash
# ema-pytorch 0.8.3 with vector-quantize-pytorch 1.32.0. The moving average of a model with a codebook should quantize about as
# the model does. EMA follows parameters and buffers of floating point only: those of other types, flags and counters, keep the
# value they had when it was made, even where it copies the model as it is. Of a VectorQuantize with kmeans_init=True the flag
# initted stays False, so the averaged model takes its codebook for new: the first batch that it sees, in eval mode too, becomes
# the codebook by k-means. A trained codebook is replaced by that of one batch, and all decoded videos with it. Here the error
# grows from 0.5 to 10. num_batches_tracked of BatchNorm, and masks of type bool that change in training, stay behind as well. Do
# instead: copy the other buffers from the model to ema.ema_model before evaluating and before saving.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 ema-pytorch==0.8.3 \
  vector-quantize-pytorch==1.32.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata

import torch
from ema_pytorch import EMA
from vector_quantize_pytorch import VectorQuantize

for name in ("ema-pytorch", "vector-quantize-pytorch", "torch"):
    print(name, importlib.metadata.version(name))
torch.manual_seed(0)
model = VectorQuantize(dim=4, codebook_size=8, kmeans_init=True)
average = EMA(model, beta=0.9, update_after_step=10, update_every=1)
for _ in range(200):
    model(torch.randn(1, 256, 4))
    average.update()
model.eval(), average.ema_model.eval()
latents, others = torch.randn(1, 256, 4), 3 + 0.01 * torch.randn(1, 64, 4)


@torch.no_grad()
def error(of):
    return float((of(latents)[0] - latents).square().mean())


trained = average.ema_model.codebook.clone()
apart = float((trained - model.codebook).abs().max())
flags = bool(model._codebook.initted), bool(average.ema_model._codebook.initted)
print(f"initialised: model {flags[0]}, average {flags[1]}; their codebooks differ by at most {apart:.2f}")
with torch.no_grad():
    average(others)
print(f"error after a batch of other latents: model {error(model):.2f}, average {error(average):.2f}")
assert flags == (True, False) and apart < 0.3, "the flag is copied now"
assert error(average) > 5 * error(model), "the averaged codebook is kept now"
average.ema_model._codebook.embed.data.copy_(trained[None])
assert abs(error(average) - error(model)) < 0.1
EOF
