"""Hidden states aligned, token by token, to the frame that is predicted and its neighbours, in the first half of a stage."""

import math

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from cdcd_video.config import CONTRAST_TERMS
from cdcd_video.contrast_terms.term_inputs import FrameLosses, StepTerm, TermInputs
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.patch_grid import square_grid
from cdcd_video.records import Grid

UNTIL = 0.5
"""Share of the stage's steps after which the term has no weight: later the alignment holds the model back (Wang et al. 2025e)."""
NEIGHBOUR = math.exp(-1.0)
"""Weight of each neighbouring frame: exp(-|k - f| / tau) with tau 1 (Hwang et al. 2025)."""
LEAST_DEVIATION = 1e-3
"""Of the code values over the places of a frame; a channel that is flat has nothing to be aligned to."""


class AlignmentHead(nn.Module):
    """Hidden states -> code values, by one 3 x 3 convolution over the grid of patches (iREPA; Singh et al. 2026a)."""

    def __init__(self, width: int, code_width: int, num_patches: int):
        super().__init__()
        self.square = square_grid(num_patches)
        self.map = nn.Conv2d(width, code_width, 3, padding=1)

    def forward(self, hidden: Float[Tensor, "B P D"], grid: Grid | None = None) -> Float[Tensor, "B P V"]:
        return self.map(hidden.unflatten(1, grid or self.square).permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)


def head_for(denoiser: Denoiser, space: CodeSpace) -> AlignmentHead:
    """A fresh head for a denoiser's states."""
    return AlignmentHead(denoiser.position.shape[1], space.groups * space.quantizer.width, space.num_patches)


def normalised(values: Float[Tensor, "B P V"]) -> Float[Tensor, "B P V"]:
    """Each channel of a frame with mean 0 and deviation 1 over its places: what all places share is not aligned (iREPA)."""
    centred = values - values.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True).sqrt() + LEAST_DEVIATION)


def alignment_loss(
    projected: Float[Tensor, "B P V"],
    target: Float[Tensor, "B P V"],
    source: Float[Tensor, "B P V"],
    after: Float[Tensor, "B P V"],
    has_after: Bool[Tensor, "B"],
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """1 - cosine to the target's values, place by place, and with a smaller weight to the frames one gap before and after.

    REPA (Yu et al. 2025) aligns to the clean frame, CREPA (Hwang et al. 2025) to its neighbours too. The two neighbours count
    only together: with the earlier one alone the states would be pulled towards standing still.

    Args:
      projected: `AlignmentHead` of the hidden states.
      target, source, after: code values of the frames at t, one gap before and one gap after.
      has_after: whether the shot has the last of these.

    Returns:
      Weighted mean of 1 - cosine of each example, in 0..2; and 1.0 where its states are nearer to the target than to the source.
    """
    near, before, behind = (
        cosine_similarity(projected, normalised(values), -1).mean(1) for values in (target, source, after)
    )
    weight = NEIGHBOUR * has_after.to(near.dtype)
    losses = (1 - near + weight * (2 - before - behind)) / (1 + 2 * weight)
    return losses, (near > before).to(near.dtype)


def alignment(inputs: TermInputs) -> FrameLosses:
    """The states after the middle block against dequantised code values; see `alignment_loss`."""
    batch, step, rows = inputs.batch, inputs.training_step, len(inputs.logits)
    assert step.hidden is not None and step.heads is not None, "the term alignment needs hidden states and its head"
    assert batch.after is not None, "the term alignment needs the frame after the target"
    projected = step.heads["alignment"](step.hidden[:rows], batch.grid).float()
    values = inputs.codec.values
    losses, wins = alignment_loss(
        projected,
        values(batch.target[:rows]),
        values(batch.source[:rows]),
        values(batch.after.codes[:rows]),
        batch.after.is_there[:rows],
    )
    # With a factor and not left out: in several processes every step must use the same weights.
    return FrameLosses(losses, wins, reads=(step.hidden,), scale=float(batch.progress < UNTIL))


CONTRAST_TERMS.register("alignment")(StepTerm(alignment, frozenset({"hidden", "after"}), head=head_for))
