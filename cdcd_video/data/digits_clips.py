"""The captioned moving digits as clips: rendered when asked for."""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cdcd_video.config import FitMode
from cdcd_video.data.digits_files import Digits, read_mnist, stroke_digits
from cdcd_video.data.digits_world import (
    PROTOCOLS,
    VIEW_PX,
    DigitsClip,
    DigitsSplit,
    ProtocolName,
    render_clip,
    sample_clip,
)

PICTURES_PER_CLASS = 50
"""Pictures of each digit that are drawn where there are no files."""


class DigitsClips:
    """One split of a protocol.

    Args:
      path: folder with MNIST's files; None for digits drawn here.
      protocol: which world.
      split: of the combinations of digits and axes.
      num_clips: how many.
      seed: of the clips.
      fps: frames per second.

    Raises:
      UserError: a file is missing, or is not the published one.
    """

    size_px = VIEW_PX
    mode: FitMode = "crop"

    def __init__(
        self,
        path: str | None,
        protocol: ProtocolName,
        split: DigitsSplit,
        num_clips: int,
        seed: int = 0,
        fps: float = 8.0,
    ):
        self.digits, self.protocol, self.split = _digits(path), protocol, split
        self.num_clips, self.seed, self.fps = num_clips, seed, float(fps)
        self.is_stand_in = path is None
        self._clip = functools.lru_cache(maxsize=32768)(self._sample)

    def __len__(self) -> int:
        return self.num_clips

    def clip(self, clip: int) -> DigitsClip:
        """The digits of a clip and their ways."""
        if not 0 <= clip < self.num_clips:
            raise IndexError(f"clip {clip} of {self.num_clips}")
        return self._clip(int(clip))

    def name(self, clip: int) -> str:
        return f"{self.protocol}-{self.seed}-{self.split}-{clip:06d}"

    def caption(self, clip: int) -> str:
        return self.clip(clip).caption

    def captions(self, clip: int) -> tuple[str, ...]:
        return (self.caption(clip),)

    def num_frames(self, clip: int) -> int:
        return PROTOCOLS[self.protocol].num_frames

    def cuts(self, clip: int) -> tuple[int, ...]:
        return ()

    def frames(self, clip: int, indices: Sequence[int]) -> UInt8[np.ndarray, "n S S 3"]:
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < self.num_frames(clip)):
            raise IndexError(f"frames {list(indices)} of a clip that has {self.num_frames(clip)}")
        return render_clip(self.protocol, self.clip(clip), self.digits, wanted)

    def digest(self) -> str:
        # The arguments and the pictures name the clips; a few rendered frames notice a change of the protocols.
        probes = b"".join(
            self.frames(clip, [0, self.num_frames(clip) - 1]).tobytes() for clip in range(min(4, len(self)))
        )
        named = [self.protocol, self.split, self.num_clips, self.seed, self.fps, self.caption(0)]
        pictures = hashlib.sha256(self.digits.images.tobytes() + self.digits.labels.tobytes()).hexdigest()
        return hashlib.sha256(json.dumps([named, pictures, hashlib.sha256(probes).hexdigest()]).encode()).hexdigest()

    def _sample(self, clip: int) -> DigitsClip:
        return sample_clip(self.protocol, self.digits, self.seed, clip, self.split)


@functools.lru_cache(maxsize=2)
def _digits(path: str | None) -> Digits:
    return stroke_digits(PICTURES_PER_CLASS) if path is None else read_mnist(Path(path))
