"""The trunk of denoiser and baselines: a transformer over patches, conditioned on times, caption and earlier frames."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cdcd_video.config import DenoiserConfig
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.patch_grid import positions_on, square_grid
from cdcd_video.networks.transformer import Block
from cdcd_video.records import Grid


@dataclass(frozen=True)
class CachedCondition:
    """What does not change between the steps of a frame, so that it is computed once."""

    positions: Float[Tensor, "B P D"]
    keys_values: tuple[tuple[Tensor, Tensor], ...]
    time_features: Float[Tensor, "B 65"]
    """Sinusoids of dt and age, and whether there is a first frame."""
    copies: tuple[Tensor, ...]
    """What the logits may copy of source and first frame, and of the last one where a network reads one: (B, P, Q) one-hot
    digits, or codes (B, P, g) without digits."""
    condition: Condition
    rotation: Float[Tensor, "2 P r"] | None = None
    """By which self-attention turns queries and keys; None for not at all."""
    time_offset: Float[Tensor, "B D"] | None = None
    """Added to the embedding of the times; None for nothing."""


class ConditionalTransformer(nn.Module, ABC):
    """Blocks with adaptive norm on t, dt and age, self-attention over patches and cross-attention to the caption.

    A subclass defines its inputs (`_read`, `_latents`, `_copies`) and its heads. Its `__init__` calls `_add_trunk` between
    the two, because fresh weights are sampled in this order.
    """

    rotation: Tensor | None
    """(2, P, d/2) cosines and sines, by which self-attention turns queries and keys of the square grid's patches; None for not at
    all."""
    keeps_activations = True
    """Whether activations are kept for the gradient, or computed again (Chen et al. 2016)."""

    def _add_trunk(self, cfg: DenoiserConfig, *, num_patches: int, text_width: int, mlp_width: int | None) -> None:
        """Adds the blocks and what conditions them.

        Args:
          num_patches: P of the square grid; other grids get their positions from its.
          text_width: width of the caption's token states.
          mlp_width: of the blocks; four times their width when not given.
        """
        width, self.normalised_text = cfg.width, cfg.normalised_text
        self.no_first = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.randn(num_patches, width) * 0.02)
        self.clock_in = nn.Sequential(
            nn.Linear(3 * TIME_EMBEDDING_WIDTH + 1, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.to_modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(
            Block(width, cfg.num_heads, context_width=text_width, modulated=True, mlp_width=mlp_width)
            for _ in range(cfg.num_layers)
        )
        if cfg.zero_init:
            for block in self.blocks:
                cast("Block", block).zero_outputs()
        rotation = rotation_of_grid(square_grid(num_patches), width // cfg.num_heads) if cfg.rotary else None
        self.register_buffer("rotation", rotation, persistent=False)
        self.norm = nn.LayerNorm(width)

    def _latents(self, latents: Tensor) -> Tensor:
        """Codes, or code values, of an earlier frame in the form that the network uses."""
        return latents

    @abstractmethod
    def _read(self, latents: Tensor, role: int) -> Float[Tensor, "B P D"]:
        """Latents in one of three roles (x_t, source, first) -> their part of the input, patch by patch."""

    @abstractmethod
    def _copies(self, source: Tensor, first: Tensor, is_there: Tensor) -> tuple[Tensor, Tensor]:
        """`CachedCondition.copies`; zero for a first frame that is withheld."""

    def _rotation(self, grid: Grid | None) -> Tensor | None:
        """`rotation` on a grid: patches one row apart are turned by the same angle on all of them."""
        if self.rotation is None or grid is None or grid == square_grid(len(self.position)):
            return self.rotation
        return rotation_of_grid(grid, 2 * self.rotation.shape[-1]).to(self.rotation)

    def _no_first(self, like: Tensor) -> Tensor:
        """Replaces the input of a first frame that is withheld."""
        return self.no_first.to(like.dtype)

    def prepare(
        self, condition: Condition, keys_values: tuple[tuple[Tensor, Tensor], ...] | None = None
    ) -> CachedCondition:
        """Everything that depends on the condition alone; `keys_values` of its caption may be given."""
        source, first = self._latents(condition.source), self._latents(condition.first)
        is_there = condition.has_first[:, None, None]
        of_source, of_first = self._read(source, 1), self._read(first, 2)
        of_first = torch.where(is_there, of_first, self._no_first(of_first))
        context = normalized_halves(condition.text.tokens) if self.normalised_text else condition.text.tokens
        attentions: list[Any] = [block.cross_attention for block in self.blocks]
        time_features = [
            time_embedding(condition.gap_s),
            time_embedding(condition.age_s),
            condition.has_first[:, None].float(),
        ]
        return CachedCondition(
            positions=of_source + of_first + positions_on(self.position, condition.grid),
            keys_values=keys_values or tuple(attention.keys_values(context) for attention in attentions),
            time_features=torch.cat(time_features, -1),
            copies=self._copies(source, first, is_there),
            condition=condition,
            rotation=self._rotation(condition.grid),
        )

    def _trunk(
        self,
        x: Float[Tensor, "B P D"],
        t: Float[Tensor, "B"],
        prepared: CachedCondition,
        hidden: list[Tensor] | None = None,
    ) -> Float[Tensor, "B P D"]:
        """The blocks, at times t in (0, 1]; the states after the first half of them are appended to `hidden`."""
        times = self.clock_in(torch.cat([time_embedding(t), prepared.time_features], -1))
        if prepared.time_offset is not None:
            times = times + prepared.time_offset
        modulation = self.to_modulation(nn.functional.silu(times)).unflatten(-1, (6, -1))
        is_word = prepared.condition.text.is_word
        middle = (len(self.blocks) - 1) // 2
        for place, (block, keys_values) in enumerate(zip(self.blocks, prepared.keys_values, strict=True)):
            given = dict(modulation=modulation, context=keys_values, is_key=is_word, rotation=prepared.rotation)
            if self.keeps_activations or not torch.is_grad_enabled():
                x = block(x, **given)
            else:
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, **given)
            if hidden is not None and place == middle:
                hidden.append(x)
        return self.norm(x)


def rotation_of_grid(grid: Grid, head_width: int) -> Float[Tensor, "2 P r"]:
    """Cosines and sines of the angles of a grid's patches: row (first half) and column, times 100^(-4i/d), i < d/4.

    Axial rotary positions (Heo et al. 2024, sec. 3.2), in which a product of query and key depends on how far their patches
    are apart.
    """
    rates = 100.0 ** -(torch.arange(head_width // 4) / (head_width // 4))
    places = torch.cartesian_prod(*map(torch.arange, grid))
    angles = (places[:, :, None] * rates).flatten(1)
    return torch.stack([angles.cos(), angles.sin()])


def normalized_halves(tokens: Float[Tensor, "B L Dt"]) -> Float[Tensor, "B L Dt"]:
    """A caption's token states with each half (word embedding, last layer) at mean 0 and deviation 1, token by token.

    A layer norm without weights (Ba et al. 2016); zeros, of which the empty caption is made, stay zeros.
    """
    halves = tokens.unflatten(-1, (2, -1))
    return nn.functional.layer_norm(halves, halves.shape[-1:], eps=LEAST_VARIANCE).flatten(-2)


LEAST_VARIANCE = 1e-8
"""Added to that of half a token state: word embeddings of published CLIPs have about 1e-4, the built-in one's 1e-3."""
TIME_EMBEDDING_WIDTH = 32


def time_embedding(value: Float[Tensor, "B"]) -> Float[Tensor, "B 32"]:
    """Sinusoids of a time (Vaswani et al. 2017, sec. 3.5), wave lengths from 1/16 to 64 of its unit."""
    half = TIME_EMBEDDING_WIDTH // 2
    rates = torch.exp2(torch.linspace(-6, 4, half, device=value.device)) * 2 * math.pi
    angles = value[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], -1)
