"""Each term's share of the gradient at the outputs of the network."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cdcd_video.diffusion.loss import weighted_terms
from cdcd_video.diffusion.posterior import Posterior


def gradient_shares(
    logits: Float[Tensor, "B N K"],
    posterior: Posterior,
    candidates: Int64[Tensor, "B N C"],
    kl_weight: Float[Tensor, "B N C"],
    ce_weight: Float[Tensor, "B N C"],
    others: Mapping[str, Float[Tensor, ""]],
    over_all: Callable[[Tensor], Tensor] = lambda own: own,
    reads: Mapping[str, tuple[Tensor, ...]] | None = None,
) -> dict[str, Tensor]:
    """Norm of each weighted term's gradient at the logits, over the sum of these norms.

    The norms do not add up to the norm of the whole gradient, since terms may have opposite directions.

    Args:
      logits: of x_0 given x_t; if they are part of a graph, it is kept.
      candidates: codes as for `weighted_terms`: the true ones first, then those of CDCD's negatives.
      kl_weight, ce_weight: their weights: of the truth those of `bound` and `auxiliary`, of the rest those of `cdcd`.
      others: further weighted terms by name, differentiable in `logits` or in what `reads` names.
      over_all: sums over the processes that share a batch, where several do.
      reads: further outputs of the network that one of `others` depends on, such as the logits of a second pass; its norm is
        that of all these gradients together.

    Returns:
      The shares by name; all 0 where no term has a gradient.
    """
    truth, rest = slice(0, 1), slice(1, None)
    parts = dict(
        bound=(truth, kl_weight[..., truth], torch.zeros_like(ce_weight[..., truth])),
        auxiliary=(truth, torch.zeros_like(kl_weight[..., truth]), ce_weight[..., truth]),
    )
    if candidates.shape[-1] > 1:
        parts["cdcd"] = (rest, kl_weight[..., rest], ce_weight[..., rest])
    norms = {}
    for name, (which, on_kl, on_ce) in parts.items():
        at = logits.detach().requires_grad_()
        total = weighted_terms(posterior, at, candidates[..., which], on_kl, on_ce).total
        norms[name] = torch.autograd.grad(total, at)[0].norm()
    for name, term in others.items():
        outputs = (logits, *(reads or {}).get(name, ()))
        slopes = torch.autograd.grad(term, outputs, retain_graph=True, allow_unused=True)
        found = [slope.norm() for slope in slopes if slope is not None]
        norms[name] = found[0] if len(found) == 1 else torch.stack(found).norm()
    norms = {name: over_all(norm.square()).sqrt() for name, norm in norms.items()}
    whole = torch.stack(list(norms.values())).sum().clamp_min(torch.finfo(torch.float32).tiny)
    return {name: norm / whole for name, norm in norms.items()}
