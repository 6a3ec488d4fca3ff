#!/usr/bin/env bash
# perlin-noise 1.14. octaves=4 should add up four layers of noise, each finer and weaker than the last, as octaves does in the
# package noise and in the literature on clouds and terrain.
# PerlinNoise(octaves=4) is a single layer whose coordinates are multiplied by 4: its value at x is that of octaves=1 at 4 x. The
# pictures look alike at first, but there are no fine details on coarse ones: it is smooth between its cells, and 0 at each
# multiple of 1 / 4. Textures, terrain and camera shake made for training have one scale instead of four, and change in speed by
# four. The documentation says so in half a sentence ("number of sub rectangles in each [0, 1] range").
# Do instead: add them up: sum(0.5 ** n * PerlinNoise(octaves=2 ** n, seed=n)(x) for n in range(4)).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check perlin-noise==1.14
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata

from perlin_noise import PerlinNoise

print("perlin-noise", importlib.metadata.version("perlin-noise"))
places = [(number * 0.0137, number * 0.0291) for number in range(1, 60)]
one = PerlinNoise(octaves=1, seed=1)
for octaves in (2, 3, 4, 8):
    several = PerlinNoise(octaves=octaves, seed=1)
    most = max(abs(several([x, y]) - one([octaves * x, octaves * y])) for x, y in places)
    zeros = [several([number / octaves, 0.0]) for number in range(octaves + 1)]
    print(f"octaves={octaves}: differs by up to {most:.1e} from one octave at {octaves} times the coordinates; at multiples of"
          f" 1 / {octaves}: {zeros}")
    assert most < 1e-9, "octaves are layers now"
    assert max(map(abs, zeros)) < 1e-9
PY
