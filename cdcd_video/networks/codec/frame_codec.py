"""The codec: one module that encodes frames, decodes codes, and embeds (soft) codes into CLIP's joint space."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cdcd_video.config import CodecConfig
from cdcd_video.networks.codec.decoder import Decoder
from cdcd_video.networks.codec.quantizer import Quantized, build_quantizer
from cdcd_video.networks.patch_grid import positions_on
from cdcd_video.networks.transformer import Block
from cdcd_video.records import Grid


class Projection(nn.Module):
    """Patch states of several CLIP layers -> latents. Each layer is normalised, so that none dominates."""

    def __init__(self, clip_width: int, num_layers: int, width: int, latent_width: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(clip_width) for _ in range(num_layers))
        self.mix = nn.Sequential(nn.Linear(num_layers * clip_width, width), nn.SiLU(), nn.Linear(width, latent_width))

    def forward(self, patches: tuple[Float[Tensor, "B P Dv"], ...]) -> Float[Tensor, "B P V"]:
        return self.mix(torch.cat([norm(states) for norm, states in zip(self.norms, patches, strict=True)], -1))


class EmbedHead(nn.Module):
    """Code values -> unit-norm embedding in CLIP's joint space; differentiable in soft codes.

    `num_patches` are those of the square grid; other grids get their positions from its.
    """

    def __init__(self, code_width: int, num_patches: int, width: int, joint_width: int):
        super().__init__()
        self.codes_in = nn.Linear(code_width, width)
        self.position = nn.Parameter(torch.randn(num_patches, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, width // 32) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, joint_width)

    def forward(self, values: Float[Tensor, "B P V"], grid: Grid | None = None) -> Float[Tensor, "B J"]:
        x = self.codes_in(values) + positions_on(self.position, grid)
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.out(self.norm(x).mean(1)).float(), dim=-1)


class CodeSpace(nn.Module):
    """The code space: code vectors, and their embedding in CLIP's joint space; no pixels.

    It is the part of a codec that the diffusion is trained with. N = patches x groups codes per frame, position by position.
    Frames may have any grid of patches; the square one is what is meant where none is named.

    Args:
      num_patches, joint_width: of the CLIP whose states were encoded; the patches are those of a square frame.
    """

    def __init__(self, cfg: CodecConfig, *, num_patches: int, joint_width: int):
        super().__init__()
        self.cfg = cfg
        self.quantizer = build_quantizer(cfg.quantizer)
        self.groups, self.num_patches = cfg.groups, num_patches
        self.embed_head = EmbedHead(cfg.groups * self.quantizer.width, num_patches, cfg.embed_width, joint_width)

    @property
    def num_codes(self) -> int:
        """K."""
        return self.quantizer.num_codes

    @property
    def num_tokens(self) -> int:
        """N of a square frame."""
        return self.num_patches * self.groups

    @property
    def levels(self) -> tuple[int, ...]:
        """Grid points per digit of one code; (K,) where codes have no digits."""
        return self.quantizer.levels

    @property
    def table(self) -> Float[Tensor, "K d"]:
        """The vector of each code."""
        return self.quantizer.table

    def values(self, codes: Int[Tensor, "B N"]) -> Float[Tensor, "B P V"]:
        """Codes -> code values, patch by patch."""
        return self.table[codes].unflatten(1, (-1, self.groups)).flatten(2)

    def soft_values(self, probabilities: Float[Tensor, "B N K"]) -> Float[Tensor, "B P V"]:
        """Expected code values under a distribution over codes; differentiable."""
        values = probabilities @ self.table.to(probabilities.dtype)
        return values.unflatten(1, (-1, self.groups)).flatten(2)

    def embed(self, codes: Int[Tensor, "B N"], grid: Grid | None = None) -> Float[Tensor, "B J"]:
        """Codes -> unit-norm joint embedding."""
        return self.embed_head(self.values(codes), grid)

    def embed_soft(self, probabilities: Float[Tensor, "B N K"], grid: Grid | None = None) -> Float[Tensor, "B J"]:
        """Soft codes -> unit-norm joint embedding, with gradients to the probabilities."""
        return self.embed_head(self.soft_values(probabilities), grid)


class Codec(CodeSpace):
    """CLIP patch states <-> codes <-> pixels.

    Args:
      clip_width, num_patches, joint_width: of the CLIP whose states are read; the patches are those of a square frame.
      size_px: side of a square frame.
      uses_start: whether the decoder sees the starting frame.
    """

    def __init__(
        self,
        cfg: CodecConfig,
        *,
        clip_width: int,
        num_patches: int,
        joint_width: int,
        size_px: int,
        uses_start: bool = True,
    ):
        nn.Module.__init__(self)  # the order of its parts determines their initial weights
        self.cfg = cfg
        self.quantizer = build_quantizer(cfg.quantizer)
        self.groups, self.num_patches = cfg.groups, num_patches
        code_width = cfg.groups * self.quantizer.width
        grid = round(num_patches**0.5)
        self.projection = Projection(clip_width, len(cfg.layers), cfg.projection_width, code_width)
        sizes = dict(width=cfg.decoder_width, num_layers=cfg.decoder_layers, pixel_width=cfg.pixel_width)
        self.decoder = Decoder(code_width, grid, size_px // grid, **sizes, uses_start=uses_start)
        self.embed_head = EmbedHead(code_width, num_patches, cfg.embed_width, joint_width)

    def grid_of(self, height: int, width: int) -> Grid:
        """Rows and columns of the patches of frames of a size in px; see `Decoder.grid_of`."""
        return self.decoder.grid_of(height, width)

    def quantize(self, patches: tuple[Float[Tensor, "B P Dv"], ...]) -> tuple[Float[Tensor, "B P V"], Quantized]:
        """Patch states -> latents before rounding, and what rounding makes of them."""
        latents = self.projection(patches).float()
        return latents, self.quantizer(latents.unflatten(-1, (self.groups, -1)))

    def encode(self, patches: tuple[Float[Tensor, "B P Dv"], ...]) -> Int[Tensor, "B N"]:
        """Patch states of the layers in the config -> codes in [0, K)."""
        return self.quantize(patches)[1].codes.flatten(1)

    def decode(self, codes: Int[Tensor, "B N"], start: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Codes of a frame and the video's starting frame -> the frame in [0, 1]."""
        return self.decode_values(self.values(codes), start)

    def decode_values(
        self,
        values: Float[Tensor, "B P V"],
        start: Float[Tensor, "B 3 H W"],
        of_start: Float[Tensor, "B P V"] | None = None,
    ) -> Float[Tensor, "B 3 H W"]:
        """Code values of a frame, on the grid or off it, and the video's starting frame -> the frame in [0, 1].

        Args:
          of_start: the starting frame's code values; where they are given, patches that have not changed are copied from it.
        """
        frame = self.decoder(values, self.decoder.start_features(start)).clamp(0, 1)
        if of_start is None:
            return frame
        kept = self.is_unchanged(values, of_start).unflatten(1, self.grid_of(*start.shape[-2:]))
        kept = kept.repeat_interleave(self.decoder.patch_px, 1).repeat_interleave(self.decoder.patch_px, 2)
        return torch.where(kept[:, None], start.to(frame.dtype), frame)

    def is_unchanged(self, values: Float[Tensor, "B P V"], others: Float[Tensor, "B P V"]) -> Bool[Tensor, "B P"]:
        """Which patches have the same codes, those of `values` rounded."""
        return ((values - others).abs() < self.quantizer.tolerance.repeat(self.groups)).all(-1)
