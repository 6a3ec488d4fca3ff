"""Decoder: codes and the starting frame -> a frame. What does not move is copied from the starting frame."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cdcd_video.networks.patch_grid import positions_on
from cdcd_video.networks.transformer import Block
from cdcd_video.records import Grid


class Decoder(nn.Module):
    """Transformer over patches, then convolutions at full resolution. A frame has the height and width of the starting frame.

    Args:
      code_width: values per patch (groups x digits).
      grid: patches per side of a square frame; other grids get their positions from its.
      patch_px: pixels per patch side.
      width, num_layers: of the transformer.
      pixel_width: channels of the convolutions.
      uses_start: whether it gets the starting frame, or grey instead.
    """

    def __init__(
        self,
        code_width: int,
        grid: int,
        patch_px: int,
        width: int,
        num_layers: int,
        pixel_width: int,
        uses_start: bool = True,
    ):
        super().__init__()
        self.grid, self.patch_px, self.uses_start = grid, patch_px, uses_start
        self.codes_in = nn.Linear(code_width, width)
        self.start_in = nn.Conv2d(3, width, patch_px, stride=patch_px)
        self.position = nn.Parameter(torch.randn(grid * grid, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, width // 32) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.to_pixels = nn.Linear(width, pixel_width * patch_px * patch_px)
        self.start_pixels = nn.Conv2d(3, pixel_width, 3, padding=1)
        self.convolutions = nn.ModuleList(nn.Conv2d(pixel_width, pixel_width, 3, padding=1) for _ in range(2))
        self.out = nn.Conv2d(pixel_width, 4, 3, padding=1)
        with torch.no_grad():
            assert self.out.bias is not None
            self.out.bias[3] = 1.0  # begin by copying the starting frame

    def grid_of(self, height: int, width: int) -> Grid:
        """Rows and columns of the patches of frames of a size in px.

        Raises:
          ValueError: a side is no multiple of the patches'.
        """
        if height % self.patch_px or width % self.patch_px:
            raise ValueError(f"frames of {height} x {width} px are no whole number of patches of {self.patch_px} px")
        return height // self.patch_px, width // self.patch_px

    def start_features(self, start: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the starting frame, once per video. Shallow on purpose: they stay local."""
        start = start if self.uses_start else torch.full_like(start, 0.5)
        return start, self.start_in(start).flatten(2).transpose(1, 2), self.start_pixels(start)

    def forward(
        self, values: Float[Tensor, "B P V"], start_features: tuple[Tensor, Tensor, Tensor]
    ) -> Float[Tensor, "B 3 H W"]:
        """Code values of a frame, and `start_features` of the video's starting frame -> the frame, about [0, 1]."""
        start, start_patches, start_pixels = start_features
        grid = self.grid_of(*start.shape[-2:])
        x = self.codes_in(values) + start_patches + positions_on(self.position, grid)
        for block in self.blocks:
            x = block(x)
        x = self.to_pixels(self.norm(x)).transpose(1, 2).unflatten(2, grid)
        x = F.pixel_shuffle(x, self.patch_px) + start_pixels
        for convolution in self.convolutions:
            x = x + convolution(F.silu(x))
        decoded, carry = self.out(F.silu(x)).float().split([3, 1], 1)
        return torch.lerp(decoded + 0.5, start.float(), carry.sigmoid())


def psnr(frame: Float[Tensor, "B 3 H W"], truth: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B"]:
    """Peak signal-to-noise ratio in dB of frames in [0, 1]."""
    return -10 * (frame - truth).square().mean((1, 2, 3)).clamp_min(1e-10).log10()
