"""The metric `inbetween`: frames between a first and a last one that are both given, against the true ones.

The model samples every video a second time, now with the true last frame beside the first. Only the frames between the two count.
A cross-fade of the two frames is exact where nothing moves and shows what moves twice, so it is the reference to beat; repeating
the first frame is the other one, and the true codes decoded are the ceiling.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from cdcd_video.config.value_types import Size
from cdcd_video.metrics import fidelity
from cdcd_video.metrics import protocol as protocols
from cdcd_video.metrics.eval_dataset import EvalDataset, VideoFrames
from cdcd_video.metrics.measurements import Measurement, measured
from cdcd_video.metrics.references import Progress, VideoBatch, VideoModel, as_evaluated, codec_ceiling, faded

CROSS_FADE = "oracle-cross-fade"
LEAST_FRAMES = 3
"""Frames of a video that has one between its ends."""
_OF_OBJECTS = {"identity_iou": "between_identity_iou", "position_error": "between_position_error"}
"""Scores of objects, where they are known, and their names here."""


@runtime_checkable
class InbetweenModel(VideoModel, Protocol):
    """What a model must implement to be scored; `pipeline.ImageToVideo` does."""

    def sample(
        self,
        starts: np.ndarray,
        captions: Sequence[str],
        params: Any,
        seeds: Sequence[int],
        progress: Progress | None = None,
        *,
        lasts: np.ndarray | None = None,
    ) -> np.ndarray:
        """Samples videos (B, F, H, W, 3) from first and last frames (B, H, W, 3)."""


def with_cross_fade(systems: Sequence[str]) -> list[str]:
    """These systems, and the cross-fade that this metric compares with."""
    return [*systems, *(name for name in (CROSS_FADE,) if name not in systems)]


def make_between(
    pipe: InbetweenModel,
    dataset: EvalDataset,
    batch: Sequence[int],
    protocol: protocols.Protocol,
    params: Any,
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> dict[str, VideoBatch]:
    """The videos of every system that is given both ends, for a batch, as they are measured; see `references.make`."""
    true = np.stack([dataset.real_video(number, pipe.size_px) for number in batch])
    size = Size(*true.shape[2:4]).scaled(protocol.square_px, pipe.size_px)
    captions, own_seeds = [dataset.captions["model"][number] for number in batch], [seeds[number] for number in batch]
    made = {
        "model": pipe.sample(true[:, 0], captions, params, own_seeds, progress, lasts=true[:, -1]),
        "copy-first": np.repeat(true[:, :1], protocol.num_frames, axis=1),
        "codec-ceiling": codec_ceiling(pipe, true),
        CROSS_FADE: faded(true),
    }
    return {
        name: np.stack([as_evaluated(frames, protocol, size) for frames in videos]) for name, videos in made.items()
    }


def measure_between(dataset: EvalDataset, number: int, frames: VideoFrames, true: VideoFrames) -> Iterator[Measurement]:
    """PSNR and SSIM of the frames between; of known objects also identity and distance from the true place.

    Args:
      dataset: the real videos.
      number: of the video.
      frames: of a system.
      true: the true video at the same size.
    """
    eval_video = dataset.eval_videos[number]
    yield _inner(measured("between_psnr", eval_video, fidelity.psnr(frames, true)))
    yield _inner(measured("between_ssim", eval_video, fidelity.ssim(frames, true)))
    for one in dataset.measure(number, "model", frames):
        if one.metric in _OF_OBJECTS:
            yield _inner(dataclasses.replace(one, metric=_OF_OBJECTS[one.metric]))


def _inner(one: Measurement) -> Measurement:
    """Without the two frames that are given."""
    return dataclasses.replace(one, total=_without_ends(one.total), weight=_without_ends(one.weight))


def _without_ends(values: Float[np.ndarray, " F"]) -> Float[np.ndarray, " F"]:
    return np.concatenate([[math.nan], values[1:-1], [math.nan]])
