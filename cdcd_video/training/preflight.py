"""What a config needs, checked before training: libraries, and a lower bound of the memory.

It counts what must be in memory at once: weights and optimiser state, the batch, and one activation of each layer. Nothing that
could work is refused; `train.py --dry-run` estimates the real need.
"""

import torch

from cdcd_video.config import Config
from cdcd_video.errors import require
from cdcd_video.storage.memory import check_fits

_TRAINED = 20
"""Bytes of a trained parameter: itself, its gradient, its average, and two of AdamW."""
_FEW_PATCHES = 16
"""Fewer than any published CLIP has; its folder is not read here."""


def check_training(config: Config, stage: str, device: torch.device) -> None:
    """Refuses a stage whose step cannot fit into this machine's memory, or the GPU's, or that lacks a library.

    Raises:
      UserError: with the memory needed, the memory there is, and the keys to lower; or with the extra to install.
    """
    if config.codec.quantizer.kind == "vq":
        require("vector_quantize_pytorch")
    has = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    batch = getattr(config.train, stage).batch_size
    check_fits(
        least_bytes(config, stage),
        f"a step of the stage {stage} with a batch of {batch:,}",
        f"lower train.{stage}.batch_size, or the sizes of the networks and frames",
        has,
    )


def least_bytes(config: Config, stage: str) -> int:
    """A lower bound of the memory of a step of a stage."""
    size, batch, clip = config.data.size_px, getattr(config.train, stage).batch_size, config.clip
    patches = (size // clip.patch_size) ** 2 if clip.kind == "builtin" else _FEW_PATCHES
    pixels = 3 * size**2 * 4
    if stage == "clip" and clip.kind == "builtin":
        numbers = _of_blocks(clip.vision_width, clip.vision_layers) + _of_blocks(clip.text_width, clip.text_layers)
        return _TRAINED * numbers + batch * (pixels + 2 * patches * clip.vision_width * clip.vision_layers)
    if stage in ("codec", "decoder"):
        codec = config.codec
        numbers = _of_blocks(codec.decoder_width, codec.decoder_layers)
        return _TRAINED * numbers + batch * (3 * pixels + 2 * size**2 * codec.pixel_width)
    codes = 2 * 8 * patches * config.codec.groups
    if stage == "eye":
        return batch * codes
    width, layers = config.denoiser.width, config.denoiser.num_layers
    return _TRAINED * _of_blocks(width, layers) + batch * (codes + 2 * patches * width * layers)


def _of_blocks(width: int, layers: int) -> int:
    """Parameters of transformer blocks: four matrices of attention, two of an MLP that is four times as wide."""
    return 12 * width**2 * layers
