"""p(x0 | x_t, t, source codes, first-frame codes, caption, dt): a transformer over patches."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cdcd_video.config import DenoiserConfig
from cdcd_video.kernels.products import linear
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.transformer import Block


@dataclass(frozen=True)
class Prepared:
    """What does not change along a reverse walk: computed once per frame, not once per step."""

    positions: Float[Tensor, "B P D"]
    keys_values: tuple[tuple[Tensor, Tensor], ...]
    clocks: Float[Tensor, "B 65"]
    """Sinusoids of dt and age, and whether there is a first frame."""
    copied: tuple[Tensor, Tensor]
    """What copying the source and the first frame would score: (B, P, Q) digits, or codes (B, P, g) where they have none."""
    condition: Condition


class Denoiser(nn.Module):
    """Transformer with adaptive norm on t, dt and age, self-attention over patches, cross-attention to the caption.

    The codes' geometry enters and leaves: a code is read as its table entry *and* its digits' values; logits are the sum
    of one logit per digit, a free logit per code, and a learned pull towards the source's and the first frame's digits
    (what does not move is copied, not learned by heart).

    Args:
      cfg: size.
      levels: grid points per digit of one code, (K,) for codes without digits.
      table: (K, d) where each code lies.
      num_patches, groups: N = num_patches x groups tokens.
      text_width: width of the caption's token states.
      mlp_width: of the blocks; four times their width when not given.
    """

    keeps_activations = True
    """Whether what the blocks work out is kept for the gradient, or worked out again (Chen et al. 2016)."""
    needs_digits = False
    """Whether codes without digits count as one digit all the same (for who reads `digits`)."""
    geometry: Tensor
    digits: Tensor
    repeats: Tensor

    def __init__(
        self,
        cfg: DenoiserConfig,
        *,
        levels: tuple[int, ...],
        table: Float[Tensor, "K d"],
        num_patches: int,
        groups: int,
        text_width: int,
        mlp_width: int | None = None,
    ):
        super().__init__()
        width, self.groups, self.num_patches = cfg.width, groups, num_patches
        self.normalised_text = cfg.normalised_text
        self.num_codes = len(table)
        self.mask_id = self.num_codes
        self.levels = tuple(levels)
        self.has_digits = len(self.levels) > 1 or self.needs_digits
        with_mask = torch.cat([table.float(), torch.zeros(1, table.shape[1])])
        is_mask = (torch.arange(self.num_codes + 1) == self.mask_id).float()[:, None]
        self.register_buffer("geometry", torch.cat([with_mask, is_mask], 1), persistent=False)
        if self.has_digits:
            self.register_buffer("digits", digit_rows(self.levels), persistent=False)
            self.register_buffer("repeats", torch.tensor(self.levels * groups), persistent=False)

        read = groups * self.geometry.shape[1]
        self.geometry_in = nn.Linear(3 * read, width)
        self.code_in = nn.Embedding(3 * groups * (self.num_codes + 1), width)
        self.no_first = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.randn(num_patches, width) * 0.02)
        self.clock_in = nn.Sequential(nn.Linear(3 * CLOCK_WIDTH + 1, width), nn.SiLU(), nn.Linear(width, width))
        self.to_modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(
            Block(width, cfg.num_heads, context_width=text_width, modulated=True, mlp_width=mlp_width)
            for _ in range(cfg.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        per_code = sum(self.levels)
        self.to_digits = nn.Linear(width, groups * per_code)
        self.to_codes = nn.Linear(width, groups * self.num_codes)
        self.to_copy = nn.Linear(width, 2 * groups * len(self.levels))
        nn.init.normal_(self.code_in.weight, std=0.02)
        for layer in (self.to_digits, self.to_codes, self.to_copy):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.to_copy.bias[: groups * len(self.levels)] = 2.0  # begin by copying the source

    def prepare(self, condition: Condition, said: tuple[tuple[Tensor, Tensor], ...] | None = None) -> Prepared:
        """Everything that depends on the condition alone; `said` are the keys and values of its caption, where known already."""
        read = [self._read(condition.source, 1), self._read(condition.first, 2)]
        first = torch.where(condition.has_first[:, None, None], read[1], self.no_first.to(read[1].dtype))
        context = levelled(condition.text.tokens) if self.normalised_text else condition.text.tokens
        clocks = [clock(condition.gap_s), clock(condition.age_s), condition.has_first[:, None].float()]
        attentions: list[Any] = [block.cross_attention for block in self.blocks]
        copied = tuple(self._copied(codes) for codes in (condition.source, condition.first))
        is_there = condition.has_first[:, None, None]
        return Prepared(
            positions=read[0] + first + self.position,
            keys_values=said or tuple(attention.keys_values(context) for attention in attentions),
            clocks=torch.cat(clocks, -1),
            copied=(copied[0], copied[1] * is_there if self.has_digits else copied[1].where(is_there, -1)),
            condition=condition,
        )

    def forward(
        self, x_t: Int[Tensor, "B N"], t: Float[Tensor, "B"], condition: Condition | Prepared
    ) -> Float[Tensor, "B N K"]:
        """Corrupted codes at times t in (0, 1] -> logits over clean codes (never over the mask)."""
        prepared = self.prepare(condition) if isinstance(condition, Condition) else condition
        x = self._read(x_t, 0) + prepared.positions
        now = self.clock_in(torch.cat([clock(t), prepared.clocks], -1))
        modulation = self.to_modulation(nn.functional.silu(now)).unflatten(-1, (6, -1))
        is_word = prepared.condition.text.is_word
        for block, keys_values in zip(self.blocks, prepared.keys_values, strict=True):
            given = dict(modulation=modulation, context=keys_values, is_key=is_word)
            if self.keeps_activations or not torch.is_grad_enabled():
                x = block(x, **given)
            else:
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, **given)
        return self._logits(self.norm(x), prepared.copied)

    def _read(self, codes: Int[Tensor, "B N"], role: int) -> Float[Tensor, "B P D"]:
        """Codes in one of three roles (x_t, source, first) -> their part of the input, patch by patch."""
        per_patch = codes.unflatten(1, (-1, self.groups))
        geometry = self.geometry[per_patch].flatten(2)
        weight = self.geometry_in.weight.chunk(3, 1)[role]
        offset = (torch.arange(self.groups, device=codes.device) + role * self.groups) * (self.num_codes + 1)
        bias = self.geometry_in.bias if role == 0 else None
        return nn.functional.linear(geometry, weight, bias) + self.code_in(per_patch + offset).sum(2)

    def _copied(self, codes: Int[Tensor, "B N"]) -> Tensor:
        """One-hot digits of codes, patch by patch (the codes themselves, where they have no digits): what a copy would score."""
        if not self.has_digits:
            return codes.unflatten(1, (self.num_patches, self.groups))
        return self.digits[codes].unflatten(1, (self.num_patches, self.groups)).flatten(2)

    def _logits(self, x: Float[Tensor, "B P D"], copied: tuple[Tensor, Tensor]) -> Float[Tensor, "B N K"]:
        pulls = self.to_copy(x).chunk(2, -1)
        if not self.has_digits:
            return self._logits_of_codes(x, pulls, copied)
        per_digit = self.to_digits(x).float()
        for pull, onehot in zip(pulls, copied, strict=True):
            spread = pull.float().repeat_interleave(self.repeats, -1, output_size=onehot.shape[-1])
            per_digit = per_digit + spread * onehot
        per_digit = per_digit.unflatten(-1, (self.groups, -1))
        per_code = self.to_codes(x).float().unflatten(-1, (self.groups, -1))
        return (per_digit @ self.digits.T + per_code).flatten(1, 2)

    def _logits_of_codes(
        self, x: Float[Tensor, "B P D"], pulls: tuple[Tensor, Tensor], copied: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "B N K"]:
        """The same where a code is its one digit: the two maps to codes are one, and a pull is on one code."""
        weight, bias = self.to_digits.weight + self.to_codes.weight, self.to_digits.bias + self.to_codes.bias
        logits = linear(x, weight, bias).to(torch.float32, copy=True)
        start = torch.arange(self.groups, device=x.device) * self.num_codes
        for pull, codes in zip(pulls, copied, strict=True):  # into no view, whose whole gradient autograd would copy
            logits.scatter_add_(-1, codes.clamp(min=0) + start, pull.float() * (codes >= 0))
        return logits.unflatten(-1, (self.groups, -1)).flatten(1, 2)


def levelled(tokens: Float[Tensor, "B L Dt"]) -> Float[Tensor, "B L Dt"]:
    """A caption's token states with each half (word embedding, last layer) at mean 0 and deviation 1, token by token.

    A layer norm without weights (Ba et al. 2016); zeros, of which the empty caption is made, stay zeros.
    """
    halves = tokens.unflatten(-1, (2, -1))
    return nn.functional.layer_norm(halves, halves.shape[-1:], eps=LEAST_VARIANCE).flatten(-2)


LEAST_VARIANCE = 1e-8
"""Added to that of half a token state: word embeddings of published CLIPs have about 1e-4, the built-in one's 1e-3."""
CLOCK_WIDTH = 32


def clock(value: Float[Tensor, "B"]) -> Float[Tensor, "B 32"]:
    """Sinusoids of a time (Vaswani et al. 2017, sec. 3.5), wave lengths from 1/16 to 64 of its unit."""
    half = CLOCK_WIDTH // 2
    rates = torch.exp2(torch.linspace(-6, 4, half, device=value.device)) * 2 * math.pi
    angles = value[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


def digit_rows(levels: tuple[int, ...]) -> Float[Tensor, "K Q"]:
    """One-hot digits of every code, side by side (Q = sum of levels); the first digit runs fastest."""
    rows = torch.arange(math.prod(levels))
    columns = []
    for num in levels:
        columns.append(nn.functional.one_hot(rows % num, num).float())
        rows = rows // num
    return torch.cat(columns, 1)
