"""How far a learned temperature may fall, and how it comes up again."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_SCALE = 100.0
"""Of a learned 1 / temperature (Radford et al. 2021, sec. 2.5)."""


def held(log_scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """A learned log(1 / temperature), put back in place where a step took it beyond log `LARGEST_SCALE`.

    The parameter itself is put back, not a copy of it that is computed with: the gradient of `clamp` is 0 beyond the
    bound, so a temperature that once fell so low would stay there for ever, whatever the loss says.

    Args:
      log_scale: the parameter.

    Returns:
      The same parameter, at most log `LARGEST_SCALE` in its own type; gradients pass.
    """
    apart = 4 * torch.finfo(log_scale.dtype).eps  # of the numbers of this type between 4 and 8, where the bound lies
    with torch.no_grad():
        log_scale.clamp_(max=math.floor(math.log(LARGEST_SCALE) / apart) * apart)
    return log_scale
