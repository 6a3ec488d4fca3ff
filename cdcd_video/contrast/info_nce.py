"""InfoNCE between anchors and their positives."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cdcd_video.diffusion.categorical import wide

TIE = 1e-5
"""Cosines that differ by no more are equal: the last bits of a float32 sum depend on the processor and the batch size, and
must not decide which of two equal rows wins."""


def info_nce(
    anchor: Float[Tensor, "B J"],
    positive: Float[Tensor, "B J"],
    negatives: Float[Tensor, "M J"],
    is_negative: Bool[Tensor, "B M"],
    temperature: float | Float[Tensor, ""],
    own: Float[Tensor, "B O J"] | None = None,
    is_own_negative: Bool[Tensor, "B O"] | None = None,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """-log of the positive's share among positive and negatives (InfoNCE; van den Oord et al. 2018, eq. 4).

    Args:
      anchor, positive: unit-norm rows that belong together.
      negatives: unit-norm rows, shared by all anchors.
      is_negative: which of them are negatives of which anchor; the others (false negatives) are left out.
      own: further unit-norm rows, O for each anchor and for it alone.
      is_own_negative: which of those are negatives.

    Returns:
      Nats per anchor, at least 0 and at most log(1 + M) + 2 / temperature, M the negatives that count; and 1.0 where the
      positive beats them all by more than `TIE` (a tie is no win). An anchor without negatives has loss 0 and gradient 0,
      and wins.
    """
    # In float32 even if the networks run in 16 bits: the temperature amplifies the rounding of a cosine.
    with torch.autocast(anchor.device.type, enabled=False):
        anchor, positive, negatives = wide(anchor), wide(positive), wide(negatives)
        pull = (anchor * positive).sum(-1, keepdim=True) / temperature
        push = (anchor @ negatives.T / temperature).masked_fill(~is_negative, float("-inf"))
        if own is not None and is_own_negative is not None:
            near = (anchor.unsqueeze(1) * wide(own)).sum(-1) / temperature
            push = torch.cat([push, near.masked_fill(~is_own_negative, float("-inf"))], 1)
        nats = torch.cat([pull, push], 1).logsumexp(1) - pull[:, 0]
    return nats, beats(pull, push, temperature).all(1).float()


def beats(
    own: Float[Tensor, "B #M"], others: Float[Tensor, "B M"], temperature: float | Float[Tensor, ""]
) -> Bool[Tensor, "B M"]:
    """Whether each row's own cosine is larger than the others by more than `TIE`; all are given divided by `temperature`."""
    return (own - others) * temperature > TIE


def batch_info_nce(
    anchor: Float[Tensor, "B J"],
    positive: Float[Tensor, "B J"],
    is_negative: Bool[Tensor, "B M"],
    temperature: float | Float[Tensor, ""],
    own: Float[Tensor, "B O J"] | None = None,
    is_own_negative: Bool[Tensor, "B O"] | None = None,
    *,
    symmetric: bool = False,
    among: tuple[Float[Tensor, "M J"] | None, Float[Tensor, "M J"]] | None = None,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """InfoNCE with the other positives of the batch as negatives; with `symmetric` the mean of that and of the same with
    anchors and positives exchanged (Radford et al. 2021, the loss of CLIP).

    Args:
      anchor, positive: unit-norm rows that belong together.
      is_negative: [i, j] says whether positive j is a negative of anchor i, and anchor i one of positive j. With `among`
        its columns are all M rows, and it says both of anchor j and positive i, too: being alike is mutual.
      own, is_own_negative: as for `info_nce`. They are no anchors, so only the first direction knows them.
      symmetric: whether both directions count.
      among: all anchors (where `symmetric`) and all positives of a batch, of which the rows at hand are a part; None where
        they are all.

    Returns:
      As `info_nce`; averaged over the directions.
    """
    anchors, positives = (anchor, positive) if among is None else among
    nats, wins = info_nce(anchor, positive, positives, is_negative, temperature, own, is_own_negative)
    if symmetric:
        assert anchors is not None, "both directions need the anchors of all processes"
        is_negative_back = is_negative.T if among is None else is_negative
        back, wins_back = info_nce(positive, anchor, anchors, is_negative_back, temperature)
        nats, wins = (nats + back) / 2, (wins + wins_back) / 2
    return nats, wins
