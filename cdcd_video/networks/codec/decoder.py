"""Decoder: codes and the starting frame -> a frame. What does not move is copied from the starting frame."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cdcd_video.networks.transformer import Block


class Decoder(nn.Module):
    """Transformer over patches, then convolutions at full resolution.

    Args:
      code_width: values per patch (groups x digits).
      grid: patches per side.
      patch_px: pixels per patch side; the frame has grid x patch_px pixels per side.
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

    def start_features(self, start: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the starting frame, once per video. Shallow on purpose: they stay local."""
        start = start if self.uses_start else torch.full_like(start, 0.5)
        return start, self.start_in(start).flatten(2).transpose(1, 2), self.start_pixels(start)

    def forward(
        self, values: Float[Tensor, "B P V"], start_features: tuple[Tensor, Tensor, Tensor]
    ) -> Float[Tensor, "B 3 H W"]:
        """Code values of a frame, and `start_features` of the video's starting frame -> the frame, about [0, 1]."""
        start, start_patches, start_pixels = start_features
        x = self.codes_in(values) + start_patches + self.position
        for block in self.blocks:
            x = block(x)
        x = self.to_pixels(self.norm(x)).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        x = F.pixel_shuffle(x, self.patch_px) + start_pixels
        for convolution in self.convolutions:
            x = x + convolution(F.silu(x))
        decoded, carry = self.out(F.silu(x)).float().split([3, 1], 1)
        return torch.lerp(decoded + 0.5, start.float(), carry.sigmoid())


def psnr(frame: Float[Tensor, "B 3 H W"], truth: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B"]:
    """Peak signal-to-noise ratio in dB of frames in [0, 1]."""
    return -10 * (frame - truth).square().mean((1, 2, 3)).clamp_min(1e-10).log10()
