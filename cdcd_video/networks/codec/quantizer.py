"""Quantisers: latents <-> codes, and the table of code vectors that the denoiser uses."""

import math
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cdcd_video.config import FsqConfig, VqConfig
from cdcd_video.errors import require


@dataclass(frozen=True)
class Quantized:
    """The result of quantising."""

    values: Float[Tensor, "B P G d"]
    """Code vectors, with a straight-through gradient to the latents."""
    codes: Int[Tensor, "B P G"]
    commitment: Float[Tensor, ""]
    """Extra loss (zero for FSQ)."""


class FiniteScalarQuantizer(nn.Module):
    """Each digit of a latent is squashed and rounded to one of a few levels [FSQ sec. 3.1].

    Args:
      levels: grid points per digit; K is their product. A code is the mixed-radix number of its digits, the first
        digit running fastest.
    """

    half_width: Tensor
    offset: Tensor
    shift: Tensor
    middle: Tensor
    radix: Tensor
    table: Tensor

    def __init__(self, levels: tuple[int, ...]):
        super().__init__()
        self.levels = tuple(levels)
        steps = torch.tensor(levels, dtype=torch.float32)
        half = (steps - 1) * (1 + 1e-3) / 2  # slightly wider than the grid, so that the end points are reached
        offset = torch.where(steps % 2 == 0, 0.5, 0.0)
        radix = torch.tensor([math.prod(levels[:i]) for i in range(len(levels))])
        digits = torch.tensor([tuple(reversed(row)) for row in product(*[range(n) for n in reversed(levels)])])
        middle = steps // 2
        for name, tensor in dict(
            half_width=half, offset=offset, shift=torch.atanh(offset / half), middle=middle
        ).items():
            self.register_buffer(name, tensor, persistent=False)
        self.register_buffer("radix", radix, persistent=False)
        self.register_buffer("table", (digits - middle) / middle, persistent=False)

    @property
    def num_codes(self) -> int:
        return math.prod(self.levels)

    @property
    def width(self) -> int:
        """Digits per code."""
        return len(self.levels)

    @property
    def tolerance(self) -> Float[Tensor, "d"]:
        """How far each digit's value may be from a code's to be rounded to it: half a step."""
        return 0.5 / self.middle

    def forward(self, latents: Float[Tensor, "B P G d"]) -> Quantized:
        bounded = torch.tanh(latents.float() + self.shift) * self.half_width - self.offset
        rounded = bounded + (bounded.round() - bounded).detach()
        codes = ((rounded.detach() + self.middle).long() * self.radix).sum(-1)
        return Quantized(rounded / self.middle, codes, latents.new_zeros(()))


class VectorQuantizer(nn.Module):
    """Learned codebook, shared by all groups, by the library `vector-quantize-pytorch`.

    Dead codes are replaced; the codebook is averaged exponentially, not trained by gradients.
    """

    def __init__(self, num_codes: int, width: int):
        super().__init__()
        require("vector_quantize_pytorch")
        from vector_quantize_pytorch import VectorQuantize  # six seconds of import, only if it is used

        self.levels = (num_codes,)
        self.num_codes, self.width = num_codes, width
        self.vq = VectorQuantize(width, num_codes, decay=0.99, threshold_ema_dead_code=2, kmeans_init=True)

    @property
    def table(self) -> Float[Tensor, "K d"]:
        return self.vq.codebook

    @property
    def tolerance(self) -> Float[Tensor, "d"]:
        """Values that differ by less are of one code."""
        return torch.full_like(self.table[0], 1e-6)

    def forward(self, latents: Float[Tensor, "B P G d"]) -> Quantized:
        values, codes, commitment = self.vq(latents.float().flatten(1, 2))
        return Quantized(values.view_as(latents), codes.view(latents.shape[:3]), commitment.sum())


def build_quantizer(cfg: FsqConfig | VqConfig) -> FiniteScalarQuantizer | VectorQuantizer:
    """The quantiser of a config section."""
    return FiniteScalarQuantizer(cfg.levels) if cfg.kind == "fsq" else VectorQuantizer(cfg.num_codes, cfg.width)
