"""What flows along the line. Every record is frozen; every shape is stated once, here.

Letters: B batch, F frames, N tokens per frame, L caption tokens, K codes, D width, M negatives, C H W pixels. Where several
processes share a batch, B is the rows of one of them; `Collectives` says what it may ask of the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from cdcd_video.diffusion.schedule import Times

Rows = TypeVar("Rows", Tensor, np.ndarray, list)


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
    """Which clip each example is from; with `caption` and `caption_embedding` only where the codec's contrast asks for it."""
    caption: Int[Tensor, "B"] | None = None
    """Which distinct caption each example has."""
    caption_embedding: Float[Tensor, "B J"] | None = None
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


class Collectives:
    """What a step may ask of the other processes that share its batch. This one is alone and has the batch to itself.

    Of every batch, process `rank` of `size` has the rows rank, rank + size, rank + 2 size, ... (its own). See
    `engine.distributed` for several processes.
    """

    size: int = 1
    """How many processes there are."""

    def own(self, rows: Rows, dim: int = 0) -> Rows:
        """This process's rows, out of those of the whole batch."""
        return rows

    def num_own(self, num_rows: int) -> int:
        """How many of the first `num_rows` rows of the whole batch are this process's."""
        return num_rows

    def num_all(self, num_rows: int) -> int:
        """Rows of the whole batch, of which every process has `num_rows`."""
        return num_rows * self.size

    def gather(self, rows: Shaped[Tensor, "B ..."], num_rows: int | None = None) -> Shaped[Tensor, "A ..."]:
        """The rows of all processes, in the order of the batch; gradients flow back to where a row came from.

        Args:
          rows: this process's.
          num_rows: how many there are in all; None where every process has as many.
        """
        return rows

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes; no gradient passes."""
        return value

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes; no gradient passes."""
        return value

    def counted(self, num_own: Tensor) -> Tensor:
        """What a sum over own rows is divided by for a mean over all `num_own` of the batch; at least 1 in all."""
        return num_own.clamp_min(1)


ALONE = Collectives()


@dataclass(frozen=True)
class RowGenerator:
    """Random numbers for the rows of one process, as draws for the whole batch give them.

    Every process draws the whole batch's numbers from the same generator and keeps those of its own rows: with any number
    of processes an example meets the same noise.
    """

    generator: torch.Generator
    reduce: Collectives = ALONE

    def rand(self, *shape: int, dim: int = 0) -> Float[Tensor, "..."]:
        """Uniform in [0, 1); `shape` is of this process's part, and the batch lies along `dim`."""
        return self._sampled(torch.rand, shape, dim)

    def randn(self, *shape: int, dim: int = 0) -> Float[Tensor, "..."]:
        """Standard normal, likewise."""
        return self._sampled(torch.randn, shape, dim)

    def _sampled(self, sample: Callable[..., Tensor], shape: Sequence[int], dim: int) -> Tensor:
        whole = [self.reduce.num_all(size) if place == dim else size for place, size in enumerate(shape)]
        return self.reduce.own(sample(whole, generator=self.generator, device=self.generator.device), dim)


@dataclass(frozen=True)
class StepDraws:
    """Every random number of a training step: given them, the objective is a pure function of weights and batch.

    `training.step_draws` makes them. Any of them can be set by hand: `times` to look at one noise level, `x_t` to hand in
    the corrupted codes themselves.
    """

    times: Times
    """The step of the chain that each example looks at, and its importance weight."""
    source_noise: Float[Tensor, "B 1"]
    """How noisy each source is, as a share in [0, 1) of the largest noise."""
    source_uniforms: Float[Tensor, "B N"]
    """Which of its tokens are noise."""
    corruption: Float[Tensor, "2 B N"]
    """What x_t is drawn with; see `InterpolatingProcess.corrupt`."""
    caption_uniforms: Float[Tensor, "B 1"]
    """Which captions are dropped."""
    negative_orders: Int[Tensor, "B M c"] | None = None
    """Orders of the chunks of CDCD's intra negatives, where `loss.cdcd` asks for them."""
    shuffled_orders: Int[Tensor, "R M c"] | None = None
    """Orders of the chunks of the frame-frame term's negatives, where `loss.contrast` asks for them."""
    x_t: Int[Tensor, "B N"] | None = None
    """The corrupted codes, where they are given and not drawn."""


@dataclass(frozen=True)
class RefineDraws:
    """Random numbers of a source frame that the model samples itself, in one step from the frame before."""

    start: Float[Tensor, "2 B N"]
    """What x_1 is drawn with; see `InterpolatingProcess.start`."""
    sample: Float[Tensor, "3 B N"]
    """What x_0 is drawn with; see `Posterior.sample`."""
    row_uniforms: Float[Tensor, "B"]
    """Which examples get the sampled source."""


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
