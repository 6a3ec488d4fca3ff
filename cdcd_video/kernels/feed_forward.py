"""The MLP of a transformer block with squared ReLU, a few rows at a time; in float32 the hidden layer is recomputed.

The hidden layer is the widest activation of a block: kept for the gradient it takes most of a step's memory, and it does not
fit into the cache. Here only a part of it exists at a time, at the cost of one more product.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cdcd_video.kernels.products import may_serve, times_transposed, times_transposed_times, weight_gradient

LARGE = 1 << 22
"""Size of the hidden layer, in numbers, from which it is computed in parts."""
PART = 1 << 23
"""Bytes of a part."""
KEPT = torch.bfloat16
"""The type in which it is kept: half the memory, and with faster products recomputing costs relatively more."""


def serves(x: Float[Tensor, "*rows D"], hidden: int) -> bool:
    """Whether to use `squared_relu_mlp`: if a gradient is needed and the hidden layer is large."""
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
    return _Mlp.apply(x.flatten(0, -2).to(kind), up, up_bias, down, down_bias).unflatten(0, x.shape[:-1])


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, up, up_bias, down, down_bias):
        ctx.kinds = [value.dtype for value in (up, up_bias, down, down_bias)]
        x, up, up_bias, down, down_bias = (
            x.contiguous(),
            *(value.to(x.dtype) for value in (up, up_bias, down, down_bias)),
        )
        out, parts, kept = torch.empty_like(x), _parts(x, len(up)), []
        squares = x.new_empty(parts[0].stop, len(up))
        with torch.autocast("cpu", enabled=False):
            for here in parts:
                hidden = times_transposed(x[here], up, up_bias, relu=True)
                square = torch.square(hidden, out=squares[: len(hidden)])
                out[here] = times_transposed(square, down, down_bias)
                kept += [hidden] if x.dtype == KEPT else []
        ctx.save_for_backward(x, up, up_bias, down, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, up, up_bias, down, *kept = ctx.saved_tensors
        grad, grad_x = grad.contiguous(), torch.empty_like(x)
        twice = 2.0 * grad  # the derivative's factor 2, applied where it is cheap
        across, parts, sums = down.t().contiguous(), _parts(x, len(up)), [None, None, None]
        squares = x.new_empty(parts[0].stop, len(up))
        with torch.autocast("cpu", enabled=False):
            for number, here in enumerate(parts):
                hidden = kept[number] if kept else times_transposed(x[here], up, up_bias, relu=True)
                onto = times_transposed_times(twice[here], across, hidden)
                square = torch.square(hidden, out=squares[: len(hidden)])
                found = weight_gradient(onto, x[here]), onto.sum(0), weight_gradient(grad[here], square)
                # The first of each, in float32, accumulates the others: it has their memory layout.
                sums = [
                    one.float() if total is None else total.add_(one) for total, one in zip(sums, found, strict=True)
                ]
                grad_x[here] = times_transposed(onto, up.t())
        return grad_x, *(value.to(kind) for value, kind in zip((*sums, grad.sum(0)), ctx.kinds, strict=True))


def _parts(x: Float[Tensor, "rows D"], hidden: int) -> list[slice]:
    size = max(64, PART // (hidden * x.element_size()))
    return [slice(start, min(start + size, len(x))) for start in range(0, len(x), size)]
