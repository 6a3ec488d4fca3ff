"""InfoNCE between drawn frames and what they should be close to."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def info_nce(
    anchor: Float[Tensor, "B J"],
    positive: Float[Tensor, "B J"],
    negatives: Float[Tensor, "M J"],
    is_negative: Bool[Tensor, "B M"],
    temperature: float,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """-log of the positive's share among positive and negatives (InfoNCE; van den Oord et al. 2018, eq. 4).

    Args:
      anchor, positive: unit-norm rows that belong together.
      negatives: unit-norm rows, shared by all anchors.
      is_negative: which of them are negatives of which anchor; the others (false negatives) are left out.
      temperature: of the cosines.

    Returns:
      Nats per anchor, at least 0 and at most log(1 + M) + 2 / temperature; and 1.0 where the positive wins.
    """
    pull = (anchor * positive).sum(-1, keepdim=True) / temperature
    push = (anchor @ negatives.T / temperature).masked_fill(~is_negative, float("-inf"))
    scores = torch.cat([pull, push], 1)
    return scores.logsumexp(1) - pull[:, 0], (pull[:, 0] >= scores.amax(1)).float()
