"""What a contrastive term is given, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cdcd_video.config import ContrastConfig
from cdcd_video.diffusion.posterior import Posterior
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.conditioning import Condition, of_rows
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_encoder import StepTextEncoder
from cdcd_video.records import ALONE, CodePair, Collectives, TextStates

Need = Literal["hidden", "reference", "counterfactual", "after"]
"""What a term needs beside the logits: the denoiser's hidden states, a frozen earlier self of it, a wrong sentence for each
example, the frame after the target. It costs nothing where no term with a weight needs it."""


@dataclass(frozen=True)
class DenoisingStep:
    """The call of the denoiser that gave the logits, for terms that ask the network more than once. All rows of the batch."""

    denoiser: Denoiser
    x_t: Int[Tensor, "B N"]
    t: Float[Tensor, "B"]
    condition: Condition
    """With captions dropped and the source noisy, as the denoiser was given it."""
    has_caption: Bool[Tensor, "B"]
    """False where the caption was dropped."""
    hidden: Float[Tensor, "B P D"] | None = None
    """States after the middle block, with gradient; for terms that need `hidden`."""
    reference: Denoiser | None = None
    """The frozen earlier self, in the stage that has one."""
    heads: nn.ModuleDict | None = None
    """Networks of terms, trained with the denoiser and thrown away after training, by the term's name."""

    def logits_with(self, text: TextStates, rows: Int[Tensor, "R"]) -> Float[Tensor, "R N K"]:
        """The denoiser's logits of some rows for other sentences (R of them), at the same x_t and t."""
        return self.denoiser(self.x_t[rows], self.t[rows], replace(of_rows(self.condition, rows), text=text))

    @torch.no_grad()
    def reference_logits(self, rows: int) -> Float[Tensor, "R N K"]:
        """The earlier self's logits of the first rows, without gradient."""
        assert self.reference is not None, "this stage has no earlier self"
        return self.reference(self.x_t[:rows], self.t[:rows], of_rows(self.condition, slice(rows)))


@dataclass(frozen=True)
class TermInputs:
    """What a term may use: this process's B rows of the compared share of the batch, `num_rows` over all processes."""

    logits: Float[Tensor, "B N K"]
    """Of x_0 given x_t, with gradient."""
    posterior: Posterior | None
    """Of the step; all rows of the batch."""
    batch: CodePair
    """The whole batch of this process; its first B rows are compared."""
    codec: CodeSpace
    cfg: ContrastConfig
    num_rows: int
    orders: Int[Tensor, "R M c"] | None = None
    """Orders of the chunks of shuffled negatives, if `frame_frame` has any."""
    step_encoder: StepTextEncoder | None = None
    reduce: Collectives = ALONE
    step: DenoisingStep | None = None
    """The call that gave the logits; `training_step` is what a term uses."""

    @property
    def training_step(self) -> DenoisingStep:
        """The call that gave the logits."""
        assert self.step is not None, "a term that asks the denoiser again needs the call that gave the logits"
        return self.step

    @cached_property
    def probabilities(self) -> Float[Tensor, "B N K"]:
        """p(x_0 | x_t), with gradient."""
        return self.logits.float().softmax(-1)

    @cached_property
    def soft_codes(self) -> Float[Tensor, "B N K"]:
        """p(x_0 | x_t), or p(x_s | x_t) for `level: step`, of the predicted frames, with gradient."""
        if self.cfg.level == "sample":
            return self.probabilities
        assert self.posterior is not None, "soft codes of x_s need the posteriors of the step"
        return self.posterior.head(len(self.logits)).code_distribution(self.probabilities)

    @cached_property
    def embedding(self) -> Float[Tensor, "B J"]:
        """`codec.embed_soft(soft_codes)`: the predicted frames in the joint space."""
        return self.codec.embed_soft(self.soft_codes, self.batch.grid)

    @cached_property
    def expected_values(self) -> Float[Tensor, "B P V"]:
        """Code values that are expected of x_0, patch by patch, with gradient; in float32, since their distances are small."""
        with torch.autocast(self.logits.device.type, enabled=False):
            return self.codec.soft_values(self.probabilities)

    @cached_property
    def is_open(self) -> Bool[Tensor, "B N"]:
        """Tokens whose x_0 is not known from x_t; on the others no loss depends on the model."""
        if self.posterior is None:
            return torch.ones(self.logits.shape[:2], dtype=torch.bool, device=self.logits.device)
        return ~self.posterior.head(len(self.logits)).is_carried


@dataclass(frozen=True)
class Candidates:
    """Positives and negatives of the anchors; see `contrast.info_nce.batch_info_nce`."""

    positive: Float[Tensor, "B J"]
    is_negative: Bool[Tensor, "B M"]
    """Its columns are the rows of all processes that share the batch."""
    own: Float[Tensor, "B O J"] | None = None
    is_own_negative: Bool[Tensor, "B O"] | None = None


@dataclass(frozen=True)
class Comparison:
    """Each anchor with its positive, against its negatives: the loss is InfoNCE on their cosines."""

    anchor: Float[Tensor, "B J"]
    candidates: Candidates


@dataclass(frozen=True)
class FrameLosses:
    """The loss of each compared frame, by a formula of the term's own.

    Attributes:
      losses: one for each frame.
      wins: of each frame, in 0..1, how far the truth scores above what it is compared with.
      is_compared: the frames that the mean is over; None for all. The others' losses are 0.
      reads: outputs of networks through which the gradient flows, beside the logits.
      scale: factor of the weight, such as 0 for a term that ends early.
    """

    losses: Float[Tensor, "B"]
    wins: Float[Tensor, "B"]
    is_compared: Bool[Tensor, "B"] | None = None
    reads: tuple[Tensor, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class StepTerm:
    """A term with a loss of its own, and what it needs beside the logits.

    Attributes:
      compute: the term.
      needs: without its `reference`, which not every stage has, the term is left out.
      head: makes the network that is trained for this term alone, of the denoiser and the code space; None for none.
    """

    compute: Callable[[TermInputs], FrameLosses]
    needs: frozenset[Need] = frozenset()
    head: Callable[[Denoiser, CodeSpace], nn.Module] | None = None

    def __call__(self, inputs: TermInputs) -> FrameLosses:
        return self.compute(inputs)


@dataclass(frozen=True)
class ContrastTerm:
    """One term of a batch.

    Attributes:
      weighted: the part of the loss, differentiable.
      nats: mean over the compared frames, before the weight; terms with a loss of their own may have another unit.
      wins: share of them whose positive scores above all negatives; mean of both directions, if there are two.
      temperature: of the cosines; None for a term with a loss of its own.
      reads: outputs of networks through which its gradient flows, beside the logits.
    """

    weighted: Float[Tensor, ""]
    nats: Float[Tensor, ""]
    wins: Float[Tensor, ""]
    temperature: float | Float[Tensor, ""] | None
    reads: tuple[Tensor, ...] = ()
