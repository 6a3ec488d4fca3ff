"""Large products in float32 by oneDNN, which torch links but does not ask for: twice as fast as its BLAS on some CPUs.

On an AMD Zen 5 core torch's float32 products reach 105 GFLOP/s (MKL) and oneDNN's 240; in bfloat16 torch asks oneDNN
by itself. Both add up in float32; only the order of the sum is another.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import _get_current_dispatch_mode

LARGE = 1 << 26
"""Multiply-adds from which a product is worth the detour in training."""
FEWEST_ROWS = 16
"""Of each sample, in drawing."""
LARGE_WEIGHT = 1 << 18
"""Numbers in a weight from which it is in drawing, where the rows have no say: no sample may depend on its batch."""


def may_serve(x: Tensor) -> bool:
    """Whether these kernels can work on `x`: on a CPU, in a type they know, with nobody looking on or tracing."""
    # In this order: torch.compile cannot trace the question for a mode, and would cut a block in pieces at each of them.
    is_plain = not torch.compiler.is_compiling() and _get_current_dispatch_mode() is None
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and is_plain


def has_onednn(kind: torch.dtype = torch.float32) -> bool:
    """Whether torch was built with oneDNN and hands out its linear layer, and whether that knows the type on this processor."""
    is_there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    # Without AVX-512 oneDNN has no product in bfloat16, and says so only when it is asked for one.
    return is_there and (kind != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())


def times_transposed(
    a: Float[Tensor, "m k"], b: Float[Tensor, "n k"], bias: Float[Tensor, "n"] | None = None, *, relu: bool = False
) -> Float[Tensor, "m n"]:
    """a b^T + bias, or max(0, of it), not differentiable. `a` should lie row after row; `b` may be a transposed view."""
    if a.device.type == "cpu" and has_onednn(a.dtype) and (a.dtype == torch.float32 or bias is not None):
        # In bfloat16 torch asks oneDNN by itself, but first copies the bias to every row.
        return torch.ops.mkldnn._linear_pointwise(a, b, bias, "relu" if relu else "none", [], "")
    out = nn.functional.linear(a, b, bias)
    return out.relu_() if relu else out


def times_transposed_times(
    a: Float[Tensor, "m k"], b: Float[Tensor, "n k"], factor: Float[Tensor, "m n"]
) -> Float[Tensor, "m n"]:
    """(a b^T) * factor, number by number, not differentiable. In bfloat16 oneDNN does both at once; in float32 that is slower."""
    if a.dtype == torch.bfloat16 and a.device.type == "cpu" and has_onednn(a.dtype):
        return torch.ops.mkldnn._linear_pointwise.binary(a, factor, b, None, "mul")
    return times_transposed(a, b).mul_(factor)


def linear(
    x: Float[Tensor, "*rows In"], weight: Float[Tensor, "Out In"], bias: Float[Tensor, "Out"] | None = None
) -> Float[Tensor, "*rows Out"]:
    """x weight^T + bias, like torch's, differentiable once."""
    if torch.is_grad_enabled():
        is_large = x.numel() * len(weight) >= LARGE
    else:  # a single row is added up in another order than many
        is_large = weight.numel() >= LARGE_WEIGHT and x.ndim > 1 and x.shape[-2] >= FEWEST_ROWS
    is_single = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    if is_large and is_single and may_serve(x) and has_onednn():
        return _Linear.apply(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
    return nn.functional.linear(x, weight, bias)


def weight_gradient(grad: Float[Tensor, "m Out"], x: Float[Tensor, "m In"]) -> Float[Tensor, "Out In"]:
    """grad^T x; for oneDNN's linear layer the narrower of the two is laid out anew."""
    if grad.dtype != torch.float32 or not has_onednn():
        return grad.t() @ x
    if grad.shape[1] <= x.shape[1]:
        return times_transposed(grad.t().contiguous(), x.t())
    return times_transposed(x.t().contiguous(), grad.t()).t()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return times_transposed(x.contiguous(), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            times_transposed(grad, weight.t()) if needs_x else None,
            weight_gradient(grad, x) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )
