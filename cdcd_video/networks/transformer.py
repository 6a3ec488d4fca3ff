"""The transformer block of denoiser, baselines, decoder and embed head."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cdcd_video.kernels import feed_forward, modulated, tiled
from cdcd_video.kernels.products import linear

PLAIN_UP_TO = 256
"""On a CPU up to this many keys plain products are faster than the fused kernel (64 tokens, bf16: about six times)."""

Recall = Callable[[tuple[Tensor, Tensor]], tuple[tuple[Tensor, Tensor], Tensor | None]]
"""Keys and values of the current tokens -> all keys and values to attend to, and a mask (Nq, Nk) or None for all.

For causal self-attention and for a cache."""


def attend(
    q: Float[Tensor, "B h Nq d"],
    k: Float[Tensor, "B h Nk d"],
    v: Float[Tensor, "B h Nk d"],
    is_key: Bool[Tensor, "B Nk"] | Bool[Tensor, "Nq Nk"] | None = None,
    *,
    by_query: bool = False,
) -> Float[Tensor, "B h Nq d"]:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1); keys where `is_key` is False are masked.

    With `by_query`, `is_key` is (Nq, Nk): which query attends to which key.
    """
    if (is_key is None or not by_query) and tiled.serves(q, k):
        return tiled.attention(q, k, v, is_key)
    mask = None if is_key is None else is_key[None, None] if by_query else is_key[:, None, None, :]
    if q.is_cuda or k.shape[2] > PLAIN_UP_TO:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    """Multi-head attention from `x` to `context` (to itself when `context` is None)."""

    also_forward = ("keys_values",)
    """Called from outside, never from `forward`; see `engine.parallel`."""

    def __init__(self, width: int, num_heads: int, context_width: int | None = None):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width or width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys_values(
        self, context: Float[Tensor, "B Nk Dc"], rotation: Float[Tensor, "2 Nk r"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of a context, each (B, h, Nk, d): computed once where the context does not change.

        Args:
          rotation: cosines and sines by which keys are turned; see `rotated`.
        """
        return self._keys_values(context, rotation)

    def _keys_values(self, context: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor]:
        k, v = linear(context, self.key_value.weight, self.key_value.bias).chunk(2, -1)
        return rotated(self._heads(k), rotation), self._heads(v)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        keys_values: tuple[Tensor, Tensor] | None = None,
        is_key: Bool[Tensor, "B Nk"] | Bool[Tensor, "N Nk"] | None = None,
        *,
        by_query: bool = False,
        rotation: Float[Tensor, "2 N r"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Mixes values of `keys_values`, whose keys are turned already, or of `x` itself; `rotation` turns what is made here."""
        k, v = self._keys_values(x, rotation) if keys_values is None else keys_values
        q = rotated(self._heads(linear(x, self.query.weight, self.query.bias)), rotation)
        mixed = attend(q, k, v, is_key, by_query=by_query)
        return linear(mixed.transpose(1, 2).flatten(2), self.out.weight, self.out.bias)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def rotated(x: Float[Tensor, "B h N d"], rotation: Float[Tensor, "2 N r"] | None) -> Float[Tensor, "B h N d"]:
    """Turns channel i together with channel i + d/2 by the angle whose cosines and sines are given (Su et al. 2021)."""
    if rotation is None:
        return x
    (cos, sin), (one, other) = rotation.to(x.dtype), x.chunk(2, -1)
    return torch.cat([one * cos - other * sin, one * sin + other * cos], -1)


class SquaredReLU(nn.Module):
    """max(0, x) squared (So et al. 2021, "Primer"): as good as GELU here, in a fifth of its time on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


class FeedForward(nn.Sequential):
    """The MLP of a block, with squared ReLU; some rows at a time where that is faster."""

    def __init__(self, width: int, hidden: int):
        super().__init__(nn.Linear(width, hidden), SquaredReLU(), nn.Linear(hidden, width))

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        up, activation, down = cast("tuple[nn.Linear, SquaredReLU, nn.Linear]", tuple(self))
        if feed_forward.serves(x, up.out_features):
            return feed_forward.squared_relu_mlp(x, up.weight, up.bias, down.weight, down.bias)
        return linear(activation(linear(x, up.weight, up.bias)), down.weight, down.bias)


class Block(nn.Module):
    """Pre-norm transformer block: self-attention, optional cross-attention, MLP.

    With `modulated` the norms are adaptive (DiT, Peebles & Xie 2023; unlike adaLN-Zero's, the gates do not begin at 0):
    shift, scale and gate of the self-attention and the MLP come from outside, as one (B, 6, D) tensor shared by all
    blocks, to which each block adds its own learned table (PixArt-alpha, Chen et al. 2024, sec. 2.3, "adaLN-single").
    `mlp_width` is four times the width when not given.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        context_width: int | None = None,
        modulated: bool = False,
        mlp_width: int | None = None,
    ):
        super().__init__()
        self.norm_self = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.self_attention = Attention(width, num_heads)
        self.cross_attention = None
        if context_width is not None:
            self.norm_cross = nn.LayerNorm(width)
            self.cross_attention = Attention(width, num_heads, context_width)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.mlp = FeedForward(width, mlp_width or 4 * width)
        self.modulation = nn.Parameter(torch.randn(6, width) * width**-0.5) if modulated else None

    def zero_outputs(self) -> None:
        """Makes the block the identity, from which it can learn."""
        outputs = [self.self_attention.out, cast("nn.Linear", self.mlp[2])]
        for layer in outputs + ([self.cross_attention.out] if self.cross_attention else []):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        *,
        modulation: Float[Tensor, "B 6 D"] | None = None,
        context: tuple[Tensor, Tensor] | None = None,
        is_key: Bool[Tensor, "B L"] | None = None,
        recall: Recall | None = None,
        rotation: Float[Tensor, "2 N r"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        if self.modulation is None:
            x = x + self.self_attention(self.norm_self(x), rotation=rotation)
            x = x + self.cross_attention(self.norm_cross(x), context, is_key) if self.cross_attention else x
            return x + self.mlp(self.norm_mlp(x))
        assert modulation is not None, "adaptive norms need a modulation"
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = (modulation + self.modulation)[:, :, None].unbind(1)
        normed = _modulated(self.norm_self, x, scale, shift)
        keys_values, visible = None, None
        if recall is not None:
            keys_values, visible = recall(self.self_attention.keys_values(normed, rotation))
        mixed = self.self_attention(normed, keys_values, visible, by_query=True, rotation=rotation)
        x = _with_gated(x, gate, mixed)
        x = x + self.cross_attention(self.norm_cross(x), context, is_key) if self.cross_attention else x
        return _with_gated(x, gate_mlp, self.mlp(_modulated(self.norm_mlp, x, scale_mlp, shift_mlp)))


def _modulated(norm: nn.LayerNorm, x: Tensor, scale: Float[Tensor, "B 1 D"], shift: Float[Tensor, "B 1 D"]) -> Tensor:
    if modulated.serves(x, scale):
        return modulated.norm(x, scale, shift, norm.eps)
    return norm(x) * (1 + scale) + shift


def _with_gated(x: Tensor, gate: Float[Tensor, "B 1 D"], change: Tensor) -> Tensor:
    return modulated.add(x, gate, change) if modulated.serves(x, gate) else x + gate * change
