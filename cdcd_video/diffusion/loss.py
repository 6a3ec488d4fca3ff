"""The loss of one step of a discrete diffusion, per token, in nats.

With the posterior q(x_s | x_t, x_0) of the step and the model's p(x_0 | x_t), a code c costs

    KL_c = KL(q(x_s | x_t, x_0 = c) || p(x_s | x_t))    and    CE_c = -log p(x_0 = c | x_t).

Of the true code these are the step's term of the variational bound [D3PM eq. 1] and the x0 term [VQD eq. 12; D3PM eq. 5].
Of wrong codes (negatives), with negative weights, they are CDCD's contrast: step by step or sample by sample.

Two implementations give the same numbers, forward and backward (tests/test_fused.py): `fused_loss` reads the logits once and
writes the gradient by hand; `loss_reference` is the formula, one candidate after the other, by autograd.
"""

from typing import Literal, NamedTuple

from jaxtyping import Float, Float64, Int64
from torch import Tensor

from cdcd_video.diffusion.fused_loss import fused_terms
from cdcd_video.diffusion.loss_reference import reference_terms
from cdcd_video.diffusion.posterior import Posterior
from cdcd_video.diffusion.shapes import Logits

IMPLEMENTATIONS = {"fused": fused_terms, "reference": reference_terms}


class Terms(NamedTuple):
    """What `weighted_terms` returns; the true code is the first candidate.

    `total` is the weighted sum, differentiable in the logits; the rest is detached: `kl` and `cross_entropy` are nats per
    token and candidate, `per_token` is each token's weighted sum.
    """

    total: Float[Tensor, ""]
    kl: Float64[Tensor, "B N C"]
    cross_entropy: Float64[Tensor, "B N C"]
    per_token: Float64[Tensor, "B N"]
    kl_weight: Float[Tensor, "B #N C"]
    ce_weight: Float[Tensor, "B #N C"]

    @property
    def bound(self) -> Float64[Tensor, "B N"]:
        """The step's term of the variational bound, before its weight."""
        return self.kl[..., 0]

    @property
    def x0_nll(self) -> Float64[Tensor, "B N"]:
        """-log p(x_0 | x_t), before its weight."""
        return self.cross_entropy[..., 0]

    @property
    def contrast(self) -> Float64[Tensor, ""]:
        """The weighted sum over the negatives."""
        wrong = slice(1, None)
        by_step = self.kl_weight[..., wrong] * self.kl[..., wrong]
        return (by_step + self.ce_weight[..., wrong] * self.cross_entropy[..., wrong]).sum()


def weighted_terms(
    posterior: Posterior,
    logits: Logits,
    candidates: Int64[Tensor, "B N C"],
    kl_weight: Float[Tensor, "B #N C"],
    ce_weight: Float[Tensor, "B #N C"],
    implementation: Literal["fused", "reference"] = "fused",
) -> Terms:
    """sum over tokens and candidates of kl_weight KL_c + ce_weight CE_c, and every KL_c and CE_c by itself.

    The bound is one candidate, the truth, with a KL weight; the x0 term is the same with a CE weight; CDCD's contrast is
    further candidates, the negatives' codes, with negative weights.

    Args:
      posterior: the posteriors of the step, from `DiscreteProcess.posterior`.
      candidates: codes in 0..K-1. Where x_t can only have come from one x_0 (`Posterior.is_carried`), KL_c is 0 for every
        candidate: the model has no influence there. Where x_t is impossible it is inf.
      kl_weight, ce_weight: may be negative; constants (no gradient passes into them).
      implementation: `fused` costs O(B N M) for M candidates beside O(B N K), and its backward may run once; `reference`
        costs O(B N M K).
    """
    found = IMPLEMENTATIONS[implementation](posterior, logits, candidates, kl_weight, ce_weight)
    return Terms(*found, kl_weight, ce_weight)
