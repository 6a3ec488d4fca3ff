#!/usr/bin/env bash
# cd-fvd 0.1.1. load_videos reads clips of sequence_length frames, 16 by default, and with sample_every_n_frames=2 every second
# frame. A folder of 16 frames, what a model of 16 frames writes, should make a clip, and one of 32 frames a clip of every second.
# Folders need one frame more than the clip: a ">" in FrameDataset.load_video_frames leaves them out, and prints nothing. Where
# some videos are longer, the score is that of the longer ones alone, and where none is, the loader has no video. Video files are
# cut otherwise: 16 frames in a row are read and then thinned, so that with sample_every_n_frames=2 a file gives 8 frames over 16,
# and a folder of the same frames 16 over 32. Real files against generated folders then compare other lengths. Do instead: load
# the videos yourself and give compute_fvd the arrays.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 \
  scipy==1.17.1 cd-fvd==0.1.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, pathlib

import torch
from cdfvd.utils.data_utils import FrameDataset, preprocess
from PIL import Image

print("cd-fvd", importlib.metadata.version("cd-fvd"))
for frames in (16, 17, 32, 33):
    folder = pathlib.Path("videos", f"of_{frames}")
    folder.mkdir(parents=True)
    for number in range(frames):
        Image.new("RGB", (8, 8)).save(folder / f"{number:03}.png")
found = {every: sorted(map(len, FrameDataset("videos", 16, sample_every_n_frames=every).data_all)) for every in (1, 2)}
for every, lengths in found.items():
    print(f"folders of 16, 17, 32 and 33 frames, clips of 16, every {every}: those of {lengths} are read")
read = torch.zeros(16, 8, 8, 3, dtype=torch.uint8)  # as VideoDataset reads 16 frames of a file, and hands them over
thinned = preprocess(read, 8, sample_every_n_frames=2)["video"].shape[1]
print(f"files: clips of {thinned} frames with every second one")
assert found == {1: [17, 32, 33], 2: [33]}, "folders of exactly as many frames are read"
assert thinned == 8
EOF
