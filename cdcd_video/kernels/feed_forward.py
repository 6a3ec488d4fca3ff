"""The MLP of a transformer block with squared ReLU, a few rows at a time, its hidden layer worked out again for the gradient.

The hidden layer is the widest thing in a block: kept for the gradient it costs most of a step's memory, and each time it
is written and read in whole it leaves the cache. Here a part of it at a time exists. A product more is the price.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cdcd_video.kernels.products import may_serve, times_transposed, weight_gradient

LARGE = 1 << 22
"""Numbers in the hidden layer from which it is taken by parts."""
PART = 1 << 21
"""Hidden numbers at a time."""


def serves(x: Float[Tensor, "*rows D"], hidden: int) -> bool:
    """Whether `squared_relu_mlp` can and should take this MLP: where a gradient is wanted and the hidden layer is large."""
    return torch.is_grad_enabled() and x.shape[:-1].numel() * hidden >= LARGE and may_serve(x)


def squared_relu_mlp(
    x: Float[Tensor, "*rows D"],
    up: Float[Tensor, "H D"],
    up_bias: Float[Tensor, "H"],
    down: Float[Tensor, "D H"],
    down_bias: Float[Tensor, "D"],
) -> Float[Tensor, "*rows D"]:
    """max(0, x up^T + b)^2 down^T + c, differentiable once; in autocast's type where it is on."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    given = (value.to(kind) for value in (x.flatten(0, -2), up, up_bias, down, down_bias))
    return _Mlp.apply(*given).unflatten(0, x.shape[:-1])


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, up, up_bias, down, down_bias):
        x = x.contiguous()
        ctx.save_for_backward(x, up, up_bias, down)
        out = torch.empty_like(x)
        with torch.autocast("cpu", enabled=False):
            for here in _parts(len(x), len(up)):
                hidden = times_transposed(x[here], up, up_bias).relu_().square_()
                out[here] = times_transposed(hidden, down, down_bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, up, up_bias, down = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        twice = 2.0 * grad  # the square's own factor, taken where it is narrow
        grad_up, grad_down = (torch.zeros(value.shape) for value in (up, down))
        grad_up_bias = torch.zeros(up_bias.shape)
        with torch.autocast("cpu", enabled=False):
            for here in _parts(len(x), len(up)):
                active = times_transposed(x[here], up, up_bias).relu_()
                onto = times_transposed(twice[here], down.t()).mul_(active)
                grad_down += weight_gradient(grad[here], active.square_())
                grad_up += weight_gradient(onto, x[here])
                grad_up_bias += onto.sum(0)
                grad_x[here] = times_transposed(onto, up.t())
        grads = (grad_up, grad_up_bias, grad_down, grad.sum(0))
        return grad_x, *(value.to(x.dtype) for value in grads)


def _parts(num_rows: int, hidden: int) -> list[slice]:
    size = max(64, PART // hidden)
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
