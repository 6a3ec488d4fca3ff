"""Clips of several sizes: every clip belongs to one bucket, and every batch is of one bucket and so of one size."""

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video.data.cache import CodeCache
from cdcd_video.data.store import Clips, digest_of


class BucketedClips:
    """Clips of several sizes, one bucket after another.

    Args:
      buckets: clips of one size each; all of one rate.
    """

    def __init__(self, buckets: Sequence[Clips]):
        self.buckets = tuple(buckets)
        first = self.buckets[0]
        self.size_px, self.fps, self.mode = first.size_px, first.fps, first.mode
        self._begins = np.cumsum([0, *map(len, self.buckets)])

    def __len__(self) -> int:
        return int(self._begins[-1])

    def name(self, clip: int) -> str:
        return self._of(clip, "name")

    def caption(self, clip: int) -> str:
        return self._of(clip, "caption")

    def captions(self, clip: int) -> tuple[str, ...]:
        return self._of(clip, "captions")

    def num_frames(self, clip: int) -> int:
        return self._of(clip, "num_frames")

    def cuts(self, clip: int) -> tuple[int, ...]:
        return self._of(clip, "cuts")

    def frames(self, clip: int, indices: Sequence[int]) -> UInt8[np.ndarray, "n H W 3"]:
        return self._of(clip, "frames", indices)

    def digest(self) -> str:
        return digest_of({"buckets": [bucket.digest() for bucket in self.buckets]})

    def _of(self, clip: int, what: str, *given: Any) -> Any:
        if not 0 <= clip < len(self):
            raise IndexError(f"clip {clip} of {len(self)}")
        bucket = int(np.searchsorted(self._begins, clip, side="right")) - 1
        return getattr(self.buckets[bucket], what)(clip - int(self._begins[bucket]), *given)


class BucketedCaches:
    """The caches of the buckets of some clips, in their order.

    Attributes:
      buckets: a cache for each size; all of one codec.
    """

    def __init__(self, buckets: Sequence[CodeCache]):
        self.buckets = tuple(buckets)

    def __len__(self) -> int:
        return sum(map(len, self.buckets))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of those of the buckets."""
        return digest_of({"buckets": [bucket.digest for bucket in self.buckets]})


Caches = CodeCache | BucketedCaches
"""Of one size, or of several."""


def buckets_of(clips: Any) -> tuple[Any, ...]:
    """The buckets of clips, or of caches; those of one size are their only bucket."""
    return clips.buckets if isinstance(clips, BucketedClips | BucketedCaches) else (clips,)


def sampled_bucket(buckets: Sequence[Sized], rng: np.random.Generator) -> int:
    """Which bucket a batch is of, in proportion to their clips.

    For a single bucket nothing is sampled: the generator goes on as if there were no buckets.
    """
    if len(buckets) == 1:
        return 0
    counts = np.cumsum([len(bucket) for bucket in buckets])
    return int(np.searchsorted(counts, rng.integers(counts[-1]), side="right"))


def size_of(clips: Clips) -> tuple[int, int]:
    """Height and width of the frames of clips of one size, px."""
    height, width = clips.frames(0, [0]).shape[1:3]
    return int(height), int(width)


def spread(clips: Clips, most: int) -> list[tuple[Clips, list[int]]]:
    """The first clips of every bucket, about as many of each and `most` in all, for pictures and figures.

    Returns:
      For each bucket its clips, and numbers among them.
    """
    buckets = [bucket for bucket in buckets_of(clips) if len(bucket)][:most]
    shares = [most * (place + 1) // len(buckets) - most * place // len(buckets) for place in range(len(buckets))]
    return [(bucket, list(range(min(share, len(bucket))))) for bucket, share in zip(buckets, shares, strict=True)]


def mean_figures(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over buckets of figures that each of them has; those of a single bucket as they are."""
    if len(found) == 1:
        return found[0]
    shared = [name for name in found[0] if all(name in figures for figures in found)]
    return {name: float(np.mean([figures[name] for figures in found])) for name in shared}
