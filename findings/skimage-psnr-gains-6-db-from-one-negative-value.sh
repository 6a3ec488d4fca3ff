#!/usr/bin/env bash
# scikit-image 0.26.0. peak_signal_noise_ratio of float pictures in 0..1 should hardly change if one value
# of the reference falls to -1e-9, as interpolation and colour conversion leave them.
# It grows by 6.02 dB: with any negative value the data range is taken for 2 (from -1 to 1), though
# structural_similarity refuses floats without a data_range. Only the first picture is looked at,
# so exchanging the two changes the score, and int16 arrays of 0..255 score 42 dB more (range 65535).
# Do instead: always pass data_range, and clip decoder output before scoring.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check scikit-image==0.26.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import numpy as np, skimage
from skimage.metrics import peak_signal_noise_ratio as psnr

print("scikit-image", skimage.__version__)
rng = np.random.default_rng(0)
true = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
test = np.clip(true + rng.integers(-20, 21, true.shape), 0, 255).astype(np.uint8)
a, b = true / 255, test / 255
negative = a.copy()
negative[0, 0, 0] = -1e-9
scores = {
    "floats": psnr(a, b),
    "floats, one value set to 0": psnr(np.maximum(negative, 0), b),
    "floats, one value set to -1e-9": psnr(negative, b),
    "the same two exchanged": psnr(b, negative),
    "the same, data_range=1": psnr(negative, b, data_range=1),
    "uint8": psnr(true, test),
    "int16": psnr(true.astype(np.int16), test.astype(np.int16)),
}
for name, score in scores.items():
    print(f"{name}: {score:.2f} dB")
gain = scores["floats, one value set to -1e-9"] - scores["floats, one value set to 0"]
assert abs(gain - 6.02) < 0.01, f"The negative value adds {gain:.2f} dB."
assert abs(scores["the same two exchanged"] - scores["the same, data_range=1"]) < 1e-9, "The second picture matters, too."
assert scores["int16"] - scores["uint8"] > 42, "int16 is scored as uint8."
EOF
