"""The lower limit of a learned temperature."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_SCALE = 100.0
"""Of a learned 1 / temperature (Radford et al. 2021, sec. 2.5)."""


def held(log_scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """A learned log(1 / temperature), clamped in place to at most log `LARGEST_SCALE`.

    The parameter itself is clamped, and not a copy of it: the gradient of `clamp` is 0 beyond the bound, so that the
    temperature could never rise again.

    Returns:
      The same parameter, at most log `LARGEST_SCALE` in its own type; gradients pass.
    """
    apart = 4 * torch.finfo(log_scale.dtype).eps  # of the numbers of this type between 4 and 8, where the bound lies
    with torch.no_grad():
        log_scale.clamp_(max=math.floor(math.log(LARGEST_SCALE) / apart) * apart)
    return log_scale
