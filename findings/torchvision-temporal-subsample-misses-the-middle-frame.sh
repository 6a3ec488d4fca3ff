#!/usr/bin/env bash
# torchvision 0.29.1. transforms.v2.UniformTemporalSubsample(15) of 33 frames should take the first, the last, and
# frame 16, which lies exactly in the middle: 32 * 7 / 14. It takes frame 15. The places are made by linspace in float32 and cut off
# to whole numbers, so that 15.999999 becomes 15, and the frames are no longer symmetric around the middle.
# Of all 8,128 pairs of lengths up to 128 this happens in more than a hundred, always to frames whose place is a whole number, and
# one frame too early: 17 to 15, 33 to 15, 33 to 29, 65 to 57. Models that look at every n-th frame expect others.
# pytorchvideo's function of the same name has the same formula.
# Do instead: index with (num_frames - 1) * i // (num_samples - 1) in whole numbers.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check torchvision==0.29.1 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python - <<'EOF'
import importlib.metadata
import torch
from torchvision.transforms.v2.functional import uniform_temporal_subsample

print("torchvision", importlib.metadata.version("torchvision"), "torch", importlib.metadata.version("torch"))


def places(num_frames, num_samples):
    """Numbers of the frames that are taken, from a video whose frames hold their numbers."""
    video = torch.arange(num_frames, dtype=torch.uint8).reshape(1, num_frames, 1, 1, 1)
    return uniform_temporal_subsample(video, num_samples).flatten().tolist()


wrong = {}
for num_frames in range(2, 129):
    for num_samples in range(2, num_frames + 1):
        exact = [(num_frames - 1) * i // (num_samples - 1) for i in range(num_samples)]
        found = places(num_frames, num_samples)
        off = [(i, found[i], exact[i]) for i in range(num_samples) if found[i] != exact[i]]
        if off:
            wrong[num_frames, num_samples] = off
print(f"{len(wrong)} pairs of lengths with other frames, among them", {pair: wrong[pair] for pair in list(wrong)[:4]}, "(place, taken, right)")
assert wrong.get((33, 15)) == [(7, 15, 16)], "the middle frame of 33 to 15 is taken now"
for (num_frames, num_samples), off in wrong.items():
    assert all(taken == right - 1 and i * (num_frames - 1) % (num_samples - 1) == 0 for i, taken, right in off)
print("33 to 15:", places(33, 15))
EOF
