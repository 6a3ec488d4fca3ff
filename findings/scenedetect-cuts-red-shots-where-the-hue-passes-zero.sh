#!/usr/bin/env bash
# scenedetect-headless 0.7.2. ContentDetector and AdaptiveDetector compare hue, saturation and brightness of frames. Hue is an
# angle, so that 179 and 1 of OpenCV's 180 steps should be 2 apart. They are 178 apart: the difference is a plain one.
# A red that drifts from a little blue to a little yellow passes that point, and a slow change of 2 levels of 255 a frame, which nobody
# sees, becomes a cut in the middle of the shot, at the default thresholds of both. The same drift in blue gives none.
# A plain grey does so too, where no hue is any better than another: from (128, 128, 129) to (129, 128, 128), without noise.
# Stages, sunsets and red curtains, and old films with a tint are split into pieces. Do instead: leave the hue out with
# ContentDetector.Components(delta_hue=0), or compute it as an angle, and choose the threshold again.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check scenedetect-headless==0.7.2 opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata

import numpy as np
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode

print("scenedetect-headless", importlib.metadata.version("scenedetect-headless"))
texture = np.random.default_rng(0).integers(-40, 41, (64, 64, 1))


def cuts(detector, colours):
    found = []
    for number, (red, green, blue) in enumerate(colours):
        frame = (np.array([blue, green, red]) + texture).astype(np.uint8)
        found += [int(cut.frame_num) for cut in detector.process_frame(FrameTimecode(number, 24.0), frame)]
    return found


no_hue = ContentDetector.Components(delta_hue=0.0)
drift = [(number - 40) for number in range(80)]
shots = {
    "red, drifting": [(200, 75 + step // 4 * 2, 75 - step // 4 * 2) for step in drift],
    "blue, drifting": [(75 - step // 4 * 2, 75 + step // 4 * 2, 200) for step in drift],
    "grey, by one level": [(129, 128, 128) if number >= 40 else (128, 128, 129) for number in range(80)],
}
found = {}
for name, colours in shots.items():
    steps = max(max(abs(a - b) for a, b in zip(one, two)) for one, two in zip(colours, colours[1:]))
    found[name] = [cuts(ContentDetector(), colours), cuts(AdaptiveDetector(), colours), cuts(ContentDetector(weights=no_hue), colours)]
    print(f"{name}, at most {steps} levels a frame: cuts {found[name][0]}, adaptive {found[name][1]}, without hue {found[name][2]}")
assert all(len(one) == 1 for one in found["red, drifting"][:2]), "a drift of red is no cut any more"
assert found["blue, drifting"] == [[], [], []] and found["grey, by one level"][:2] == [[40], [40]]
assert all(one[2] == [] for one in found.values())
EOF
