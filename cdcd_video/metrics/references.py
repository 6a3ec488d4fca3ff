"""Whose videos are judged: the model's, and references over the same first frames, so that every number has a scale.

| row | shows |
|---|---|
| `model` | what the model draws |
| `counterfactual` | what it draws from the same image with another sentence, judged by that sentence |
| `sentence-ignored` | its ordinary videos judged by the other sentence: what a model deaf to the sentence would earn |
| `copy-first` | the first frame repeated: what freezing earns |
| `codec-ceiling` | true codes decoded: what no drawing by this codec can beat |
| `truth` | the true video; against other real videos, the floor at this number of samples |
| `oracle-cross-fade` | an oracle, shown the true *last* frame: first and last mixed in pixels. Only measured when asked for |
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cdcd_video import video
from cdcd_video.data.clips import read_clip
from cdcd_video.metrics import protocol
from cdcd_video.metrics.eval_dataset import SENTENCE_ROWS, EvalDataset
from cdcd_video.metrics.latent.inbetween import cross_fade
from cdcd_video.metrics.measurements import resized

REFERENCES = ("copy-first", "codec-ceiling", "truth")
ROWS = ("model", *SENTENCE_ROWS, *REFERENCES)
ORACLES = ("oracle-cross-fade",)
"""Rows that are told how the video ends, which no model is: no part of the usual table, and called oracles wherever shown."""
_USERS = {"model": {"model", "sentence-ignored"}, "counterfactual": {"counterfactual"}}
"""What is drawn, and the rows that use it."""

Progress = Callable[[int], None]
"""Called with how many frames were drawn since the last call."""
Films = UInt8[np.ndarray, "B F S S 3"]


@runtime_checkable
class VideoModel(Protocol):
    """What a model must be able to do to be measured; `generate.ImageToVideo` is one."""

    @property
    def size_px(self) -> int:
        """Side of the frames."""

    def sample(
        self,
        starts: np.ndarray,
        captions: Sequence[str],
        params: Any,
        seeds: Sequence[int],
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Draws videos (B, F, H, W, 3) from starting frames (B, H, W, 3)."""

    def encode(self, frames: np.ndarray) -> Any:
        """Frames (B, H, W, 3) to codes (B, N). Needed for the row `codec-ceiling` alone."""

    def decode(self, codes: Any, starts: np.ndarray) -> np.ndarray:
        """Codes (B, F, N), with starting frames, to videos. Likewise."""


def sampled_rows(rows: Sequence[str]) -> list[str]:
    """What must be drawn for these rows."""
    return [drawn for drawn, users in _USERS.items() if users & set(rows)]


def make(
    pipe: VideoModel,
    dataset: EvalDataset,
    batch: range,
    rows: Sequence[str],
    rule: protocol.Protocol,
    params: Any,
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> tuple[dict[str, Films], Films]:
    """Every row's videos of a batch as they are judged, and how the videos really go on.

    Args:
      pipe: the model.
      dataset: the real videos.
      batch: numbers of the videos.
      rows: some of `ROWS` and `ORACLES`.
      rule: settled protocol.
      params: settings, as the model understands them.
      seeds: one per video of the footage.
      progress: told after every frame drawn of a batch.
    """
    size = rule.size_px
    true = np.stack([dataset.film(number, size) for number in batch])
    given = true if pipe.size_px == size else np.stack([dataset.film(number, pipe.size_px) for number in batch])
    part = slice(batch.start, batch.stop)
    made = {
        row: pipe.sample(given[:, 0], dataset.captions[row][part], params, seeds[part], progress)
        for row in sampled_rows(rows)
    }
    if "sentence-ignored" in rows:
        made["sentence-ignored"] = made["model"]
    is_ready = dict.fromkeys(made, getattr(pipe, "is_stored", False))  # videos from files went through a codec before
    if "copy-first" in rows:
        made["copy-first"] = np.repeat(given[:, :1], rule.num_frames, axis=1)
    if "codec-ceiling" in rows:
        made["codec-ceiling"] = codec_ceiling(pipe, given)
    if "truth" in rows:
        made["truth"] = true
    if "oracle-cross-fade" in rows:
        made["oracle-cross-fade"] = faded(given)
    judged = {
        row: made[row] if is_ready.get(row) else np.stack([as_evaluated(frames, rule) for frames in made[row]])
        for row in rows
    }
    return judged, true


def as_evaluated(frames: UInt8[np.ndarray, "F H W 3"], rule: protocol.Protocol) -> UInt8[np.ndarray, "F S S 3"]:
    """A video at the protocol's size, and after H.264 where the protocol says so."""
    frames = resized(frames, rule.size_px, rule.resize)
    if rule.storage == "raw":
        return frames
    with tempfile.TemporaryDirectory() as folder:
        path = video.save(frames, Path(folder, "video.mp4"), rule.rate)
        return read_clip(path, size_px=rule.size_px, max_frames=len(frames)).frames


def faded(videos: Films) -> Films:
    """True videos with all between their first and last frame replaced by a mixture, even in time, of these two."""
    shares = np.linspace(0, 1, videos.shape[1])
    return np.stack([cross_fade(videos[:, 0], videos[:, -1], share) for share in shares], axis=1)


def codec_ceiling(pipe: VideoModel, videos: Films) -> Films:
    """True videos through the codec alone, beside their true first frames: the best that any drawing could show."""
    codes = pipe.encode(videos.reshape(-1, *videos.shape[2:]))
    shown = pipe.decode(codes.reshape(*videos.shape[:2], -1), videos[:, 0])
    shown[:, 0] = videos[:, 0]
    return shown
