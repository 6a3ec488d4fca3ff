#!/usr/bin/env bash
# flow_vis 0.1. flow_to_color(flow, clip_flow=10) should limit the size of the vectors, or of either component, to 10 pixels, so
# that one outlier does not darken all the rest; the argument is described as the clip maximum of flow values. It also cuts
# everything below zero: np.clip is called with the bounds 0 and clip_flow. What moves left or up becomes white, the colour of no
# motion, and what moves down and to the left looks as if it moved straight down. A picture of a scene in which all moves to the
# left is blank, and nothing warns. Tools for optical flow whose colouring was copied from the same source may do the same. Do
# instead: flow.clip(-10, 10) first, or scale vectors longer than 10 down, and leave clip_flow alone.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check flow_vis==0.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import numpy as np
from flow_vis import flow_to_color

print("flow_vis", importlib.metadata.version("flow_vis"))
ways = {"right": (5, 0), "left": (-5, 0), "down": (0, 5), "up": (0, -5), "down left": (-5, 5), "none": (0, 0)}
flow = np.array(list(ways.values()), float)[None]
plain, clipped, limited = (
    dict(zip(ways, map(tuple, image[0].tolist())))
    for image in (flow_to_color(flow), flow_to_color(flow, clip_flow=10), flow_to_color(flow.clip(-10, 10)))
)
for way in ways:
    print(f"{way}: {plain[way]}, with clip_flow=10 {clipped[way]}")
assert len(set(plain.values())) == 6 and limited == plain
assert clipped["left"] == clipped["up"] == clipped["none"] == (255, 255, 255), "motion to the left has a colour now"
assert clipped["down left"] == clipped["down"]
assert clipped["right"] != clipped["none"]
EOF
