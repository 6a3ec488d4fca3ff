#!/usr/bin/env bash
# VBench 0.1.5. Dynamic degree says whether a video moves. It takes an MP4 file or a folder of its frames, and the answer should
# be the same. Of a file it compares every k-th frame, k = round(fps / 8), so that the flow is that of an eighth of a second; of a
# folder, which has no frame rate, neighbours. A pattern that moves 2 pixels a frame is "dynamic" as an MP4 at 24 fps, and
# "static" as a folder of its frames. k is a whole number, so that the same frames at 11 and at 12 fps have two answers: k is 1
# and 2, which doubles the flow. And of two compared frames any video is dynamic, one that stands still as well: round(4 * 2 / 16)
# = 0 moving pairs are enough. That is a folder of 2 frames, or a clip of 4 to 6 frames at 24 fps. Here OpenCV's DIS stands for
# RAFT, whose weights the package would download; the choice of frames and the threshold are its own. Do instead: give all models'
# videos as MP4 at one frame rate, with 16 frames or more.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 \
  scipy==1.17.1 opencv-python-headless==5.0.0.93 av==18.1.0 decord==0.6.0 easydict==1.14 tqdm==4.70.1 pillow==13.0.0
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check --no-deps vbench==0.1.5
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata, shutil
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from vbench.dynamic_degree import DynamicDegree

print("vbench", importlib.metadata.version("vbench"))
search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def flow(one, other, iters, test_mode):
    grey = [cv2.cvtColor(frame[0].permute(1, 2, 0).numpy().astype(np.uint8), cv2.COLOR_RGB2GRAY) for frame in (one, other)]
    return None, torch.from_numpy(search.calc(*grey, None)).permute(2, 0, 1)[None]


degree = DynamicDegree.__new__(DynamicDegree)
degree.model, degree.device = flow, "cpu"
noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8), (0, 0), 2)
pattern = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)


def frames(number, shift):
    return [np.roll(pattern, shift * index, 1) for index in range(number)]


def of_file(video, fps):
    with av.open("video.mp4", "w") as file:
        stream = file.add_stream("libx264", rate=fps, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for frame in video:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return degree.infer("video.mp4")


def of_folder(video):
    shutil.rmtree("video", ignore_errors=True)
    Path("video").mkdir()
    for number, frame in enumerate(video):
        cv2.imwrite(f"video/{number:03}.png", frame[..., ::-1])
    return degree.infer("video")


moving = frames(48, 2)
found = {fps: of_file(moving, fps) for fps in (8, 11, 12, 24)}
folder = of_folder(moving)
print("2 pixels a frame:", {f"{fps} fps": "dynamic" if moves else "static" for fps, moves in found.items()})
print("the frames in a folder:", "dynamic" if folder else "static")
still = {(6, 24): of_file(frames(6, 0), 24), (16, 24): of_file(frames(16, 0), 24), (2, None): of_folder(frames(2, 0))}
print("still videos, by frames and rate:", still)
assert found == {8: False, 11: False, 12: True, 24: True} and not folder, "files and folders have one answer now"
assert still == {(6, 24): True, (16, 24): False, (2, None): True}
EOF
