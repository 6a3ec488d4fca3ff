"""The modulated norm and the gated change of a block with adaptive norm, compiled for CPUs with AVX-512, in one pass each.

Torch needs three to five passes over memory for each, forward and backward, and as many large temporaries: a tenth of a
training step in bfloat16.
"""

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cdcd_video.kernels import compiled
from cdcd_video.kernels.products import may_serve

WIDEST = 4096
"""Largest width that the library supports; a width is always a multiple of `LANES`."""
LANES = 16


class Modulated(ctypes.Structure):
    """`Modulated` of modulated.cpp, field by field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "scale", "shift", "y", "mean", "inverse", "grad")),
        *((name, ctypes.c_void_p) for name in ("out", "grad_x", "grad_scale", "grad_shift", "grad_y")),
        *((name, ctypes.c_int64) for name in ("step", "num_rows", "width", "begin", "end")),
        ("epsilon", ctypes.c_float),
    ]


def serves(x: Float[Tensor, "B N D"], scale: Float[Tensor, "B 1 D"]) -> bool:
    """Whether to use `norm` and `add`: in training, in float32 (with autocast or without)."""
    return torch.is_grad_enabled() and _fit(x, scale) and may_serve(x) and compiled.knows(_autocast_kind())


def norm(
    x: Float[Tensor, "B N D"], scale: Float[Tensor, "B 1 D"], shift: Float[Tensor, "B 1 D"], epsilon: float
) -> Float[Tensor, "B N D"]:
    """The layer norm of x, times 1 + scale, plus shift; differentiable once. Under autocast in the type of products."""
    return _Norm.apply(x, scale, shift, epsilon, _autocast_kind())


def add(
    x: Float[Tensor, "B N D"], gate: Float[Tensor, "B 1 D"], change: Float[Tensor, "B N D"]
) -> Float[Tensor, "B N D"]:
    """x + gate change, in float32; differentiable once."""
    return _Add.apply(x, gate, change)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, shift, epsilon, kind):
        _check(x, scale, shift)
        x, (scale, shift) = x.contiguous(), _alike(scale, shift)
        y = torch.empty_like(x, dtype=kind)
        mean, inverse = x.new_empty(2, *x.shape[:2]).unbind()
        _run("norm_forward", kind, x, scale=scale, shift=shift, y=y, mean=mean, inverse=inverse, epsilon=epsilon)
        ctx.save_for_backward(x, scale, mean, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, scale, mean, inverse = ctx.saved_tensors
        grad_x, (grad_scale, grad_shift) = torch.empty_like(x), x.new_empty(2, len(x), 1, x.shape[-1]).unbind()
        grads = dict(grad_x=grad_x, grad_scale=grad_scale, grad_shift=grad_shift)
        given = dict(scale=scale, mean=mean, inverse=inverse, grad=grad.contiguous())
        _run("norm_backward", grad.dtype, x, **given, **grads)
        return *grads.values(), None, None


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gate, change):
        _check(x, gate)
        if change.shape != x.shape:
            raise ValueError(f"a change of {tuple(change.shape)} to numbers of {tuple(x.shape)}")
        (gate,), change = _alike(gate), change.contiguous()
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        _run("gate_forward", change.dtype, x.contiguous(), scale=gate, y=change, out=out)
        ctx.save_for_backward(gate, change)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        gate, change = ctx.saved_tensors
        grad_gate, grad_y = gate.new_empty(len(gate), 1, gate.shape[-1]), torch.empty_like(change)
        given = dict(scale=gate, y=change, grad=grad.contiguous())
        _run("gate_backward", change.dtype, change, **given, grad_scale=grad_gate, grad_y=grad_y)
        return grad, grad_gate, grad_y


def _fit(x: Tensor, of_sample: Tensor) -> bool:
    """Whether these are numbers (B, N, D) of a supported width, and one of their scales, shifts or gates."""
    width = x.shape[-1]
    is_known = x.ndim == 3 and width % LANES == 0 and width <= WIDEST and x.dtype == of_sample.dtype == torch.float32
    return is_known and of_sample.shape == (len(x), 1, width)


def _check(x: Tensor, *of_samples: Tensor) -> None:
    """With other shapes the library would access memory out of bounds."""
    for value in of_samples:
        if not _fit(x, value):
            raise ValueError(f"{tuple(value.shape)} {value.dtype} do not fit numbers of {tuple(x.shape)} {x.dtype}")


def _run(name: str, kind: torch.dtype, x: Tensor, *, epsilon: float = 0.0, **tensors: Tensor) -> None:
    """Calls a function of the library on tensors named as its fields are."""
    batch, num_rows, width = x.shape
    fields = {name: value.data_ptr() for name, value in (tensors | {"x": x}).items()}
    sizes = dict(step=tensors["scale"].stride(0), num_rows=num_rows, width=width, epsilon=epsilon)
    compiled.call(f"modulated_{name}", Modulated(**fields, **sizes), kind, batch)


def _alike(*of_samples: Float[Tensor, "B 1 D"]) -> tuple[Tensor, ...]:
    """The same values, contiguous per sample and with equal strides."""
    if all(value.stride() == of_samples[0].stride() and value.stride(-1) == 1 for value in of_samples):
        return of_samples
    return tuple(value.contiguous() for value in of_samples)


def _autocast_kind() -> torch.dtype:
    """The type of products."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
