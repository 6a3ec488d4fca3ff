#!/usr/bin/env bash
# image-similarity-measures 0.3.6. psnr and ssim of uint8 frames should be those of 8 bits.
# The range of values is 4095 by default, that of 12-bit satellite pictures, whatever the type of the array: a noisy frame of 19.1
# dB and SSIM 0.49 has 43.2 dB and 0.95, nearly lossless, and rmse is a sixteenth. The command line passes no other range.
# Two more of its scores are wrong for frames as they are read: psnr of a square grey frame with itself is 32 dB and not
# infinite, as (height, width, 1) less (height, width) compares all rows with all columns; and sam of a uint8 frame with itself
# is 90 degrees, that of nothing in common, as the squares wrap around at 256.
# Do instead: max_p=255 in psnr, ssim and rmse, grey frames as (height, width, 1), and floats for sam.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check scikit-image==0.26.0 phasepack==1.5 opencv-python-headless==5.0.0.93 numpy==2.4.6
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps image-similarity-measures==0.3.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import numpy as np
from image_similarity_measures import quality_metrics
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

print("image-similarity-measures", importlib.metadata.version("image-similarity-measures"))
rows, columns = np.mgrid[:64, :64]
waves = [128 + 100 * np.sin(columns / 5), 128 + 100 * np.sin(rows / 7), 128 + 100 * np.sin((rows + columns) / 9)]
frame = np.stack(waves, 2).round().astype(np.uint8)
noisy = np.clip(frame + np.random.default_rng(0).normal(0, 30, frame.shape), 0, 255).astype(np.uint8)
true = (peak_signal_noise_ratio(frame, noisy), structural_similarity(frame, noisy, channel_axis=2))
plain = (quality_metrics.psnr(frame, noisy), quality_metrics.ssim(frame, noisy))
told = (quality_metrics.psnr(frame, noisy, max_p=255), quality_metrics.ssim(frame, noisy, max_p=255))
for name, (psnr, ssim) in (("scikit-image", true), ("by default", plain), ("with max_p=255", told)):
    print(f"{name}: PSNR {psnr:.2f} dB, SSIM {ssim:.3f}")
assert abs(plain[0] - true[0] - 20 * np.log10(4095 / 255)) < 0.01 and plain[1] > 0.9 > 0.6 > true[1], "the default range is another"
assert np.allclose(told, true, atol=0.01)
grey = frame[..., 0]
itself = [float(quality_metrics.psnr(one, one)) for one in (grey, grey[..., None])]
print("PSNR of a grey frame with itself, as (64, 64) and (64, 64, 1):", [round(value, 1) for value in itself])
assert itself[0] < 40 and itself[1] == np.inf
angles = [float(quality_metrics.sam(one, one)) for one in (frame, frame.astype(np.float64))]
print("spectral angle of a frame with itself, as uint8 and float64:", [round(value, 3) for value in angles])
assert angles[0] > 80 and angles[1] < 0.01
EOF
