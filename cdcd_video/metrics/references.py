"""The systems of an evaluation: the model, and references over the same first frames, so that every number has a scale.

| system | videos |
|---|---|
| `model` | sampled by the model |
| `counterfactual` | sampled from the same first frame with another caption, measured by that caption |
| `sentence-ignored` | those of `model`, measured by the other caption: the score of a model that ignores captions |
| `copy-first` | the first frame repeated: the score of a frozen video |
| `codec-ceiling` | the true codes decoded: the best that any model with this codec can reach |
| `truth` | the true videos; against other real videos, the floor at this number of samples |
| `oracle-cross-fade` | first and true *last* frame mixed in pixels. It is given the last frame, so it is measured only by name |
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cdcd_video import video
from cdcd_video.config.value_types import Size
from cdcd_video.data.clips import read_clip
from cdcd_video.metrics import protocol as protocols
from cdcd_video.metrics.eval_dataset import COUNTERFACTUAL_SYSTEMS, EvalDataset
from cdcd_video.metrics.latent.inbetween import cross_fade
from cdcd_video.metrics.measurements import resized

REFERENCES = ("copy-first", "codec-ceiling", "truth")
SYSTEMS = ("model", *COUNTERFACTUAL_SYSTEMS, *REFERENCES)
ORACLES = ("oracle-cross-fade",)
"""Systems that are given the true last frame, which no model is. They are not part of the usual table."""
_USERS = {"model": {"model", "sentence-ignored"}, "counterfactual": {"counterfactual"}}
"""What is sampled, and the systems that use it."""

Progress = Callable[[int], None]
"""Called with the number of frames sampled since the last call."""
VideoBatch = UInt8[np.ndarray, "B F H W 3"]


@runtime_checkable
class VideoModel(Protocol):
    """What a model must implement to be evaluated; `pipeline.ImageToVideo` does."""

    @property
    def size_px(self) -> int:
        """Side of the frames, where they are square; frames of other shapes have patches of the same size."""

    def sample(
        self,
        starts: np.ndarray,
        captions: Sequence[str],
        params: Any,
        seeds: Sequence[int],
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Samples videos (B, F, H, W, 3) from first frames (B, H, W, 3)."""

    def encode(self, frames: np.ndarray) -> Any:
        """Frames (B, H, W, 3) to codes (B, N). Needed for `codec-ceiling` alone."""

    def decode(self, codes: Any, starts: np.ndarray) -> np.ndarray:
        """Codes (B, F, N), with first frames, to videos. Needed for `codec-ceiling` alone."""


def sampled_systems(systems: Sequence[str]) -> list[str]:
    """The systems that must be sampled for these."""
    return [sampled for sampled, users in _USERS.items() if users & set(systems)]


def make(
    pipe: VideoModel,
    dataset: EvalDataset,
    batch: Sequence[int],
    systems: Sequence[str],
    protocol: protocols.Protocol,
    params: Any,
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> tuple[dict[str, VideoBatch], VideoBatch]:
    """The videos of every system for a batch, as they are measured, and the true videos.

    Args:
      pipe: the model.
      dataset: the real videos.
      batch: numbers of the videos, all of one size.
      systems: some of `SYSTEMS` and `ORACLES`.
      protocol: settled protocol.
      params: sampling parameters of the model.
      seeds: one per video of the dataset.
      progress: called after every frame of a batch.
    """
    scale = protocol.square_px
    true = np.stack([dataset.real_video(number, scale) for number in batch])
    given = true if pipe.size_px == scale else np.stack([dataset.real_video(number, pipe.size_px) for number in batch])
    own_seeds = [seeds[number] for number in batch]
    made = {}
    for system in sampled_systems(systems):
        captions = [dataset.captions[system][number] for number in batch]
        made[system] = pipe.sample(given[:, 0], captions, params, own_seeds, progress)
    if "sentence-ignored" in systems:
        made["sentence-ignored"] = made["model"]
    is_ready = dict.fromkeys(
        made, getattr(pipe, "is_stored", False)
    )  # videos read from files have been compressed already
    if "copy-first" in systems:
        made["copy-first"] = np.repeat(given[:, :1], protocol.num_frames, axis=1)
    if "codec-ceiling" in systems:
        made["codec-ceiling"] = codec_ceiling(pipe, given)
    if "truth" in systems:
        made["truth"] = true
    if "oracle-cross-fade" in systems:
        made["oracle-cross-fade"] = faded(given)
    evaluated = {
        system: made[system]
        if is_ready.get(system)
        else np.stack([as_evaluated(frames, protocol, Size(*true.shape[2:4])) for frames in made[system]])
        for system in systems
    }
    return evaluated, true


def as_evaluated(
    frames: UInt8[np.ndarray, "F H W 3"], protocol: protocols.Protocol, size: Size | None = None
) -> UInt8[np.ndarray, "F h w 3"]:
    """A video at the protocol's size, compressed with H.264 if the protocol says so.

    Args:
      frames: the video at any size.
      protocol: settled.
      size: which of the protocol's sizes; None for the first.
    """
    size = size or protocol.sizes[0]
    frames = resized(frames, size, protocol.resize)
    if protocol.storage == "raw":
        return frames
    with tempfile.TemporaryDirectory() as folder:
        path = video.save(frames, Path(folder, "video.mp4"), protocol.rate)
        return read_clip(path, size_px=size, max_frames=len(frames)).frames


def faded(videos: VideoBatch) -> VideoBatch:
    """True videos whose inner frames are linear mixtures of the first and the last frame."""
    shares = np.linspace(0, 1, videos.shape[1])
    return np.stack([cross_fade(videos[:, 0], videos[:, -1], share) for share in shares], axis=1)


def codec_ceiling(pipe: VideoModel, videos: VideoBatch) -> VideoBatch:
    """True videos encoded and decoded by the codec, with their true first frames: the best that any model could reach."""
    codes = pipe.encode(videos.reshape(-1, *videos.shape[2:]))
    decoded = pipe.decode(codes.reshape(*videos.shape[:2], -1), videos[:, 0])
    decoded[:, 0] = videos[:, 0]
    return decoded
