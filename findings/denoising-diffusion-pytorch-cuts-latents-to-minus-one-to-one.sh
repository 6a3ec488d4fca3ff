#!/usr/bin/env bash
# denoising-diffusion-pytorch 2.3.4. auto_normalize=False turns off the "auto-normalization of data [0, 1] -> [-1, 1]", so that
# data of any range, such as latents of mean 0 and deviation 1, can be trained on and sampled. The loss takes them as they are.
# Sampling still cuts each prediction to -1 to 1, at every step of both samplers, and no argument of sample() turns it off. A
# third of the values of a normal distribution lie outside. Even the best possible model for such latents makes samples of
# deviation 0.7 that end sharply at -1 and 1 (divided by four first, they have 0.92 of it); decoded, they have too little
# contrast. The loss, which does not cut, looks perfect. GaussianDiffusion1D, for latents in a sequence, does the same, though its
# inner functions have an argument clip_denoised.
# Do instead: divide latents by four times their deviation before training, and multiply samples by it.
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
from denoising_diffusion_pytorch import GaussianDiffusion, GaussianDiffusion1D

print("denoising-diffusion-pytorch", importlib.metadata.version("denoising-diffusion-pytorch"))


class Best(torch.nn.Module):
    """The best prediction for latents of independent normal numbers of a given deviation."""

    channels = out_dim = 4
    self_condition = random_or_learned_sinusoidal_cond = False
    deviation = 1.0

    def forward(self, noisy, times, condition=None):
        kept = diffusion.alphas_cumprod[times].reshape(-1, *[1] * (noisy.ndim - 1))
        variance = self.deviation**2
        return kept.sqrt() * variance * noisy / (kept * variance + 1 - kept)


best = Best()
options = {"timesteps": 100, "objective": "pred_x0", "auto_normalize": False}
deviations = {}
for name, kind, shape in (
    ("GaussianDiffusion", GaussianDiffusion, {"image_size": 16}),
    ("the same in 25 steps", GaussianDiffusion, {"image_size": 16, "sampling_timesteps": 25}),
    ("GaussianDiffusion1D", GaussianDiffusion1D, {"seq_length": 256}),
):
    diffusion = kind(best, **shape, **options)
    torch.manual_seed(0)
    samples = diffusion.sample(16)
    deviations[name] = float(samples.std())
    print(f"{name}: deviation {deviations[name]:.2f}, from {float(samples.min()):.2f} to {float(samples.max()):.2f}")
    assert 0.6 < deviations[name] < 0.8 and float(samples.abs().max()) < 1.01, "samples are not cut now"
outside = float((torch.randn(16, 4, 16, 16).abs() > 1).float().mean())
print(f"values of the latents outside of -1 to 1: {outside:.0%}")
assert 0.3 < outside < 0.33
best.deviation = 0.25
diffusion = GaussianDiffusion(best, image_size=16, **options)
samples = 4 * diffusion.sample(16)
print(f"latents divided by four, and samples multiplied: deviation {float(samples.std()):.2f}")
assert 0.88 < float(samples.std()) < 1.02
EOF
