#!/usr/bin/env bash
# sewar 0.4.10. A frame compared with itself should have the best value of a similarity: 1 for vifp and scc.
# vifp of a frame of one colour with itself is NaN, with a RuntimeWarning about a division. One black frame of a fade, or a title on
# plain ground cut to its margin, and the mean over a video is NaN.
# scc of such a frame with itself is 0, the value of frames that have nothing in common; of a disc on plain ground it is 0.2, because
# every flat window counts as 0. So the value says how much of the picture is flat. uqi, ssim and msssim are 1 for all of them.
# In generated videos flat frames and plain grounds are common. Do instead: leave flat frames out of vifp, and scc out altogether.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check sewar==0.4.10 numpy==2.4.6 scipy==1.17.1 pillow==13.0.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata, math

import numpy as np
from sewar import full_ref

print("sewar", importlib.metadata.version("sewar"))
rows, columns = np.mgrid[:64, :64]
noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
grey, disc = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64, 3), np.uint8)
disc[(rows - 32) ** 2 + (columns - 32) ** 2 < 144] = (220, 40, 40)
found = {}
for name, frame in (("noise", noise), ("grey", grey), ("disc on black", disc)):
    found[name] = {score: float(np.real(getattr(full_ref, score)(frame, frame))) for score in ("vifp", "scc", "uqi", "msssim")}
    print(f"{name} with itself:", {score: round(value, 3) for score, value in found[name].items()})
    assert all(abs(found[name][score] - 1) < 1e-6 for score in ("uqi", "msssim"))
assert abs(found["noise"]["vifp"] - 1) < 1e-6 and abs(found["noise"]["scc"] - 1) < 1e-6
assert math.isnan(found["grey"]["vifp"]) and found["grey"]["scc"] == 0
assert abs(found["disc on black"]["scc"] - 0.202) < 0.005
EOF
