#!/usr/bin/env bash
# vector-quantize-pytorch 1.32.0. A quantizer should leave its own codes where they are, as nearest-neighbour
# VQ does: quantizing the output of FSQ once more should give the same indices.
# With levels [5, 5, 5] it does. With [8, 5, 5, 5], a usual choice, half of the codes move: every input
# goes through tanh first, which draws 1 in to 0.76, and so to an inner level where there are more
# than five; of an even number of levels the middle is shifted besides.
# Feeding codes back in (round-trip tests, editing tokens, distilling) changes them in silence.
# Do instead: keep the indices, and use indices_to_codes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 vector-quantize-pytorch==1.32.0 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata
import torch
from vector_quantize_pytorch import FSQ, VectorQuantize

print("vector-quantize-pytorch", importlib.metadata.version("vector-quantize-pytorch"), "torch", torch.__version__)
torch.manual_seed(0)
kept = {}
for levels in ([3, 3, 3], [5, 5, 5], [7, 7, 7], [4, 4, 4], [8, 5, 5, 5], [8, 6, 5]):
    fsq = FSQ(levels)
    every = torch.arange(fsq.codebook_size)
    codes = fsq.indices_to_codes(every[None])
    again = fsq(codes)[1][0]
    kept[str(levels)] = (again == every).float().mean().item()
    print(f"FSQ {levels}: {kept[str(levels)]:.0%} of its {len(every)} codes are quantized to themselves")
vq = VectorQuantize(dim=3, codebook_size=64).eval()
every = torch.arange(64)
print("VectorQuantize:", f"{(vq(vq.get_codes_from_indices(every[None]))[1][0] == every).float().mean().item():.0%}")
assert kept["[3, 3, 3]"] == kept["[5, 5, 5]"] == 1, "Levels of 3 and 5 no longer keep their codes."
assert max(kept["[7, 7, 7]"], kept["[8, 5, 5, 5]"], kept["[8, 6, 5]"]) < 0.6, "More levels now keep their codes."
EOF
