#!/usr/bin/env bash
# rotary-embedding-torch 0.9.1. rotate_queries_or_keys turns each token by an angle of its place, so that 1024 equal tokens become
# 1024 different ones, in bfloat16 as well, but for the rounding of the result, less than 0.01.
# The places themselves are counted in the type of the queries. bfloat16 has eight bits: from 256 on two tokens share a place, from
# 512 on four, and of 1024 only 513 are left. Results are off by more than 2, as though the token stood elsewhere; a video of 16
# frames with 16 x 16 tokens has 4096. What was computed is kept besides: the same object then does it to float32 as well.
# Do instead: rotate in float32 and convert the result, or fill the cache with one float32 call of the greatest length first.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6 rotary-embedding-torch==0.9.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import torch
from rotary_embedding_torch import RotaryEmbedding

print("rotary-embedding-torch", importlib.metadata.version("rotary-embedding-torch"))
tokens = torch.ones(1, 1, 1024, 32)  # batch, heads, tokens, channels
right = RotaryEmbedding(dim=32).rotate_queries_or_keys(tokens)[0, 0]
rotary = RotaryEmbedding(dim=32)
half = rotary.rotate_queries_or_keys(tokens.bfloat16())[0, 0].float()
after = rotary.rotate_queries_or_keys(tokens)[0, 0]
filled = RotaryEmbedding(dim=32)
filled.rotate_queries_or_keys(tokens)
told = filled.rotate_queries_or_keys(tokens.bfloat16())[0, 0].float()
seen = {}
for name, result in (("float32", right), ("bfloat16", half), ("float32, then", after), ("bfloat16 after float32", told)):
    seen[name] = len(torch.unique((result[:, None] == result[None]).all(-1).float().argmax(1)))
    print(f"{name}: {seen[name]} different places of 1024, largest error {(result - right).abs().max():.3f}")
# Independently: the rotation of bfloat16 tokens by angles in float32, and by places that went through bfloat16.
places = torch.arange(1024.0)
rounded = places.bfloat16().float().long()  # the last ones are 1024
print("places 256 to 260 in bfloat16:", rounded[256:261].tolist())
longer = RotaryEmbedding(dim=32).rotate_queries_or_keys(torch.ones(1, 1, 1025, 32))[0, 0]
assert (half - longer[rounded]).abs().max() < 0.02 < 2 < (half - right).abs().max(), "places are no longer rounded"
assert seen["float32"] == 1024 and seen["bfloat16"] == seen["float32, then"] == 513
assert (told - right).abs().max() < 0.02
EOF
