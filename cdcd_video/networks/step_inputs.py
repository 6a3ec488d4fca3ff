"""Inputs and token weights of a training step, the same for the denoiser and every baseline."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from cdcd_video.config import LossConfig
from cdcd_video.networks.conditioning import Condition
from cdcd_video.records import ALONE, CodePair, Collectives, LastFrame


def noisy_source(
    codes: Shaped[Tensor, "B N *d"],
    most: float,
    noise: Float[Tensor, "B 1"],
    uniforms: Float[Tensor, "B N"],
    reduce: Collectives = ALONE,
) -> Shaped[Tensor, "B N *d"]:
    """Source codes (or their values) with errors like those of a roll-out: some tokens are another example's.

    Args:
      most: the largest share of tokens that are replaced.
      noise: in [0, 1), which part of that share each example gets.
      uniforms: in [0, 1), which tokens are replaced.
    """
    is_wrong = uniforms < most * noise
    others = reduce.own(reduce.gather(codes).roll(1, 0))
    return torch.where(is_wrong.view(*is_wrong.shape, *[1] * (codes.ndim - 2)), others, codes)


def token_weights(batch: CodePair, loss: LossConfig) -> Float[Tensor, "B N"]:
    """Weight of each token in L_aux: `changed` for tokens that change, `still_clip` for clips in which none does."""
    changed = batch.target != batch.source
    weight = 1 + (loss.changed - 1) * changed.float()
    return torch.where(changed.any(1, keepdim=True), weight, weight * loss.still_clip)


def weight_sum(weight: Float[Tensor, "..."], reduce: Collectives = ALONE) -> Float[Tensor, ""]:
    """The divisor that makes a weighted sum a mean over the whole batch; tiny instead of 0 where no token has a weight."""
    return reduce.mean(weight.sum()).clamp_min(torch.finfo(weight.dtype).tiny)


def masked_mean(values: Float[Tensor, "B *N"], mask: Tensor, reduce: Collectives = ALONE) -> Float[Tensor, ""]:
    """Mean where `mask` holds; 0 where it holds nowhere. Its mean over the processes is that of the whole batch."""
    return (values * mask).sum() / reduce.counted(mask.sum())


def condition_before(batch: CodePair) -> Condition:
    """The condition of the source frame itself: the frame before it, and the same caption."""
    return conditions_before(batch, 1)[0]


def conditions_before(batch: CodePair, num: int) -> list[Condition]:
    """Conditions of frames evenly apart between `before` and the source, the source last; each has `before` as its source."""
    gap_s = batch.before_gap_s / num
    since_s = [batch.before_gap_s - passed * gap_s for passed in range(num)]  # from each one's source to the last
    ages_s = [(batch.age_s - rest_s).clamp_min(0) for rest_s in since_s]  # 0 where there is no first frame
    lasts = [_last_after(batch, after_s - gap_s) for after_s in since_s]
    known = (batch.before, batch.first, batch.has_first, gap_s)
    return [
        Condition(*known, age_s, batch.text, last=last, grid=batch.grid)
        for age_s, last in zip(ages_s, lasts, strict=True)
    ]


def _last_after(batch: CodePair, rest_s: Float[Tensor, "B"]) -> LastFrame | None:
    """The last frame as it is from a target `rest_s` before the batch's source."""
    return batch.last and replace(batch.last, until_s=batch.last.until_s + batch.gap_s + rest_s)


def gets_own_source(batch: CodePair, share: float, uniforms: Float[Tensor, "B"]) -> Bool[Tensor, "B"]:
    """Which examples get a source frame that the model sampled; never where the source is the first frame."""
    return (uniforms < share) & (batch.before_gap_s > 0)
