"""Rows of a contact sheet: sampled or decoded frames beside the true ones."""

from collections.abc import Sequence

import numpy as np
import torch

from cdcd_video.data.buckets import spread
from cdcd_video.data.pairs import load_frames
from cdcd_video.data.shots import LongestShots
from cdcd_video.data.store import Clips
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.pipeline import ImageToVideo

Rows = tuple[list[np.ndarray], list[str]]
"""Videos, uint8 (F, H, W, 3), and a line of text for each."""


def sampled_rows(pipe: ImageToVideo, clips: Clips, most: int) -> Rows:
    """Some true clips, the first ones of each size, and the model's sample from the first frame and first caption of each."""
    return _joined([_sampled_rows(pipe, bucket, numbers) for bucket, numbers in spread(clips, most)])


def decoded_rows(codec: Codec, clip: FrozenClip, clips: Clips, most: int) -> Rows:
    """Rows of middle frames of some clips, the first ones of each size, and their reconstructions by the codec, which also gets
    the first frames.
    """
    return _joined([_decoded_rows(codec, clip, bucket, numbers) for bucket, numbers in spread(clips, most)])


def _joined(parts: Sequence[Rows]) -> Rows:
    return [row for rows, _ in parts for row in rows], [label for _, labels in parts for label in labels]


def _sampled_rows(pipe: ImageToVideo, clips: Clips, numbers: Sequence[int]) -> Rows:
    params, clips = pipe.defaults(fps=clips.fps), LongestShots(clips)
    truth = [clips.frames(clip, range(min(clips.num_frames(clip), params.num_frames))) for clip in numbers]
    captions = [clips.caption(clip) for clip in numbers]
    sampled = pipe.sample(np.stack([frames[0] for frames in truth]), captions, params, list(numbers))
    rows = [row for pair in zip(truth, sampled, strict=True) for row in pair]
    return rows, [label for caption in captions for label in (f"true: {caption}", f"sampled: {caption}")]


@torch.no_grad()
def _decoded_rows(codec: Codec, clip: FrozenClip, clips: Clips, numbers: Sequence[int]) -> Rows:
    device, clips = codec.table.device, LongestShots(clips)
    middle = np.array([clips.num_frames(number) // 2 for number in numbers])
    start, frames = load_frames(clips, np.array(numbers), np.zeros_like(middle), middle, device=device)
    states = clip.encode_image(frames, codec.cfg.layers, codec.grid_of(*frames.shape[-2:]))
    decoded = codec.decode(codec.encode(states.patches), start)
    rows = [
        part.float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy() for part in (frames, decoded)
    ]
    return rows, ["true", "decoded"]
