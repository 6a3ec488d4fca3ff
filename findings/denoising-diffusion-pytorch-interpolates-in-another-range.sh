#!/usr/bin/env bash
# denoising-diffusion-pytorch 2.3.4. GaussianDiffusion takes pictures of 0 to 1 for its loss and gives samples of 0 to 1
# (auto_normalize). interpolate(a, b, lam=0.5) makes a picture between two: it should take and give 0 to 1 as well, and lam=0
# should be near a. It does neither: pictures are noised as they are, as if they were of -1 to 1, and the result is of -1 to 1. A
# perfect model of a light grey of 0.75 samples 0.75 and interpolates 0.5; one of a dark grey of 0.25 gives -0.5, which is saved
# as black or wraps around in uint8. And t is the last step by default, at which next to nothing of a and b is left: with lam=0,
# pictures of black and of white give the same result from the same seed, to five decimals. The noise of both is added up too, so
# that at lam=0.5 it has 0.71 of its strength.
# Do instead: pass 2 * a - 1 and 2 * b - 1 and a t of about half the steps, and take (result + 1) / 2.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 \
    numpy==2.4.6 scipy==1.17.1 denoising-diffusion-pytorch==2.3.4
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - 2>warnings.txt <<'EOF' || { cat warnings.txt >&2; exit 1; }
import importlib.metadata

import torch
from denoising_diffusion_pytorch import GaussianDiffusion

print("denoising-diffusion-pytorch", importlib.metadata.version("denoising-diffusion-pytorch"))


class Perfect(torch.nn.Module):
    """The best prediction for data of one grey, or of independent pixels of a normal distribution."""

    channels = out_dim = 1
    self_condition = random_or_learned_sinusoidal_cond = False

    def __init__(self, level=None):
        super().__init__()
        self.level = level

    def forward(self, noisy, times, condition=None):
        if self.level is not None:
            return torch.full_like(noisy, self.level)
        kept = diffusion.alphas_cumprod[times].reshape(-1, 1, 1, 1)
        return kept.sqrt() * 0.09 * noisy / (kept * 0.09 + 1 - kept)  # of a deviation of 0.3 around 0


for grey in (0.75, 0.25):
    diffusion = GaussianDiffusion(Perfect(2 * grey - 1), image_size=8, timesteps=50, objective="pred_x0")
    picture = torch.full((1, 1, 8, 8), grey)
    sample, between = (float(result.mean()) for result in (diffusion.sample(1), diffusion.interpolate(picture, picture)))
    print(f"a picture of {grey}: sample {sample:.3f}, interpolation with itself {between:.3f}")
    assert diffusion(picture) < 1e-6 and abs(sample - grey) < 1e-3
    assert abs(between - (2 * grey - 1)) < 1e-3, "interpolate gives another range now"
diffusion = GaussianDiffusion(Perfect(), image_size=8, timesteps=1000, objective="pred_x0")
noised, q_sample = [], diffusion.q_sample
diffusion.q_sample = lambda start, t, noise=None: noised.append((start, t)) or q_sample(start, t, noise)
results = []
for picture in (torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)):
    torch.manual_seed(0)
    results.append(diffusion.interpolate(picture, picture, lam=0.0))
difference = float((results[0] - results[1]).abs().max())
print(f"noised as they are: {noised[2][0].unique().tolist()}, at step {int(noised[2][1])} of 1000")
print(f"results of black and of white, by the same seed, differ by {difference:.5f} at most")
assert noised[2][0].unique().tolist() == [1.0] and int(noised[2][1]) == 999
assert difference < 0.005
EOF
