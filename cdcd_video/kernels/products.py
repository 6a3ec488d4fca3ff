"""Large products in float32 by oneDNN, which torch includes but does not use for them: twice as fast as MKL on some CPUs.

On an AMD Zen 5 core torch's float32 products reach 105 GFLOP/s (MKL) and oneDNN's 240; in bfloat16 torch uses oneDNN
itself. Both accumulate in float32; only the order of the sum differs.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import _get_current_dispatch_mode

LARGE = 1 << 26
"""Multiply-adds from which oneDNN is used in training."""
FEWEST_ROWS = 16
"""Of each sample, without gradient."""
LARGE_WEIGHT = 1 << 18
"""Size of a weight from which oneDNN is used without gradient. The batch size is ignored: no video may depend on it."""


def may_serve(x: Tensor) -> bool:
    """Whether these kernels can work on `x`: on a CPU, in a supported type, without a dispatch mode or tracing."""
    # In this order: torch.compile cannot trace the query of the mode, and would break the graph.
    is_plain = not torch.compiler.is_compiling() and _get_current_dispatch_mode() is None
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and is_plain


def has_onednn(kind: torch.dtype = torch.float32) -> bool:
    """Whether torch has oneDNN's linear layer, and whether it supports the type on this processor."""
    is_there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    # Without AVX-512 oneDNN has no product in bfloat16, and raises only when it is called.
    return is_there and (kind != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())


def times_transposed(
    a: Float[Tensor, "m k"], b: Float[Tensor, "n k"], bias: Float[Tensor, "n"] | None = None, *, relu: bool = False
) -> Float[Tensor, "m n"]:
    """a b^T + bias, or max(0, of it), not differentiable. `a` should be contiguous; `b` may be a transposed view."""
    if a.device.type == "cpu" and has_onednn(a.dtype) and (a.dtype == torch.float32 or bias is not None):
        # In bfloat16 torch uses oneDNN itself, but first copies the bias to every row.
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
    else:  # a single row is summed in another order than many
        is_large = weight.numel() >= LARGE_WEIGHT and x.ndim > 1 and x.shape[-2] >= FEWEST_ROWS
    is_single = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    if is_large and is_single and may_serve(x) and has_onednn():
        return _Linear.apply(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
    return nn.functional.linear(x, weight, bias)


def weight_gradient(grad: Float[Tensor, "m Out"], x: Float[Tensor, "m In"]) -> Float[Tensor, "Out In"]:
    """grad^T x; for oneDNN's linear layer the narrower of the two is copied."""
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
