#!/usr/bin/env bash
# video-diffusion-pytorch 0.7.0. The README trains on captions with loss = diffusion(videos, cond=text) and samples with
# diffusion.sample(cond=text, cond_scale=2): classifier-free guidance, away from what the model makes without a caption. For that
# some captions have to be dropped in training, so the call for the loss should do so. It drops none: null_cond_prob of the
# network is 0 unless it is passed to the loss. The embedding that stands for "no caption" stays at the random numbers it began
# with, and its gradient is 0. With cond_scale=2 each step goes away from what the model makes of that random caption, which it
# has never seen: guidance in a direction of no meaning, with no warning.
# Do instead: diffusion(videos, cond=text, null_cond_prob=0.1) in training; with a model trained without it, sample with
# cond_scale=1.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 \
    numpy==2.4.6 pillow==13.0.0 einops==0.8.2 einops-exts==0.0.4 rotary-embedding-torch==0.9.1 tqdm==4.70.1
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check --no-deps video-diffusion-pytorch==0.7.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import torch
from video_diffusion_pytorch import GaussianDiffusion, Unet3D

print("video-diffusion-pytorch", importlib.metadata.version("video-diffusion-pytorch"))
torch.manual_seed(0)
network = Unet3D(dim=8, cond_dim=4, dim_mults=(1,), attn_heads=1, attn_dim_head=8)
diffusion = GaussianDiffusion(network, image_size=8, num_frames=2, timesteps=10)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
videos, captions = torch.rand(8, 3, 2, 8, 8), torch.randn(8, 4)
before = {name: weights.detach().clone() for name, weights in network.named_parameters()}


def train(**options):
    """A few steps; the names of the weights that have never moved."""
    for _ in range(5):
        optimizer.zero_grad()
        diffusion(videos, cond=captions, **options).backward()
        optimizer.step()
    return [name for name, weights in network.named_parameters() if torch.equal(weights, before[name])]


still = train()
print("weights that do not move in training:", still)
print("gradient of null_cond_emb:", network.null_cond_emb.grad.tolist())
assert "null_cond_emb" in still and not network.null_cond_emb.grad.any()
times = torch.full((8,), 5)
with torch.no_grad():
    plain = network.forward_with_cond_scale(videos, times, cond=captions, cond_scale=1)
    guided = network.forward_with_cond_scale(videos, times, cond=captions, cond_scale=2)
    random_caption = network(videos, times, cond=before["null_cond_emb"].expand(8, -1))
print(f"cond_scale=2 moves the output by {(guided - plain).abs().mean():.4f} on average")
assert torch.allclose(guided, 2 * plain - random_caption, atol=1e-5), "guidance is something else now"
still = train(null_cond_prob=0.5)
print("with null_cond_prob=0.5:", still)
assert "null_cond_emb" not in still
EOF
