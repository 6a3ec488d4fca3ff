#!/usr/bin/env bash
# torchmetrics 1.9.0. The universal image quality index lies between -1 and 1, and a frame compared with itself should have 1.
# Windows in which nothing varies are 0 / 0. torchmetrics adds a tiny constant below the line only, so that each of them
# counts as 0, but for rounding: black with itself has 0, a red disc on black 0.1 to 0.2, and noise 1. (sewar's uqi gives such windows 1.)
# So a perfect copy on plain ground scores far below a bad one on textured ground, and no warning says so.
# spectral_angle_mapper goes another way: it is NaN for the whole batch if a single pixel is black.
# Worlds with plain grounds, cartoons and screen recordings are mostly such windows. Do instead: use SSIM, whose constants
# stand above the line as well, or compare with the frame's value with itself.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check torchmetrics==1.9.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, math, warnings

import torch
from torchmetrics.functional.image import spectral_angle_mapper, structural_similarity_index_measure, universal_image_quality_index

print("torchmetrics", importlib.metadata.version("torchmetrics"))
warnings.simplefilter("error")
rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
disc = torch.zeros(1, 3, 64, 64)
disc[:, :, (rows - 32) ** 2 + (columns - 32) ** 2 < 144] = torch.tensor([0.86, 0.16, 0.16])[:, None]
frames = {"noise": torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), "black": torch.zeros(1, 3, 64, 64), "disc on black": disc}
for (name, frame), (least, most) in zip(frames.items(), ((0.99, 1.01), (0.0, 0.0), (0.0, 0.4))):
    uqi = float(universal_image_quality_index(frame, frame))
    ssim = float(structural_similarity_index_measure(frame, frame, data_range=1.0))
    print(f"{name} with itself: UQI {uqi:.3f}, SSIM {ssim:.3f}")
    assert least <= uqi <= most and abs(ssim - 1) < 1e-4
spotted = frames["noise"].clone()
spotted[0, :, 5, 5] = 0
print("spectral angle of noise with itself:", float(spectral_angle_mapper(frames["noise"], frames["noise"])))
print("with one black pixel:", float(spectral_angle_mapper(spotted, spotted)))
assert math.isnan(spectral_angle_mapper(spotted, spotted))
EOF
