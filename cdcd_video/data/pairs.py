"""Chooses the frames of a training step as a pure function of (seed, stage, step), so that resuming needs no state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cdcd_video.data.shots import Shots
from cdcd_video.data.store import Clips
from cdcd_video.engine.runtime import to_device


@dataclass(frozen=True)
class PairIndices:
    """Frames of a batch: clip number and frame numbers within the clip; each an int array (B,). All are in one shot."""

    clip: np.ndarray
    first: np.ndarray
    """Where the shot begins: 0 in a clip without cuts."""
    source: np.ndarray
    target: np.ndarray
    far: np.ndarray
    """Another frame of the shot, as far from the target as the shot allows."""
    before: np.ndarray
    """A frame before the source, by a gap of the same distribution or several such gaps, or the first frame."""
    after: np.ndarray
    """The frame one gap after the target; the target itself where the shot ends before."""
    end: np.ndarray
    """The last frame of the shot."""


def sample_pairs(
    shots: Shots,
    batch_size: int,
    rng: np.random.Generator,
    *,
    max_gap: int | None,
    start_share: float,
    generations: int = 1,
) -> PairIndices:
    """Samples source and target frames of random clips, never across a cut.

    Args:
      shots: where the clips have shots of two frames or more; others are never sampled.
      batch_size: how many.
      rng: the step's generator.
      max_gap: largest target - source in frames (uniform from 1); None lets the two be any two frames of the shot.
      start_share: share of examples whose source is the shot's first frame.
      generations: gaps from the frame before the source to the source.
    """
    clip, first, length = shots.sample(batch_size, rng)
    gap = 1 + np.floor(rng.random(batch_size) * np.minimum(max_gap or length.max(), length - 1)).astype(np.int64)
    source = np.floor(rng.random(batch_size) * (length - gap)).astype(np.int64)
    source = np.where(rng.random(batch_size) < start_share, 0, source)
    target = source + gap
    far = np.where(target >= length / 2, 0, length - 1)
    before = np.maximum(0, source - generations * rng.permutation(gap))
    after = np.where(target + gap < length, target + gap, target)
    return PairIndices(clip, first, *(first + frame for frame in (source, target, far, before, after, length - 1)))


def with_near_sources(
    pairs: PairIndices,
    seconds: Callable[[np.ndarray, np.ndarray], Float[np.ndarray, "B"]],
    longest_s: float,
    rng: np.random.Generator,
) -> PairIndices:
    """Replaces sources that are too long ago by later ones; the first frame of a clip with a hole in its time is such a one.

    The target moves on by a frame where nothing lies between it and the shot's first frame. A frame before the source that
    is too long ago becomes the source.

    Args:
      pairs: the frames of the batch.
      seconds: from an earlier frame of each clip (B,) to a later one (B,).
      longest_s: the longest gap that stays.
      rng: the step's generator; nothing is sampled where all sources stay.
    """
    pairs = replace(pairs, before=np.where(seconds(pairs.before, pairs.source) > longest_s, pairs.source, pairs.before))
    is_far = (seconds(pairs.source, pairs.target) > longest_s) & (pairs.end >= pairs.first + 2)
    if not is_far.any():
        return pairs
    target = np.where(is_far, np.maximum(pairs.target, pairs.first + 2), pairs.target)
    between = target - pairs.first - 1
    nearer = pairs.first + 1 + np.floor(rng.random(len(target)) * between).astype(np.int64)
    source = np.where(is_far, nearer, pairs.source)
    after = np.where(2 * target - source <= pairs.end, 2 * target - source, target)
    return replace(
        pairs,
        source=source,
        target=target,
        after=np.where(is_far, after, pairs.after),
        before=np.where(is_far, source, pairs.before),
    )


def sample_last(pairs: PairIndices, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Samples a frame after the target, any up to the end of the shot.

    Args:
      pairs: the frames of the batch.
      share: of the examples that get one; never those whose target is the last frame of its shot.
      rng: the step's generator.

    Returns:
      Frame numbers (B,), and bool (B,): which examples have one.
    """
    room = pairs.end - pairs.target
    last = pairs.target + np.minimum(room, 1 + np.floor(rng.random(len(room)) * room).astype(np.int64))
    return last, (rng.random(len(room)) < share) & (room > 0)


def load_frames(
    clips: Clips,
    clip: Sequence[int] | np.ndarray,
    *frames: Sequence[int] | np.ndarray,
    device: torch.device | None = None,
) -> list[Tensor]:
    """Frames of several clips -> one tensor (B, 3, H, W) in [0, 1] per argument of frame numbers; on `device`, or the CPU.

    They go over as bytes, and what is asked of every pixel is done there.
    """
    per_clip = [clips.frames(int(c), [int(f) for f in row]) for c, *row in zip(clip, *frames, strict=True)]
    stacked = to_device(torch.from_numpy(np.stack(per_clip)), device or torch.device("cpu"))
    return list(stacked.permute(1, 0, 4, 2, 3).float().div(255))
