"""What flows along the line. Every record is frozen; every shape is stated once, here.

Letters: B batch, F frames, N tokens per frame, L caption tokens, K codes, D width, M negatives, C H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class TextStates:
    """A batch of captions as a frozen CLIP text tower sees them."""

    tokens: Float[Tensor, "B L Dt"]
    """Word-embedding layer and last layer, side by side (the first keeps every word readable, the last knows the sentence)."""
    is_word: Bool[Tensor, "B L"]
    """False on padding. A dropped caption is one single word of zeros."""
    embedding: Float[Tensor, "B J"]
    """Unit-norm caption embedding in CLIP's joint space."""


@dataclass(frozen=True)
class FramePair:
    """Two frames of one clip, the first frame of that clip, and the sentence: one training example of the codec."""

    first: Float[Tensor, "B 3 H W"]
    """The clip's starting frame, in [0, 1]."""
    source: Float[Tensor, "B 3 H W"]
    """The earlier frame."""
    target: Float[Tensor, "B 3 H W"]
    """The later frame."""
    clip: Int[Tensor, "B"] | None = None
    """Which clip each example is from; with `caption` and `said` only where the codec's contrast asks for it."""
    caption: Int[Tensor, "B"] | None = None
    """Which distinct caption each example has."""
    said: Float[Tensor, "B J"] | None = None
    """That caption's unit-norm embedding in CLIP's joint space."""


@dataclass(frozen=True)
class CodePair:
    """A `FramePair` after the codec: one training example of the diffusion."""

    source: Int[Tensor, "B N"]
    target: Int[Tensor, "B N"]
    first: Int[Tensor, "B N"]
    """Codes of the frame at which the caption began to hold."""
    has_first: Bool[Tensor, "B"]
    """False where the first frame is withheld from the model."""
    gap_s: Float[Tensor, "B"]
    """Seconds from source to target (dt)."""
    age_s: Float[Tensor, "B"]
    """Seconds from the first frame to the source."""
    text: TextStates
    clip: Int[Tensor, "B"]
    """Which clip each example is from (false negatives of the contrast are found by it)."""
    caption: Int[Tensor, "B"]
    """Which distinct caption each example has (likewise)."""
    far: Int[Tensor, "B N"]
    """Codes of a far frame of the same clip: the intra negative of the frame-frame contrast."""
    before: Int[Tensor, "B N"]
    """Codes of a frame before the source (the first frame again, where the source is the first)."""
    before_gap_s: Float[Tensor, "B"]
    """Seconds from that frame to the source."""


@dataclass(frozen=True)
class LossTerms:
    """What one step pays."""

    total: Float[Tensor, ""]
    """The scalar that is differentiated."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Every term apart, detached; nats per token unless the name carries another unit."""
    shares: Callable[[], dict[str, Tensor]] | None = None
    """Works out each term's share in the gradient. It costs as much as the loss itself, so it is for steps that are logged,
    and before the total is differentiated."""
    groups: dict[str, Float[Tensor, "2 G"]] = field(default_factory=dict)
    """What examples pay by group, detached: sums and counts, so that means over many steps weigh every example alike."""


@dataclass(frozen=True)
class Video:
    """Frames with what is needed to make them again."""

    frames: UInt8[np.ndarray, "F H W 3"]
    fps: float
    settings: dict[str, Any] = field(default_factory=dict)
    """Every drawing setting, seed, checkpoint hash and version; written beside the video."""

    def save(self, path: str | Path, *, scale: int = 1) -> Path:
        """Writes mp4, gif, webp or a folder of PNG, by the suffix.

        Args:
          path: target; no suffix means a folder of PNG.
          scale: whole-number enlargement of tiny frames, for looking at them.

        Returns:
          The path written.
        """
        from cdcd_video import video

        return video.save(self.frames, path, self.fps, scale=scale)
