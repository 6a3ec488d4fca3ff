"""Contrastive flow matching in the code space: expected code values away from those of other examples, up to a cap."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cdcd_video.config import CONTRAST_TERMS
from cdcd_video.contrast.info_nce import TIE
from cdcd_video.contrast_terms.term_inputs import FrameLosses, StepTerm, TermInputs


def capped_repulsion(
    predicted: Float[Tensor, "B P V"],
    true: Float[Tensor, "B P V"],
    others: Float[Tensor, "M P V"],
    is_negative: Bool[Tensor, "B M"],
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """How much nearer the prediction is to other examples than the truth is: max(0, |v - v'|^2 - |v_hat - v'|^2).

    Contrastive flow matching (Stoica et al. 2025) subtracts |v_hat - v'|^2 without a cap; it then is not bounded below, and
    together with |v_hat - v|^2 its optimum is not the truth but lies beyond it. Up to a constant this is the same with
    the cap |v - v'|^2 [ours]: the truth has loss 0, and where another example has the same codes nothing is pushed.

    Args:
      predicted: expected code values, patch by patch.
      true: code values of the target.
      others: those of other examples' targets, at the same places.
      is_negative: which of them are negatives of which example.

    Returns:
      Squared code values of each example, the mean over its places and negatives; and 1.0 where the whole prediction is nearer
      to the truth than to every negative. An example without negatives has loss 0 and wins.
    """
    by_place = [values.transpose(0, 1).contiguous() for values in (predicted, true, others)]
    ours, cap = (_squares(rows, by_place[2]) for rows in by_place[:2])
    excess = ((cap - ours).relu().mean(0) * is_negative).sum(1) / is_negative.sum(1).clamp_min(1)
    own = (predicted - true).square().sum((1, 2))
    nearest = ours.sum(0).masked_fill(~is_negative, float("inf")).amin(1)
    return excess, (nearest - own > TIE).to(excess.dtype)


def _squares(rows: Float[Tensor, "P B V"], columns: Float[Tensor, "P M V"]) -> Float[Tensor, "P B M"]:
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist").square()


def flow_contrast(inputs: TermInputs) -> FrameLosses:
    """Expected code values of x_0 against the targets of other clips; see `capped_repulsion`."""
    batch, codec, reduce, rows = inputs.batch, inputs.codec, inputs.reduce, len(inputs.logits)
    target, clip = batch.target[:rows], batch.clip[:rows]
    targets, clips = reduce.gather(target, inputs.num_rows), reduce.gather(clip, inputs.num_rows)
    with torch.autocast(inputs.logits.device.type, enabled=False):
        values = (inputs.expected_values, codec.values(target), codec.values(targets))
        return FrameLosses(*capped_repulsion(*values, clip[:, None] != clips))


CONTRAST_TERMS.register("flow_contrast")(StepTerm(flow_contrast))
