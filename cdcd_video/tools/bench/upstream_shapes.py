"""Sizes of upstream's models, for benchmarks."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Shape:
    """Sizes of one training step."""

    batch: int
    num_tokens: int
    num_codes: int
    num_steps: int

    def __str__(self) -> str:
        return f"batch {self.batch}, {self.num_tokens:,} tokens, {self.num_codes:,} codes, {self.num_steps} steps"


SHAPES = {
    "cub": Shape(batch=4, num_tokens=1024, num_codes=2887, num_steps=80),
    "small": Shape(batch=4, num_tokens=256, num_codes=1024, num_steps=80),
    "tiny": Shape(batch=2, num_tokens=16, num_codes=11, num_steps=4),
}
"""`cub`: upstream's models of CUB-200 and COCO. `small`: a grid of 16 x 16 and a codebook of 1,024. `tiny`: for tests."""


@dataclass(frozen=True)
class Trunk:
    """Sizes of the transformer."""

    num_layers: int
    width: int
    num_heads: int
    text_tokens: int = 77
    text_width: int = 512

    @property
    def equal_mlp(self) -> int:
        """Hidden width of a plain MLP with as many weights and FLOPs as upstream's two 3 x 3 convolutions to twice the width
        and back.
        """
        return 18 * self.width

    def with_heads(self, num_heads: int | None) -> "Trunk":
        """The same with another number of heads, if one is given."""
        return replace(self, num_heads=num_heads or self.num_heads)

    def __str__(self) -> str:
        text = f"{self.text_tokens} words of width {self.text_width}"
        return f"{self.num_layers} layers, width {self.width}, {self.num_heads} heads, {text}"


TRUNKS = {
    "cub": Trunk(num_layers=18, width=192, num_heads=16),
    "small": Trunk(num_layers=6, width=192, num_heads=8),
    "tiny": Trunk(num_layers=2, width=32, num_heads=2, text_tokens=5, text_width=12),
}
"""For each of `SHAPES`."""
