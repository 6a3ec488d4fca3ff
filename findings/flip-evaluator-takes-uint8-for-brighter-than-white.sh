#!/usr/bin/env bash
# flip-evaluator 1.7, NVIDIA's implementation of the image difference FLIP. It takes paths, or arrays in [0, 1]. A uint8 array, as
# every decoder gives, should raise an error or be divided by 255, as the same call does with a file of 8 bits. It is taken for
# the numbers it holds, and clipped: 0 is black, and all from 1 to 255 is white. Two grey frames of 100 and of 120 have a
# difference of 0.25 as floats and as files, and of 0 as uint8. Noise has a fifth of its difference, which comes from its few
# zeros. Black against white is right, so that a quick check passes, and every value lies between 0 and 1 as it should. Do
# instead: divide by 255 and convert to float32 first.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check flip-evaluator==1.7 pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import flip_evaluator
import numpy as np
from PIL import Image

print("flip-evaluator", importlib.metadata.version("flip-evaluator"))


def difference(one, two):
    return float(flip_evaluator.evaluate(one, two, "LDR")[1])


def ways(reference, other):
    Image.fromarray(reference).save("reference.png")
    Image.fromarray(other).save("other.png")
    floats = (frame.astype(np.float32) / 255 for frame in (reference, other))
    return difference("reference.png", "other.png"), difference(*floats), difference(reference, other)


frame, noise = np.ones((32, 32, 3), np.uint8), np.random.default_rng(0).integers(0, 236, (32, 32, 3), dtype=np.uint8)
found = {
    "100 and 120": ways(frame * 100, frame * 120),
    "noise, and 20 more": ways(noise, noise + 20),
    "0 and 255": ways(frame * 0, frame * 255),
}
for name, (files, floats, integers) in found.items():
    print(f"{name}: files {files:.4f}, floats {floats:.4f}, uint8 {integers:.4f}")
    assert abs(files - floats) < 1e-3 and floats > 0.2
assert found["100 and 120"][2] == 0, "frames of uint8 differ now"
assert found["noise, and 20 more"][2] < 0.5 * found["noise, and 20 more"][1]
assert abs(found["0 and 255"][2] - found["0 and 255"][1]) < 1e-3
EOF
