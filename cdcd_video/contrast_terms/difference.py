"""The predicted step to the next frame, place by place, against the zero step, the reversed step and those of other clips.

The frame-frame term pulls the predicted frame to the earlier one, so standing still is its optimum. Here the positive is the
true step and standing still is a negative. Places are compared one by one, since a pooled frame does not say where it moved.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cdcd_video.config import CONTRAST_TERMS
from cdcd_video.contrast.info_nce import TIE
from cdcd_video.contrast_terms.term_inputs import FrameLosses, StepTerm, TermInputs


def step_info_nce(
    predicted: Float[Tensor, "B P V"],
    true: Float[Tensor, "B P V"],
    others: Float[Tensor, "M P V"],
    is_negative: Bool[Tensor, "B M"],
    temperature: float,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """InfoNCE (van den Oord et al. 2018, eq. 4) between steps at a place, with minus the distance as their score [ours].

    By the triangle inequality the true step has the least loss of all, and no step is farther behind the zero step than the
    zero step itself. Cosines would not do: they do not tell a step from a tenth of it. Nor would squared distances, whose
    loss goes on falling beyond the true step.

    Args:
      predicted: change of the code values, patch by patch.
      true: likewise, from the source to the target.
      others: true steps of other examples, at the same places.
      is_negative: which of them are negatives of which example. At places where one equals the true step it is none.

    Returns:
      Nats of each example, the mean over the places that change; and the share of these whose step is nearest to the true
      one. An example in which nothing changes has loss 0 and wins.
    """
    changed = (true != 0).any(-1)
    pull = -torch.linalg.vector_norm(predicted - true, dim=-1) / temperature
    still = -torch.linalg.vector_norm(predicted, dim=-1) / temperature
    back = -torch.linalg.vector_norm(predicted + true, dim=-1) / temperature
    by_place = [values.transpose(0, 1).contiguous() for values in (predicted, true, others)]
    push = -_distances(by_place[0], by_place[2]) / temperature
    is_wrong = is_negative & (_distances(by_place[1], by_place[2]) > TIE)
    push = push.masked_fill(~is_wrong, float("-inf")).transpose(0, 1)
    scores = torch.cat([torch.stack([pull, still, back], -1), push], -1)
    nats = scores.logsumexp(-1) - pull
    wins = ((pull - scores[..., 1:].amax(-1)) * temperature > TIE).to(nats.dtype)
    count = changed.sum(1)
    share = changed / count.clamp_min(1)[:, None]
    return (nats * share).sum(1), torch.where(count > 0, (wins * share).sum(1), 1.0)


def _distances(rows: Float[Tensor, "P B V"], columns: Float[Tensor, "P M V"]) -> Float[Tensor, "P B M"]:
    """Euclidean distances at each place, from differences: by products the distance of equal rows would not be 0."""
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")


def difference(inputs: TermInputs) -> FrameLosses:
    """The predicted step of code values from the source to x_0; see `step_info_nce`."""
    batch, codec, reduce, rows = inputs.batch, inputs.codec, inputs.reduce, len(inputs.logits)
    with torch.autocast(inputs.logits.device.type, enabled=False):
        source, target, clip = batch.source[:rows], batch.target[:rows], batch.clip[:rows]
        sources, targets, clips = (reduce.gather(own, inputs.num_rows) for own in (source, target, clip))
        earlier, true = codec.values(source), codec.values(target)
        losses, wins = step_info_nce(
            inputs.expected_values - earlier,
            true - earlier,
            codec.values(targets) - codec.values(sources),
            clip[:, None] != clips,
            inputs.cfg.temperature,
        )
    return FrameLosses(losses, wins)


CONTRAST_TERMS.register("difference")(StepTerm(difference))
