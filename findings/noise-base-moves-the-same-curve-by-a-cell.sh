#!/usr/bin/env bash
# noise 1.2.2, Perlin and simplex noise. The argument base is "useful for generating different noise textures", and so
# pnoise1(t, base=0) and pnoise1(t, base=1) should serve as two independent curves: camera shake in x and in y, the paths of two
# objects, the clouds of a train and a test scene. There is no other seed.
# base moves the coordinates, each by one cell for each unit: pnoise1(t, base=1) is pnoise1(t + 1, base=0), and pnoise2, pnoise3
# and snoise2 are moved along all axes. Two objects with base 0 and 1 follow the same path, one a cell ahead of the other, and
# bases 0 and 256 are equal. Scenes "with other seeds" hold the same noise at another place, in train and test alike.
# Do instead: draw an offset of many cells for each curve yourself, not along a diagonal, or take opensimplex, which has a seed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check noise==1.2.2 opensimplex==0.4.5.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata

import noise
import numpy as np
import opensimplex

print("noise", importlib.metadata.version("noise"))
times = np.arange(400) / 10


def curve(function, *rest, base=0, ahead=0):
    """A curve over 40 cells; ahead moves all its coordinates by as many cells."""
    return np.array([function(time + ahead, *(value + ahead for value in rest), base=base) for time in times])


for name, rest in (("pnoise1", ()), ("pnoise2", (0.3,)), ("pnoise3", (0.3, 0.6)), ("snoise2", (0.3,))):
    function = getattr(noise, name)
    first = curve(function, *rest)
    for base in (1, 5):
        other, moved = curve(function, *rest, base=base), curve(function, *rest, ahead=base)
        print(f"{name}, base {base}: differs by up to {np.abs(other - first).max():.2f} from base 0, and by"
              f" {np.abs(other - moved).max():.6f} from base 0 moved by {base}")
        assert np.abs(other - first).max() > 0.5
        assert np.abs(other - moved).max() < 0.00002, "another base is another noise now"
paths = [curve(noise.pnoise1, base=base) for base in (0, 1)]
lags = {lag: float(np.corrcoef(paths[0][lag:], paths[1][: len(times) - lag])[0, 1]) for lag in (0, 5, 10, 15)}
print("correlation of two paths, by lag:", {lag: round(value, 3) for lag, value in lags.items()}, "(a cell is 10 steps)")
assert lags[10] > 0.9999
assert np.array_equal(curve(noise.pnoise2, 0.3, base=256), curve(noise.pnoise2, 0.3)), "bases 0 and 256 differ now"
seeded = [opensimplex.OpenSimplex(seed).noise2array(times, np.array([0.3]))[0] for seed in (0, 1)]
most = max(abs(np.corrcoef(seeded[0][lag:], seeded[1][: len(times) - lag])[0, 1]) for lag in range(100))
print(f"opensimplex, two seeds: largest correlation at any lag to 10 cells {most:.2f}")
assert most < 0.6
PY
