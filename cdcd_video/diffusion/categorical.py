"""Categorical distributions in log space: safe logarithms, sampling from a uniform number, truncation, guidance."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_COLDEST = 1e-30
"""Below this, logits / temperature overflow float32, and the likeliest code has all the mass anyway."""

LOG_ZERO = -1.0e30
"""Stands for log 0 where gradients flow: its exp is exactly 0, but differences and products with 0 stay finite."""


def safe_log(p: Tensor) -> Tensor:
    """log p, with `LOG_ZERO` where p is 0. For constants only, without gradient."""
    return torch.where(p > 0, p.clamp(min=torch.finfo(p.dtype).tiny).log(), LOG_ZERO)


def wide(values: Tensor) -> Tensor:
    """Numbers of 16 bits as float32; wider ones as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def sample_categorical(p: Float[Tensor, "*batch K"], uniform: Float[Tensor, "*batch"]) -> Int64[Tensor, "*batch"]:
    """Samples an index in proportion to p, from one uniform number (inversion of the distribution function).

    An index of weight 0 is never sampled, not even by rounding. A row's result does not depend on the other rows. Weights of
    16 bits are summed in float32: in a sum of their own precision most of many small ones would vanish.

    Args:
      p: weights, not negative, with a positive sum; they need not be normalised.
      uniform: numbers in [0, 1).
    """
    mass = wide(p).cumsum(-1)
    total = mass[..., -1:]
    level = torch.minimum(
        uniform.unsqueeze(-1).to(total.dtype) * total, torch.nextafter(total, torch.zeros_like(total))
    )
    return torch.searchsorted(mass, level, right=True).squeeze(-1)


def truncate_logits(
    logits: Float[Tensor, "*batch K"], temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0
) -> Float[Tensor, "*batch K"]:
    """Applies temperature, top-p and top-k to a distribution, and normalises it.

    Args:
      logits: log-probabilities up to a constant.
      temperature: divides the logits; 0 puts all mass on the first largest.
      top_p: in (0, 1], keeps the smallest set of likeliest codes that holds at least this mass (Holtzman et al. 2020);
        1 keeps all. The truncation of VQ-Diffusion and CDCD, "top0.85r", is this same set at top_p = 0.85; they do not
        normalise afterwards, which does not change the samples: the reverse step is linear in p(x_0).
      top_k: keeps this many likeliest codes; 0 keeps all.

    Returns:
      Log-probabilities, -inf where cut off; in float32 for logits of 16 bits.

    Raises:
      ValueError: if an argument is out of its range.
    """
    if not temperature >= 0.0 or not 0.0 < top_p <= 1.0 or top_k < 0:  # NaN is not at least 0
        raise ValueError(f"need temperature >= 0, 0 < top_p <= 1, top_k >= 0; got {temperature}, {top_p}, {top_k}")
    logits = wide(logits)
    if temperature < _COLDEST:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter_(-1, best, 0.0)
    log_p = torch.log_softmax(logits / temperature, -1)
    num_codes = log_p.shape[-1]
    if top_p == 1.0 and not 0 < top_k < num_codes:
        return log_p
    ranked, order = torch.sort(log_p, dim=-1, descending=True, stable=True)
    is_cut = torch.zeros_like(ranked, dtype=torch.bool)
    if top_p < 1.0:
        mass = ranked.exp()
        is_cut |= mass.cumsum(-1) - mass >= top_p  # the likelier ones have enough mass already
    if top_k > 0:
        is_cut[..., top_k:] = True
    is_cut[..., 0] = False
    return torch.log_softmax(log_p.masked_fill(torch.zeros_like(is_cut).scatter_(-1, order, is_cut), -torch.inf), -1)


def guided(
    conditional: Float[Tensor, "*batch K"], unconditional: Float[Tensor, "*batch K"], scale: float
) -> Float[Tensor, "*batch K"]:
    """Classifier-free guidance: log p_u + scale (log p_c - log p_u), normalised [CFG eq. 6; on codes, IVQD sec. 3.1].

    Args:
      conditional: logits with the caption.
      unconditional: logits with the empty caption.
      scale: 0 ignores the caption, 1 is the conditional model, above 1 amplifies the effect of the caption.

    Returns:
      Log-probabilities; in float32 for logits of 16 bits.
    """
    log_c, log_u = torch.log_softmax(wide(conditional), -1), torch.log_softmax(wide(unconditional), -1)
    return torch.log_softmax(torch.lerp(log_u, log_c, scale), -1)
