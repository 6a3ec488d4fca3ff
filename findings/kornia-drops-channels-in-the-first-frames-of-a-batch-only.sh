#!/usr/bin/env bash
# kornia 0.9.0. VideoSequential(RandomChannelDropout(p=1.0), same_on_frame=True) should drop one channel of each clip, in all its frames.
# It drops one in the first frames of the first clip: in a batch of three clips, in three frames of the first, a channel drawn for each, and
# in none of the rest. The numbers of the clips in the batch are used as numbers of frames of all clips laid end to end. So one
# clip in a batch flickers in colour at its start, and all others are not augmented at all. RandomChannelShuffle, erasing, noise and the
# geometric ones do as they are told, so a test of another one passes. On still pictures it is right.
# Do instead: multiply the clips by a mask of (clips, 1, 3, 1, 1) that you draw.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.14.1 numpy==2.4.6 kornia==0.9.0
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import kornia.augmentation as augmentation
import torch

print("kornia", importlib.metadata.version("kornia"))
torch.manual_seed(0)
clips = torch.full((3, 6, 3, 8, 8), 0.5)


def dropped(video):
    """The channel that is black in each frame of each clip, or -."""
    return ["".join(next((str(i) for i, channel in enumerate(frame) if not channel.any()), "-") for frame in clip) for clip in video]


def changed(way):
    return augmentation.VideoSequential(way, data_format="BTCHW", same_on_frame=True)(clips)


found = dropped(changed(augmentation.RandomChannelDropout(p=1.0)))
print("dropped channels of three clips of six frames:", *found)
assert all(one == "------" for one in found[1:]), "other clips lose a channel too now"
assert "-" not in found[0][:3] and found[0][3:] == "---"
pictures = dropped(augmentation.RandomChannelDropout(p=1.0)(clips[:, 0])[:, None])
print("of three pictures:", *pictures)
assert "-" not in pictures
for way in (augmentation.RandomErasing(p=1.0), augmentation.RandomGaussianNoise(p=1.0), augmentation.RandomBoxBlur(p=1.0)):
    video = changed(way)
    assert torch.equal(video, video[:, :1].expand_as(video))
EOF
