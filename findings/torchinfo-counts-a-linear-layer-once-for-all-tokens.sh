#!/usr/bin/env bash
# torchinfo 1.8.0. "Total mult-adds" of a transformer should grow with its number of tokens, as that of convolutions does with their size.
# A linear layer counts its weights once for each item of a batch, however many tokens it is applied to: of (1, 128, 64) as of (1, 64).
# Attention, a function and not a layer, counts nothing. So a block of width 64 has 33,344 multiply-adds for 16 tokens and for 1024,
# where it needs 1 million and 185 million; a video transformer looks thousands of times cheaper than a convolutional network beside
# it, whose layers are counted at every place. The numbers stand in tables of papers as "MACs".
# Do instead: torch.utils.flop_counter in torch.nn.attention.sdpa_kernel(SDPBackend.MATH), halved, or a formula.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6 torchinfo==1.8.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import torch
from torch import nn
from torchinfo import summary

print("torchinfo", importlib.metadata.version("torchinfo"))


def counted(net, *shape):
    return summary(net, input_data=torch.zeros(shape), verbose=0, mode="train").total_mult_adds


linear = nn.Linear(64, 64, bias=False)
print("Linear(64, 64) of 1, 16 and 1024 tokens:", [counted(linear, 1, number, 64) for number in (1, 16, 1024)])
assert {counted(linear, 1, number, 64) for number in (1, 16, 1024)} == {64 * 64}, "tokens are counted now"
assert counted(linear, 16, 64) == 16 * 64 * 64
block = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
for tokens in (16, 128, 1024):
    needed = tokens * (4 * 64 * 64 + 2 * 64 * 256) + 2 * tokens * tokens * 64
    found = counted(block, 1, tokens, 64)
    print(f"a transformer block of {tokens} tokens: {found:,} multiply-adds; it needs {needed:,}")
    assert found == 33344 < needed / 20
places = [counted(nn.Conv3d(4, 4, 1, bias=False), 1, 4, 1, size, size) for size in (4, 32)]
print("a convolution at 16 and at 1024 places:", places)
assert places == [16 * 16, 1024 * 16]
EOF
