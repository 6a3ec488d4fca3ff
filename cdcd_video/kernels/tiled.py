"""Attention compiled for CPUs with AVX-512, with tiles of scores that fit into the first cache.

It is FlashAttention (Dao et al. 2022, algorithms 1 and 4) in `attention.cpp`. Without it, torch's own attention is used.
"""

import ctypes

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cdcd_video.kernels import compiled
from cdcd_video.kernels.products import may_serve

WIDEST = 64
"""Largest number of channels of a head."""
LARGE = 3 << 14
"""Scores of one head (queries x keys) from which it is used without gradient too, so that small models need no compiler."""


class Strides(ctypes.Structure):
    """Strides of samples, heads and rows of a (B, h, N, d) tensor, in numbers."""

    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "head", "row")]


class Attention(ctypes.Structure):
    """`Attention` of attention.cpp, field by field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "is_key", "out", "top", "total")),
        *((name, ctypes.c_void_p) for name in ("grad", "grad_q", "grad_k", "grad_v")),
        *((f"of_{name}", Strides) for name in ("q", "k", "v", "out", "grad", "grad_q", "grad_k", "grad_v")),
        *((name, ctypes.c_int64) for name in ("num_heads", "num_queries", "num_keys", "width", "begin", "end")),
    ]


def serves(q: Float[Tensor, "B h Nq d"], k: Float[Tensor, "B h Nk d"]) -> bool:
    """Whether to use this attention. The batch size is ignored: no video may depend on it."""
    is_wanted = torch.is_grad_enabled() or q.shape[2] * k.shape[2] >= LARGE
    is_known = q.dtype == k.dtype and q.shape[-1] <= WIDEST and may_serve(q)
    return is_wanted and is_known and compiled.knows(q.dtype)


def attention(
    q: Float[Tensor, "B h Nq d"],
    k: Float[Tensor, "B h Nk d"],
    v: Float[Tensor, "B h Nk d"],
    is_key: Bool[Tensor, "B Nk"] | None = None,
) -> Float[Tensor, "B h Nq d"]:
    """Scaled dot-product attention; keys where `is_key` is False are masked (not all may be). Differentiable once."""
    return _Tiled.apply(q, k, v, is_key)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, is_key):
        fit = k.shape == v.shape == (*q.shape[:2], k.shape[2], q.shape[3]) and q.dtype == k.dtype == v.dtype
        if (
            not fit
            or q.shape[3] > WIDEST
            or (is_key is not None and (is_key.shape != (len(q), k.shape[2]) or is_key.dtype != torch.bool))
        ):
            raise ValueError("q, k, v and is_key do not fit together")  # the library would access memory out of bounds
        q, k, v = (_with_whole_rows(x) for x in (q, k, v))
        is_key = None if is_key is None else is_key.contiguous()
        out = _like(q)
        top, total = torch.empty(2, *q.shape[:3]).unbind()
        _run("attention_forward", is_key, q=q, k=k, v=v, out=out, top=top, total=total)
        ctx.save_for_backward(q, k, v, out, top + total.log2())
        ctx.is_key = is_key
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, k, v, out, top = ctx.saved_tensors
        grads = {"grad_q": _like(q), "grad_k": _like(k), "grad_v": _like(v)}
        if ctx.is_key is not None:  # masked keys are not written
            grads["grad_k"].zero_(), grads["grad_v"].zero_()
        given = dict(q=q, k=k, v=v, out=out, top=top, grad=_with_whole_rows(grad))
        _run("attention_backward", ctx.is_key, **given, **grads)
        return *grads.values(), None


def _run(name: str, is_key: Bool[Tensor, "B Nk"] | None, **tensors: Tensor) -> None:
    """Calls a function of the library on tensors named as its fields are."""
    q = tensors["q"]
    batch, num_heads, num_queries, width = q.shape
    fields = {name: value.data_ptr() for name, value in tensors.items()}
    fields |= {f"of_{name}": Strides(*value.stride()[:3]) for name, value in tensors.items() if value.ndim == 4}
    fields |= {} if is_key is None else {"is_key": is_key.data_ptr()}
    sizes = dict(num_heads=num_heads, num_queries=num_queries, num_keys=tensors["k"].shape[2], width=width)
    compiled.call(name, Attention(**fields, **sizes), q.dtype, batch * num_heads)


def _with_whole_rows(x: Float[Tensor, "B h N d"]) -> Float[Tensor, "B h N d"]:
    """The same values with contiguous channels."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _like(x: Float[Tensor, "B h N d"]) -> Float[Tensor, "B h N d"]:
    """An empty tensor of this size, laid out as (B, N, h, d), from which heads are joined without a copy."""
    batch, num_heads, num, width = x.shape
    return x.new_empty(batch, num, num_heads, width).transpose(1, 2)
