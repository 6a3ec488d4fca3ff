"""The records that data, networks and objective exchange. All are frozen.

Letters: B batch, F frames, N tokens per frame, L caption tokens, K codes, D width, M negatives, C H W pixels. If several
processes share a batch, B is the rows of one of them; see `Collectives`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from cdcd_video.diffusion.schedule import Times

Rows = TypeVar("Rows", Tensor, np.ndarray, list)
Grid = tuple[int, int]
"""Rows and columns of a frame's patches. Patches, and the codes of each, lie one row after another."""


@dataclass(frozen=True)
class TextStates:
    """A batch of captions, encoded by a frozen CLIP text tower."""

    tokens: Float[Tensor, "B L Dt"]
    """Word-embedding layer and last layer, concatenated: the first keeps every word, the last encodes the sentence."""
    is_word: Bool[Tensor, "B L"]
    """False on padding. The empty caption is one word of zeros."""
    embedding: Float[Tensor, "B J"]
    """Unit-norm caption embedding in CLIP's joint space."""

    def of_rows(self, rows: slice | Int[Tensor, "R"]) -> "TextStates":
        """Some rows of the batch."""
        return TextStates(self.tokens[rows], self.is_word[rows], self.embedding[rows])


@dataclass(frozen=True)
class FramePair:
    """Two frames of one clip, the first frame of that clip, and its caption: training examples of the codec."""

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
class WrongSentences:
    """A sentence for each example that says something else, for a contrast between sentences."""

    text: TextStates
    is_wrong: Bool[Tensor, "B"]
    """False where none was found; the sentence is then any."""


@dataclass(frozen=True)
class FrameAfter:
    """The frame one gap after the target."""

    codes: Int[Tensor, "B N"]
    is_there: Bool[Tensor, "B"]
    """False where the shot ends before; the codes are then the target's."""


@dataclass(frozen=True)
class LastFrame:
    """A later frame that is given, between which and the first one a video is sampled."""

    codes: Int[Tensor, "B N"]
    is_there: Bool[Tensor, "B"]
    """False where there is none; the codes then mean nothing."""
    until_s: Float[Tensor, "B"]
    """Seconds from the target to it."""

    def of_rows(self, rows: slice | Int[Tensor, "R"]) -> "LastFrame":
        """Some rows of the batch."""
        return LastFrame(self.codes[rows], self.is_there[rows], self.until_s[rows])


@dataclass(frozen=True)
class CodePair:
    """A `FramePair` after the codec: training examples of the diffusion."""

    source: Int[Tensor, "B N"]
    target: Int[Tensor, "B N"]
    first: Int[Tensor, "B N"]
    """Codes of the frame at which the caption begins."""
    has_first: Bool[Tensor, "B"]
    """False where the first frame is dropped from the condition."""
    gap_s: Float[Tensor, "B"]
    """Seconds from source to target (dt)."""
    age_s: Float[Tensor, "B"]
    """Seconds from the first frame to the source."""
    text: TextStates
    clip: Int[Tensor, "B"]
    """Which clip each example is from (to find false negatives of the contrast)."""
    caption: Int[Tensor, "B"]
    """Which distinct caption each example has (likewise)."""
    far: Int[Tensor, "B N"]
    """Codes of a far frame of the same clip: the intra negative of the frame-frame contrast."""
    before: Int[Tensor, "B N"]
    """Codes of a frame before the source (the first frame again, where the source is the first)."""
    before_gap_s: Float[Tensor, "B"]
    """Seconds from that frame to the source."""
    generations: int = 1
    """In how many samples, evenly apart, the model goes from that frame to a source of its own."""
    counterfactual: WrongSentences | None = None
    """For the term `counterfactual`."""
    after: FrameAfter | None = None
    """For the term `alignment`."""
    last: LastFrame | None = None
    """A frame after the target; None where `diffusion.last_share` is 0."""
    progress: float = 0.0
    """Share of the stage's batches before this one, for terms that end early."""
    grid: Grid | None = None
    """Of all these frames; None: the square grid that the networks were built for."""


class Collectives:
    """Collective operations of the processes that share a batch; here those of a single process.

    Of every batch, process `rank` of `size` has the rows rank, rank + size, rank + 2 size, ... (its own).
    `engine.distributed` has those of several processes.
    """

    size: int = 1
    """Number of processes."""

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
        """The divisor that makes a sum over own rows a mean over the `num_own` of the batch, at least 1 in all."""
        return num_own.clamp_min(1)


ALONE = Collectives()


@dataclass(frozen=True)
class RowGenerator:
    """Random numbers for the rows of one process.

    Every process generates the numbers of the whole batch and keeps those of its own rows, so that an example gets the same
    noise with any number of processes.
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
    """All random numbers of a training step: given them, the objective is a pure function of weights and batch.

    `training.step_draws` makes them. Any of them can be set by hand, such as `times` for one noise level, or `x_t` for given
    corrupted codes.
    """

    times: Times
    """The step of the chain of each example, and its importance weight."""
    source_noise: Float[Tensor, "B 1"]
    """How noisy each source is, as a share in [0, 1) of the largest noise."""
    source_uniforms: Float[Tensor, "B N"]
    """Which of its tokens are noise."""
    corruption: Float[Tensor, "2 B N"]
    """For x_t; see `InterpolatingProcess.corrupt`."""
    caption_uniforms: Float[Tensor, "B 1"]
    """Which captions are dropped."""
    negative_orders: Int[Tensor, "B M c"] | None = None
    """Orders of the chunks of CDCD's intra negatives, if `loss.cdcd` has them."""
    shuffled_orders: Int[Tensor, "R M c"] | None = None
    """Orders of the chunks of the frame-frame term's negatives, if `loss.contrast` has them."""
    x_t: Int[Tensor, "B N"] | None = None
    """The corrupted codes, if they are given."""


@dataclass(frozen=True)
class RefineDraws:
    """Random numbers of source frames that the model samples itself, generation by generation."""

    start: Float[Tensor, "G 2 B N"]
    """For x_1; see `InterpolatingProcess.start`."""
    sample: Float[Tensor, "G 3 B N"]
    """For x_s; see `Posterior.sample`."""
    row_uniforms: Float[Tensor, "B"]
    """Which examples get the sampled source."""


@dataclass(frozen=True)
class LossTerms:
    """The loss of one step."""

    total: Float[Tensor, ""]
    """The scalar that is differentiated."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Every term, detached; nats per token unless the name has another unit."""
    shares: Callable[[], dict[str, Tensor]] | None = None
    """Computes each term's share of the gradient. It costs as much as the loss itself, so it is for logged steps, and must be
    called before the total is differentiated."""
    groups: dict[str, Float[Tensor, "2 G"]] = field(default_factory=dict)
    """Values of examples by group, detached: sums and counts, so that means over steps weight all examples equally."""
