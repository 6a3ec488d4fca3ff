#!/usr/bin/env bash
# piq 0.8.0. HaarPSI lies between 0 and 1, and a frame compared with itself should have 1, as it has for noise and for grey.
# For a black frame it is infinite: the mean is weighted by the frame's own wavelet coefficients, which are all 0, so that it is
# eps / eps = 1 exactly, of which the formula then takes the logit. With reduction="mean", the default, one such frame makes the
# value of the whole batch infinite; there is no warning.
# piq's other full-reference scores give black frames their best value.
# Fades, cuts to black and failed generations have black frames. Do instead: reduction="none", and leave out what is not finite.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check piq==0.8.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, math, warnings

import piq
import torch

print("piq", importlib.metadata.version("piq"), "torch", importlib.metadata.version("torch"))
warnings.simplefilter("error", RuntimeWarning)
noise, black = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 3, 64, 64)
grey = black + 0.5
for name, frames in (("noise", noise), ("grey", grey)):
    value = float(piq.haarpsi(frames, frames))
    print(f"{name} with itself: {value:.3f}")
    assert abs(value - 1) < 1e-3
for name, score in (("SSIM", piq.ssim), ("FSIM", piq.fsim), ("VIF", piq.vif_p)):
    assert abs(float(score(black, black)) - 1) < 1e-3, name
video = torch.cat([noise, black])
print("black with itself:", float(piq.haarpsi(black, black)), " three frames of noise and a black one:", float(piq.haarpsi(video, video)))
assert math.isinf(piq.haarpsi(black, black)) and math.isinf(piq.haarpsi(video, video)), "black frames are treated otherwise now"
assert torch.isfinite(piq.haarpsi(video, video, reduction="none")).sum() == 3
EOF
