"""What samples the next frame, and what a baseline must offer besides: the interface between pipeline and models."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from cdcd_video.config import DiffusionConfig, LossConfig, SamplingParams
from cdcd_video.networks.conditioning import Condition
from cdcd_video.records import CodePair, LossTerms, RowGenerator


@runtime_checkable
class NextFrame(Protocol):
    """Samples the latents of the next frame: codes (B, N), or code values (B, P, V), which are never rounded to codes."""

    def begin(self, codes: Int[Tensor, "B N"]) -> Tensor:
        """Latents of the first frame, from its codes."""

    def next_frame(self, condition: Condition, params: SamplingParams, streams: Sequence[torch.Generator]) -> Tensor:
        """Latents of the next frame; every video has its own stream of random numbers, and uses no other."""


@runtime_checkable
class ExpectedValues(Protocol):
    """A way that can also say what it expected of a frame, before it sampled codes."""

    def next_frame_and_values(
        self, condition: Condition, params: SamplingParams, streams: Sequence[torch.Generator]
    ) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B P V"]]:
        """The codes of `next_frame`, and the expected code values under the last reverse step's p(x0 | x_t) at temperature 1."""


@runtime_checkable
class Likelihood(Protocol):
    """A model that assigns a likelihood to codes. A model of continuous values does not."""

    def nll(
        self, condition: Condition, codes: Int[Tensor, "B N"], generator: torch.Generator
    ) -> Float64[Tensor, "B N"]:
        """-log p(codes | condition) without guidance, at temperature 1: nats per token, or an upper bound on their sum."""


@runtime_checkable
class CodePrediction(Protocol):
    """A model that predicts each code of the next frame from the condition, so that captions can be compared by it."""

    def code_nats(
        self, condition: Condition, codes: Int[Tensor, "B N"], generator: torch.Generator
    ) -> Float64[Tensor, "B N"]:
        """Cross-entropy of the codes, nats per token, without guidance and at temperature 1.

        Of the diffusion -log p(x_0 = codes | x_1, condition), where x_1 is fully corrupted; of a causal model
        -log p(code | codes before it, condition).
        """


@runtime_checkable
class Baseline(NextFrame, Protocol):
    """A network in the place of denoiser, process and objective: it samples frames and computes its own loss."""

    def fit_normalization(self, codes: Int[Tensor, "M N"]) -> None:
        """Called once, before the first step, with codes of training frames, or of their patches: fixes what depends on them."""

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
        """The loss of a batch, the same batch that the denoiser would be given.

        Args:
          cfg: noise of the source, dropout of captions, and whatever else the baseline uses.
          rows: all random numbers; and, as `rows.reduce`, the processes that share the batch.
          own_share: share of examples whose source frame the baseline samples itself, in one pass, from the frame before it;
            where `batch.generations` is above 1, the frames between as well, one from the other.
          temperature: of these samples.
        """
