#!/usr/bin/env bash
# torch 2.14.1, tensorboard 2.21.0, moviepy 2.2.1. SummaryWriter.add_video should write the video, or raise if it cannot.
# torch imports moviepy.editor, which moviepy has no longer since 2.0. With moviepy 2 it prints that
# moviepy is there but that imageio or requests could be missing (they are there), goes on, and writes an
# event with the tag and no picture: TensorBoard shows nothing, and training that logs its samples
# keeps none. With moviepy 1.0.3 the same call writes a GIF.
# Do instead: install "moviepy<2", or write the video to a file and single frames with add_images.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 tensorboard==2.21.0 numpy==2.4.6 moviepy==2.2.1
cat >"$work/video.py" <<'EOF'
import importlib.metadata
import sys

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

print("torch", torch.__version__, "moviepy", importlib.metadata.version("moviepy"))
frames = torch.arange(8, dtype=torch.uint8)[None, :, None, None, None].expand(1, 8, 3, 16, 16) * 30
with SummaryWriter(sys.argv[1]) as writer:
    writer.add_video("samples", frames, fps=8)
events = EventAccumulator(sys.argv[1], size_guidance={"images": 0})
events.Reload()
images = [image.encoded_image_string for image in events.Images("samples")] if "samples" in events.Tags()["images"] else []
print("pictures under the tag:", len(images), "of", sum(map(len, images)), "bytes")
sys.exit(0 if bool(sum(map(len, images))) == (sys.argv[2] == "written") else "The behaviour has changed.")
EOF
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python video.py new nothing
venv/bin/pip install -qq --disable-pip-version-check moviepy==1.0.3
OMP_NUM_THREADS=1 venv/bin/python video.py old written
