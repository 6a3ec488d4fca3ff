#!/usr/bin/env bash
# ml_dtypes 0.6.0 with NumPy 2.4.6. The mean of 1000 ones is 1 in float16, as NumPy adds float16 up in float32, and in torch's
# bfloat16. Arrays of ml_dtypes' bfloat16, which is what safetensors 0.8.0 loads into NumPy, are added up in bfloat16: as soon
# as the sum is 256 times a summand it stays where it is. The mean of 1000 ones is 0.256, of 4000 ones 0.064, and latents of 5000
# frames around 3 have the mean 0.41. std, var, sum and average go the same way, and float8 stops at 16 ones. Nothing
# warns, the numbers look likely, and they are worse the more data there are. A product with @ is right.
# Who computes the mean and deviation of latents for scaling them, or averages embeddings or checkpoints, gets wrong numbers.
# Do instead: array.mean(dtype=numpy.float32), or array.astype(numpy.float32) right after loading.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check ml_dtypes==0.6.0 safetensors==0.8.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W error - <<'EOF'
import importlib.metadata

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

print(*(f"{name} {importlib.metadata.version(name)}" for name in ("ml_dtypes", "safetensors", "numpy")))
values = np.random.default_rng(0).normal(3, 1, (5000, 4)).astype(ml_dtypes.bfloat16)
save_file({"ones": np.ones(1000, ml_dtypes.bfloat16), "latents": values}, "latents.safetensors")
loaded = load_file("latents.safetensors")
ones, latents = loaded["ones"], loaded["latents"]
assert ones.dtype == latents.dtype == ml_dtypes.bfloat16
found = float(ones.mean()), float(ones.sum())
print(f"1000 ones in bfloat16: mean {found[0]:.3f}, sum {found[1]:.0f}, in float16: mean {ones.astype(np.float16).mean()}")
assert ones.astype(np.float16).mean() == 1 and float(ones.mean(dtype=np.float32)) == 1 and float(ones @ ones) == 1000
assert found == (0.255859375, 256), "sums of bfloat16 are made in a wider type now"
mean, std = latents.mean(0).astype(float), latents.std(0).astype(float)
wide = latents.astype(np.float32)
print("latents of 5000 frames, mean:", mean.round(2).tolist(), "- in float32:", wide.mean(0).round(2).tolist())
print("deviation:", std.round(2).tolist(), "- in float32:", wide.std(0).round(2).tolist())
assert mean.max() < 0.5 and abs(wide.mean(0) - 3).max() < 0.1 and abs(latents.mean(0, dtype=np.float32) - wide.mean(0)).max() < 1e-3
assert std.min() > 1.2 and abs(wide.std(0) - 1).max() < 0.1
eights = float(np.ones(1000, ml_dtypes.float8_e4m3fn).sum())
print("sum of 1000 ones in float8_e4m3fn:", eights)
assert eights == 16
EOF
