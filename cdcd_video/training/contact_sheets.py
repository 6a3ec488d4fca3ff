"""Rows of a contact sheet: sampled or decoded frames beside the true ones."""

from collections.abc import Sequence

import numpy as np
import torch

from cdcd_video.data.pairs import load_frames
from cdcd_video.data.shots import LongestShots
from cdcd_video.data.store import Clips
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.pipeline import ImageToVideo

Rows = tuple[list[np.ndarray], list[str]]
"""Videos, uint8 (F, H, W, 3), and a line of text for each."""


def sampled_rows(pipe: ImageToVideo, clips: Clips, numbers: Sequence[int]) -> Rows:
    """Each true clip, and the model's sample from its first frame and first caption.

    Args:
      numbers: which of the clips; also the seeds.
    """
    params, clips = pipe.defaults(fps=clips.fps), LongestShots(clips)
    truth = [clips.frames(clip, range(min(clips.num_frames(clip), params.num_frames))) for clip in numbers]
    captions = [clips.caption(clip) for clip in numbers]
    sampled = pipe.sample(np.stack([frames[0] for frames in truth]), captions, params, list(numbers))
    rows = [row for pair in zip(truth, sampled, strict=True) for row in pair]
    return rows, [label for caption in captions for label in (f"true: {caption}", f"sampled: {caption}")]


@torch.no_grad()
def decoded_rows(codec: Codec, clip: FrozenClip, clips: Clips, numbers: Sequence[int]) -> Rows:
    """The middle frames of some clips, and their reconstructions by the codec, which also gets the first frames."""
    device, clips = codec.table.device, LongestShots(clips)
    middle = np.array([clips.num_frames(number) // 2 for number in numbers])
    start, frames = load_frames(clips, np.array(numbers), np.zeros_like(middle), middle, device=device)
    states = clip.encode_image(frames, codec.cfg.layers, codec.grid_of(*frames.shape[-2:]))
    decoded = codec.decode(codec.encode(states.patches), start)
    rows = [
        part.float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy() for part in (frames, decoded)
    ]
    return rows, ["true", "decoded"]
