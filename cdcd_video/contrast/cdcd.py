"""CDCD's whole loss: bound, x0 term, and the contrast that pushes negatives away, step by step or sample by sample.

    L = sum over tokens of  [KL_0 + a(s) w_aux CE_0 - c(s) w mean_m (KL_m or CE_m)] / p(t)

where KL_m is KL(q(x_s | x_t, x_0 = m) || p(x_s | x_t)) with the codes of the m-th negative in the place of the true ones
(`step`), CE_m is -log p(x_0 = m | x_t) (`sample`), and m = 0 is the truth. The subtracted terms are not bounded below,
which is why their weights are small, and why this project uses InfoNCE (`contrast.info_nce`) instead.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from cdcd_video.diffusion.loss import weighted_terms
from cdcd_video.diffusion.posterior import Posterior
from cdcd_video.diffusion.upstream_quirks import RIGHT, Quirks


@dataclass(frozen=True)
class Negatives:
    """Wrong codes and how they are used.

    Attributes:
      codes: (B, M, N) codes in 0..K-1.
      weight: w; upstream's are 5e-5 for intra and 5e-6 for inter negatives.
      mode: `step` compares the posteriors of x_s, `sample` the predictions of x_0.
    """

    codes: Int64[Tensor, "B M N"]
    weight: float
    mode: Literal["step", "sample"]


@dataclass(frozen=True)
class CdcdWeights:
    """Upstream's hyperparameters besides the negatives.

    Attributes:
      auxiliary: w_aux.
      auxiliary_time: a(s): `falling` 2 - s (images), `rising` 1 + s (upstream's copies for music and for mixed
        precision), or `flat` 1.
      contrast_time: c(s): `rising` 1 + s, or `flat` 1.
      masked: weight of tokens that are [MASK] in x_t.
      visible: weight of the others.
    """

    auxiliary: float = 5e-4
    auxiliary_time: Literal["falling", "rising", "flat"] = "falling"
    contrast_time: Literal["rising", "flat"] = "rising"
    masked: float = 1.0
    visible: float = 1.0


class CdcdLoss(NamedTuple):
    """`total`: the batch's loss in nats per token, differentiable; `per_sample`: (B,) in nats; the terms of each token.

    In `kl` and `cross_entropy` (B, N, 1 + M) the truth comes first, then the negatives in the order they were given.
    """

    total: Float[Tensor, ""]
    per_sample: Float64[Tensor, "B"]
    kl: Float64[Tensor, "B N C"]
    cross_entropy: Float64[Tensor, "B N C"]


def cdcd_loss(
    posterior: Posterior,
    logits: Float[Tensor, "B N K"],
    x0: Int64[Tensor, "B N"],
    s: Float[Tensor, "B"],
    p_t: Float[Tensor, "B"],
    weights: CdcdWeights,
    negatives: tuple[Negatives, ...] = (),
    quirks: Quirks = RIGHT,
) -> CdcdLoss:
    """CDCD's loss of one step of the chain [CDCD; VQD eq. 12].

    Args:
      posterior: the step's posteriors, from `vq_diffusion.cdcd_chain(...).posterior` or any other chain's. Where the
        chain has no uniform mass, a visible token tells x_0, and its KL terms are 0.
      s: the earlier time, on which the weights a and c depend; 0 at the first step.
      p_t: probability with which the step was sampled, for the importance weight 1 / p(t).
      negatives: none for the plain diffusion loss; any number of each kind.
      quirks: `first_step_unweighted` and `punish_truth` are used.
    """
    candidates = with_negatives(x0, negatives)
    by_token = torch.where(posterior.x_t == posterior.num_codes, weights.masked, weights.visible).double()
    if quirks.first_step_unweighted:
        by_token = torch.where((s == 0.0)[:, None], 1.0, by_token)
    scale = by_token / p_t.double()[:, None]
    kl_weight, ce_weight = push_weights(x0, s, scale, negatives, weights.contrast_time, quirks)
    kl_weight[..., 0] = scale
    ce_weight[..., 0] = weights.auxiliary * over_time(weights.auxiliary_time, s) * scale
    terms = weighted_terms(posterior, logits, candidates, kl_weight, ce_weight)
    return CdcdLoss(terms.total / x0.numel(), terms.per_token.sum(-1), terms.kl, terms.cross_entropy)


def with_negatives(x0: Int64[Tensor, "B N"], negatives: tuple[Negatives, ...]) -> Int64[Tensor, "B N C"]:
    """The true codes, then those of every negative, as candidates of `weighted_terms`."""
    return torch.cat([x0.unsqueeze(1), *(group.codes for group in negatives)], 1).transpose(1, 2)


def push_weights(
    x0: Int64[Tensor, "B N"],
    s: Float[Tensor, "B"],
    scale: Float64[Tensor, "B N"],
    negatives: tuple[Negatives, ...],
    time: str = "rising",
    quirks: Quirks = RIGHT,
) -> tuple[Float64[Tensor, "B N C"], Float64[Tensor, "B N C"]]:
    """Weights of KL and cross-entropy for `with_negatives`: -scale c(s) w / M for negatives, 0 for the truth, which comes
    first. Tokens at which a negative holds the true code have no weight, except with the quirk `punish_truth`.
    """
    num = 1 + sum(group.codes.shape[1] for group in negatives)
    kl_weight, ce_weight = torch.zeros(2, *x0.shape, num, dtype=torch.float64, device=x0.device)
    start = 1
    for group in negatives:
        end = start + group.codes.shape[1]
        push = -(group.weight / (end - start)) * over_time(time, s) * scale
        is_wrong = (group.codes != x0.unsqueeze(1)).transpose(1, 2) | quirks.punish_truth
        (kl_weight if group.mode == "step" else ce_weight)[..., start:end] = push.unsqueeze(-1) * is_wrong
        start = end
    return kl_weight, ce_weight


def over_time(kind: str, s: Float[Tensor, "B"]) -> Float64[Tensor, "B 1"]:
    """A weight over the earlier time: `falling` 2 - s, `rising` 1 + s, `flat` 1."""
    s = s.double()[:, None]
    return {"falling": 2.0 - s, "rising": 1.0 + s, "flat": torch.ones_like(s)}[kind]
