"""A trained CLIP and codec as the encoder of a cache of latents, and the part of them that training on a cache needs."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from cdcd_video.config import CodecConfig, Config
from cdcd_video.config.fingerprint import TRAINS_THE_CODEC, identity_text, of_codes, saved_config
from cdcd_video.data.cache import SPACE, CodeCache
from cdcd_video.data.cache_blocks import Encoder
from cdcd_video.data.cache_plan import CachePlan
from cdcd_video.errors import UserError
from cdcd_video.model import SHIPPED, build_codec, clip_folder, load_module, read_weights
from cdcd_video.networks.clip import STAND_IN, FrozenClip
from cdcd_video.networks.codec.frame_codec import Codec, CodeSpace
from cdcd_video.storage.small_file import read_small_json


@dataclass(frozen=True)
class FrameEncoder:
    """Encodes frames and captions into latents.

    Attributes:
      config: of the codec.
      clip: both towers, frozen.
      codec: as it was saved, in 16 bits.
      device: of both.
    """

    config: Config
    clip: FrozenClip
    codec: Codec
    device: torch.device

    @property
    def size_px(self) -> int:
        """Side of the frames that the codec was trained on."""
        return self.config.data.size_px

    def encoder(self) -> Encoder:
        """Frames -> codes, captions -> states."""
        return Encoder(self._encode, self.clip.encode_text)

    def plan(
        self,
        *,
        data: str,
        num_items: int,
        fps: float,
        max_frames: int | None,
        recipe: dict[str, object],
        is_timed: bool = False,
        size: tuple[int, int] | None = None,
    ) -> CachePlan:
        """The plan of a cache made with this encoder; see `CachePlan` for the arguments.

        Args:
          size: height and width of the frames, px; None for squares.
        """
        square = self.codec.grid_of(self.size_px, self.size_px)
        grid = square if size is None else self.codec.grid_of(*size)
        return CachePlan(
            codes=codes_digest(self.codec, self.clip),
            clip=self.clip.digest,
            data=data,
            num_items=num_items,
            num_codes=self.codec.num_codes,
            num_tokens=grid[0] * grid[1] * self.codec.groups,
            num_patches=self.codec.num_patches,
            text_width=self.clip.text_width,
            joint_width=self.clip.joint_width,
            size_px=self.size_px,
            fps=float(fps),
            max_frames=max_frames,
            is_timed=is_timed,
            grid=None if grid == square else grid,
            codec=self.codec.cfg.model_dump(mode="json", exclude=set(TRAINS_THE_CODEC)),
            recipe={**recipe, **({STAND_IN: self.clip.stand_in} if self.clip.stand_in else {})},
        )

    def space(self) -> bytes:
        """The part of the codec that the cache stores: `CodeSpace`, in 16 bits."""
        parts = {
            name: tensor.detach().half().cpu().contiguous()
            for name, tensor in self.codec.state_dict().items()
            if name.startswith(("quantizer", "embed_head"))
        }
        return save(parts)

    @torch.no_grad()
    def _encode(self, frames: Tensor) -> Tensor:
        frames, layers = frames.to(self.device), self.codec.cfg.layers
        return self.codec.encode(self.clip.encode_image(frames, layers, self.codec.grid_of(*frames.shape[-2:])).patches)


def open_frame_encoder(name_or_path: str | Path, device: torch.device) -> FrameEncoder:
    """CLIP and codec of a shipped model, a model folder, or a run folder; its diffusion need not be trained yet.

    Raises:
      UserError: they are missing or damaged.
    """
    path = Path(name_or_path)
    places = (SHIPPED / str(name_or_path), path, path / "model")
    folder = next((place for place in places if (place / "codec.safetensors").is_file()), None)
    if folder is None:
        raise UserError(
            f"{name_or_path} holds no trained codec; give a model, or a run folder whose stage `codec` has ended"
        )
    config = saved_config(folder / "config.yaml")
    clip = FrozenClip(clip_folder(config, folder)).to(device)
    codec = load_module(build_codec(config, clip), folder / "codec.safetensors").to(device).eval().requires_grad_(False)
    return FrameEncoder(config, clip, codec, device)


def load_space(cache: CodeCache) -> CodeSpace:
    """The code space of a cache, from the cache alone.

    Raises:
      UserError: the file is missing or damaged.
    """
    plan = cache.manifest["plan"]
    cfg = CodecConfig.model_validate(plan["codec"])
    space = CodeSpace(cfg, num_patches=plan["num_patches"], joint_width=plan["joint_width"])
    return load_module(space, cache.folder / SPACE).eval().requires_grad_(False)


def codes_digest(codec: Codec, clip: FrozenClip) -> str:
    """Identity of the codes: hash of the CLIP and of the part of the codec that makes codes (not the decoder)."""
    return _digest(clip.digest, codec.cfg, codec.state_dict())


def codes_of_folder(folder: Path, cfg: CodecConfig) -> str:
    """`codes_digest` of a model folder, without building networks; a different value if the folder does not name its CLIP.

    Raises:
      UserError: the codec is damaged.
    """
    tensors = read_weights(folder / "codec.safetensors")
    clip_sha256 = read_small_json(folder / "model.json", "model file").get("clip_sha256")
    return _digest(str(clip_sha256), cfg, tensors)


def _digest(clip_sha256: str, cfg: CodecConfig, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(clip_sha256.encode() + identity_text(of_codes(cfg)).encode())
    for name, tensor in sorted(tensors.items()):
        if name.startswith(("projection", "quantizer")):
            digest.update(name.encode() + tensor.half().cpu().numpy().tobytes())
    return digest.hexdigest()
