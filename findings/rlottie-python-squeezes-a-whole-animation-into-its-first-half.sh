#!/usr/bin/env bash
# rlottie-python 1.3.8. save_animation renders a Lottie animation to GIF, WebP or APNG, "from frame_num_start to frame_num_end".
# The first half of 24 frames, frame_num_end=12, should be frames 0 to 11 at their own speed.
# The place of each frame is its number divided by frame_num_end, as a part of the whole animation: the first half is the whole
# animation, at twice its speed, and frames 5 to 9 are 12, 14, 17, 19 and 22. The number of frames is right, and
# so is the length; the speed and the content are not. A cut to the end, frame_num_end=24, is right. Whoever renders clips of a
# fixed length from animations gets motion whose speed depends on the length of the animation, beside a caption of another moment.
# Do instead: render_pillow_frame(frame_num=n) for each n, which renders frame n, and save with Pillow. Durations are whole
# milliseconds there too: 24 frames at 24 a second last 984 ms.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check rlottie-python==1.3.8 pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata, json

import numpy as np
from PIL import Image
from rlottie_python import LottieAnimation

print("rlottie-python", importlib.metadata.version("rlottie-python"))
ease = {"i": {"x": [1], "y": [1]}, "o": {"x": [0], "y": [0]}}  # a straight line
place = {"a": 1, "k": [{"t": 0, "s": [8, 32, 0], **ease}, {"t": 24, "s": [56, 32, 0]}]}  # two pixels to the right in each frame
still = {"o": {"a": 0, "k": 100}, "r": {"a": 0, "k": 0}, "a": {"a": 0, "k": [8, 8, 0]}, "s": {"a": 0, "k": [100, 100, 100]}}
square = {"ddd": 0, "ind": 1, "ty": 1, "nm": "square", "sr": 1, "ks": {**still, "p": place}, "ao": 0, "sw": 16, "sh": 16,
          "sc": "#ff0000", "ip": 0, "op": 24, "st": 0, "bm": 0}
scene = {"v": "5.5.7", "fr": 24, "ip": 0, "op": 24, "w": 64, "h": 64, "nm": "scene", "ddd": 0, "assets": [], "layers": [square]}
with open("scene.json", "w") as file:
    json.dump(scene, file)
animation = LottieAnimation.from_file("scene.json")


def place_of(image):
    return float(np.nonzero((np.asarray(image.convert("RGBA"))[..., 3] > 128).any(axis=0))[0].mean())


true = [place_of(animation.render_pillow_frame(frame_num=number)) for number in range(24)]
assert np.allclose(np.diff(true), 2), "the square does not move by two pixels a frame"


def saved(**cut):
    """The frames of the animation that save_animation wrote, told by the place of the square, and their length in ms."""
    animation.save_animation("cut.apng", **cut)
    with Image.open("cut.apng") as image:
        frames, length = [], 0
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            frames.append(int(np.argmin(np.abs(np.array(true) - place_of(image)))))
            length += int(image.info["duration"])
    print(f"{cut or 'all'}: {len(frames)} frames in {length} ms, frames of the animation {frames}")
    return frames


assert saved() == list(range(24))
assert saved(frame_num_start=12, frame_num_end=24) == list(range(12, 24))
half = saved(frame_num_end=12)
assert half == list(range(0, 24, 2)), "the first half is cut otherwise now"
middle = saved(frame_num_start=5, frame_num_end=10)
assert len(middle) == 5 and middle[0] == 12 and min(np.diff(middle)) >= 2
PY
