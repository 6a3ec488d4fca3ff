"""What draws the next frame, and what a baseline is beside that: the seam between a video and the model that draws it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from cdcd_video.config import DiffusionConfig, LossConfig, SamplingParams
from cdcd_video.networks.conditioning import Condition
from cdcd_video.records import CodePair, LossTerms, RowGenerator


@runtime_checkable
class NextFrame(Protocol):
    """How the next frame's latents are drawn: codes (B, N), or code values (B, P, V) that never meet the grid again."""

    def begin(self, codes: Int[Tensor, "B N"]) -> Tensor:
        """The user's frame as latents of this way."""

    def next_frame(self, condition: Condition, params: SamplingParams, streams: Sequence[torch.Generator]) -> Tensor:
        """One frame further; every video draws from its own stream, and from nothing else."""


@runtime_checkable
class Likelihood(Protocol):
    """A way that can say how likely it is to draw given codes. One that walks in continuous values cannot."""

    def nll(
        self, condition: Condition, codes: Int[Tensor, "B N"], generator: torch.Generator
    ) -> Float64[Tensor, "B N"]:
        """-log p(codes | condition) without guidance, at temperature 1: nats per token, or an upper bound on their sum."""


@runtime_checkable
class Baseline(NextFrame, Protocol):
    """A network that draws frames and says what it pays: in the place of denoiser, chain and objective at once."""

    def fit_normalization(self, codes: Int[Tensor, "M N"]) -> None:
        """Codes of some training frames, once before the first step: what has to be fixed by the data is fixed now."""

    def learn(
        self,
        batch: CodePair,
        cfg: DiffusionConfig,
        loss: LossConfig,
        rows: RowGenerator,
        *,
        own_share: float = 0.0,
        temperature: float = 1.0,
    ) -> LossTerms:
        """What the baseline pays for a batch, the same batch that our denoiser would be given.

        Args:
          batch: code pairs.
          cfg: jitter of the source, dropout of captions, and whatever else the baseline knows of.
          loss: weights of tokens.
          rows: every random number; and, as `rows.reduce`, the processes that share the batch.
          own_share: share of examples whose source frame the baseline draws itself, in one pass, from the frame before it.
          temperature: of those drawings.
        """
