#!/usr/bin/env bash
# video-diffusion-pytorch 0.7.0. The README passes videos to the loss that are "normalized from -1 to +1", as most diffusion
# models want them, so the model should be trained on just these numbers. The loss takes 0 to 1 and makes -1 to 1 of it: videos of
# -1 to 1 become -3 to 1. Sampling cuts all predictions to -1 to 1, so that even a perfect model makes the whole darker half
# black, mid grey with it, and a light grey of 0.75 becomes 0.5; white alone stays. The loss falls as it should, and no check says
# a word. (The package's own Dataset gives 0 to 1, and is right.)
# Do instead: pass videos of 0 to 1.
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
from video_diffusion_pytorch import GaussianDiffusion

print("video-diffusion-pytorch", importlib.metadata.version("video-diffusion-pytorch"))


class Perfect(torch.nn.Module):
    """Knows the only video there is, and gives the noise in what it is shown."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, noisy, times, cond=None):
        kept = diffusion.sqrt_alphas_cumprod[times].reshape(-1, 1, 1, 1, 1)
        return (noisy - kept * known) / diffusion.sqrt_one_minus_alphas_cumprod[times].reshape(-1, 1, 1, 1, 1)

    def forward_with_cond_scale(self, noisy, times, cond=None, cond_scale=1.0):
        return self(noisy, times)


LEVELS = (
    (-1.0, "black of -1 to 1"),
    (0.0, "mid grey of -1 to 1"),
    (0.5, "light grey of -1 to 1"),
    (1.0, "white of -1 to 1"),
    (0.25, "dark grey of 0 to 1"),
)
diffusion = GaussianDiffusion(Perfect(), image_size=8, num_frames=2, timesteps=20)
come_out = {}
for trained_on, name in LEVELS:
    video = torch.full((1, 3, 2, 8, 8), trained_on)
    known = 2 * video - 1  # what the loss has to be told for a perfect model
    assert diffusion(video) < 1e-4, "the loss takes another range now"
    come_out[trained_on] = float(diffusion.sample(batch_size=1).mean())
    print(f"trained on {trained_on:5} ({name}): target {float(known.mean()):4}, samples have {come_out[trained_on]:.3f}")
for trained_on, level in ((-1.0, 0.0), (0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.25, 0.25)):
    assert abs(come_out[trained_on] - level) < 1e-3
EOF
