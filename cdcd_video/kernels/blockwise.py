"""Attention on a CPU a few heads at a time: their scores fit a cache, are used there, and are worked out again for the gradient.

It is the arithmetic of FlashAttention (Dao et al. 2022, algorithms 1 and 4, with one block of keys) in calls of torch
that are fast on a CPU: products by oneDNN, 2^x for e^x. At 16 heads of 12 channels and 1,024 tokens it takes about
half the time of torch's fused kernel.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cdcd_video.kernels.products import may_serve, times_transposed

SMALLEST = 3 << 14
"""Scores of one head (queries x keys) from which this way is the faster."""
PART = 1 << 20
"""Scores at a time in half precision; in float32 always those of one head, since oneDNN takes them one by one."""
LARGEST_SCORE = 60.0
"""In powers of two. Where no score can be larger, none is shifted before 2^x: nothing leaves float32's range, 2^126."""


def serves(q: Float[Tensor, "B h Nq d"], k: Float[Tensor, "B h Nk d"]) -> bool:
    """Whether this can and should take this attention. The batch has no say: no sample may depend on it."""
    return q.shape[2] * k.shape[2] >= SMALLEST and q.dtype == k.dtype and may_serve(q)


def attention(
    q: Float[Tensor, "B h Nq d"],
    k: Float[Tensor, "B h Nk d"],
    v: Float[Tensor, "B h Nk d"],
    is_key: Bool[Tensor, "B Nk"] | None = None,
) -> Float[Tensor, "B h Nq d"]:
    """Scaled dot-product attention; keys where `is_key` is False are not seen (one at least must be). Differentiable once."""
    return _Blockwise.apply(q, k, v, is_key)


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, is_key):
        num_heads, width = q.shape[1], q.shape[-1]
        q = (q * (width**-0.5 * math.log2(math.e))).flatten(0, 1).contiguous()
        k = k.flatten(0, 1).contiguous()
        v = v.flatten(0, 1).transpose(1, 2).contiguous()
        is_key = None if is_key is None or is_key.all() else is_key.repeat_interleave(num_heads, 0)[:, None]
        out = q.new_empty(len(q), q.shape[1], width)
        total = torch.empty(*out.shape[:2], 1)
        top = None if _is_small(q, k) else torch.empty_like(total)
        for here in _parts(q, k):
            scores = _scores(q, k, is_key, here)
            if top is not None:
                top[here] = scores.amax(-1, keepdim=True)
            weights = _exponentials(scores, top, here)
            # Added up in float32 and rounded once; asked for float32, torch would first copy all that it adds up.
            total[here] = weights.sum(-1, keepdim=True).float()
            out[here] = _products(weights, v[here]) / total[here]
        ctx.save_for_backward(q, k, v, out, total)
        ctx.top, ctx.is_key, ctx.num_heads = top, is_key, num_heads
        return out.unflatten(0, (-1, num_heads))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, k, v, out, total = ctx.saved_tensors
        width = q.shape[-1]
        # d score = weight (grad v - out grad) / total: the difference is taken by the product itself, in a column more.
        grad = grad.flatten(0, 1) / total
        inner = -(grad * out).sum(-1, keepdim=True)
        beside = torch.cat([grad, inner], -1).to(q.dtype)
        values = torch.cat([v, torch.ones_like(v[:, :1])], 1).transpose(1, 2).contiguous()
        across_q, across_k, across_grad = (x.transpose(1, 2).contiguous() for x in (q, k, beside[..., :width]))
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(across_k), torch.empty_like(across_k)
        for here in _parts(q, k):
            weights = _exponentials(_scores(q, k, ctx.is_key, here), ctx.top, here)
            grad_v[here] = _products(across_grad[here], weights.transpose(1, 2))
            weights.mul_(_products(beside[here], values[here]))
            grad_q[here] = _products(weights, across_k[here])
            grad_k[here] = _products(across_q[here], weights.transpose(1, 2))
        grad_k, grad_v = (x.transpose(1, 2) for x in (grad_k.mul_(math.log(2)), grad_v))
        grads = (grad_q.mul_(width**-0.5), grad_k, grad_v)
        return *(x.unflatten(0, (-1, ctx.num_heads)) for x in grads), None


def _parts(q: Float[Tensor, "H Nq d"], k: Float[Tensor, "H Nk d"]) -> list[slice]:
    size = 1 if q.dtype == torch.float32 else max(1, PART // (q.shape[1] * k.shape[1]))
    return [slice(start, min(start + size, len(q))) for start in range(0, len(q), size)]


def _products(a: Float[Tensor, "H m k"], b: Float[Tensor, "H n k"]) -> Float[Tensor, "H m n"]:
    """a b^T of each head."""
    return times_transposed(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b.transpose(1, 2))


def _scores(
    q: Float[Tensor, "H Nq d"], k: Float[Tensor, "H Nk d"], is_key: Bool[Tensor, "H 1 Nk"] | None, here: slice
) -> Float[Tensor, "H Nq Nk"]:
    """q k^T of some heads, -inf where there is no key."""
    scores = _products(q[here], k[here])
    return scores if is_key is None else scores.masked_fill_(~is_key[here], -torch.inf)


def _exponentials(
    scores: Float[Tensor, "H Nq Nk"], top: Float[Tensor, "B Nq 1"] | None, here: slice
) -> Float[Tensor, "H Nq Nk"]:
    """2^(score - top), in place."""
    scores = scores if top is None else scores.sub_(top[here])
    return torch.exp2(scores, out=scores)


def _is_small(q: Float[Tensor, "H Nq d"], k: Float[Tensor, "H Nk d"]) -> bool:
    """Whether no score can be larger than `LARGEST_SCORE`, since none exceeds the product of the two lengths."""
    longest = [x.float().square().sum(-1).amax(-1) for x in (q, k)]
    return bool((longest[0] * longest[1]).amax() <= LARGEST_SCORE**2)
