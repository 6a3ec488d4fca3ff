#!/usr/bin/env bash
# video-diffusion-pytorch 0.7.0. Dataset(folder, image_size, num_frames=..., horizontal_flip=True) reads GIFs and mirrors half of
# them, so that things move to the left as often as to the right. A clip is mirrored as a whole, or not at all. Each frame is
# mirrored or not by a draw of its own: of a clip of ten frames about five are mirrored, in any order, and what stands at the left
# jumps from side to side. Of 200 clips not one is whole. A model trained on them learns that things jump, with no warning. Clips
# that are shorter than num_frames end in black frames (force_num_frames), which it learns too.
# Do instead: leave horizontal_flip at False, and flip the tensor (channels, frames, height, width) at its last axis, clip by
# clip.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 \
    numpy==2.4.6 pillow==13.0.0 einops==0.8.2 einops-exts==0.0.4 rotary-embedding-torch==0.9.1 tqdm==4.70.1
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check --no-deps video-diffusion-pytorch==0.7.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from video_diffusion_pytorch.video_diffusion_pytorch import Dataset

print("video-diffusion-pytorch", importlib.metadata.version("video-diffusion-pytorch"))
frames = np.zeros((10, 16, 16, 3), np.uint8)
frames[:, :, :8] = 255  # white at the left
frames[range(10), 0, 0, 1] = range(0, 200, 20)  # frames that differ, as equal ones would be merged
first, *others = [Image.fromarray(frame) for frame in frames]
Path("clips").mkdir()
first.save("clips/white-at-the-left.gif", save_all=True, append_images=others, duration=100)


def sides(**options):
    """Of each frame whether white is at the left."""
    clip = Dataset("clips", 16, **options)[0]
    return (clip[0, :, 8, 0] > 0.5).int().tolist()


torch.manual_seed(0)
print("white at the left, frame by frame, without flips:", sides(num_frames=10))
print("with horizontal_flip:", sides(num_frames=10, horizontal_flip=True))
assert sides(num_frames=10) == [1] * 10
clips = [sides(num_frames=10, horizontal_flip=True) for _ in range(200)]
torn = sum(len(set(clip)) == 2 for clip in clips)
print(f"clips of which some frames are mirrored and some are not: {torn} of 200")
assert torn > 190 and 0.45 < np.mean(clips) < 0.55
means = Dataset("clips", 16, num_frames=16)[0].mean((0, 2, 3))
print("mean brightness of the frames of a clip that is six short:", [round(float(mean), 2) for mean in means])
assert (means[:10] > 0.4).all() and not means[10:].any()
EOF
