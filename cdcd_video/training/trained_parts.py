"""Networks that later stages build on: trained by this run, or copied from another run."""

import hashlib
import shutil
from pathlib import Path

import torch
from torch import nn

from cdcd_video.config import Config
from cdcd_video.config.config_difference import describe_differences, unequal
from cdcd_video.config.fingerprint import of_codes, saved_config
from cdcd_video.engine import checkpoint
from cdcd_video.errors import UserError
from cdcd_video.model import SHIPPED, build_codec, build_step_encoder, clip_folder, load_module, read_weights
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec import start_thresholds
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.step_encoder import StepTextEncoder
from cdcd_video.training.latent_encoder import codes_of_folder
from cdcd_video.training.stage_order import has_step_encoder
from cdcd_video.training.training_data import Latents


def trained_clip(config: Config, out: Path, device: torch.device) -> FrozenClip:
    """The CLIP of a run: its own, or the published one that its config names.

    Raises:
      UserError: it is not trained yet.
    """
    folder = clip_folder(config, out / "model")
    if config.clip.kind == "builtin" and not (Path(folder) / "model.safetensors").is_file():
        raise UserError(f"{out} holds no trained CLIP yet; train the stage `clip` first, or leave out --stages")
    return FrozenClip(folder).to(device)


def trained_codec(config: Config, out: Path, clip: FrozenClip, device: torch.device) -> Codec:
    """The codec as it was saved, in 16 bits: cache and sampling must use the same weights.

    Raises:
      UserError: it is not trained yet.
    """
    file = out / "model" / "codec.safetensors"
    if not file.is_file():
        raise UserError(f"{out} holds no trained codec yet; train the stage `codec` first, or leave out --stages")
    return load_module(build_codec(config, clip), file).to(device).eval()


def trained_step_encoder(config: Config, out: Path, at: Latents, device: torch.device) -> StepTextEncoder | None:
    """The trained step-text encoder; None if no term uses it."""
    if not has_step_encoder(config):
        return None
    step_encoder = build_step_encoder(config, at.space, at.text_width)
    step_encoder.load_state_dict(checkpoint.load_weights(out, "eye", "ema"))
    return step_encoder.to(device).eval().requires_grad_(False)


def weights_digest(module: nn.Module) -> str:
    """sha256 over names and values of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def take_over(name_or_path: str, config: Config, folder: Path, latents: Latents | None) -> None:
    """Copies CLIP and codec from another run, whose config must have the same sections for them.

    Args:
      name_or_path: a shipped model, the other run's folder, or its model folder.
      folder: of this run's model.
      latents: the training data, if the config names latents.

    Raises:
      UserError: there is no trained codec, or it is damaged, of another config, or not the one that made the latents.
    """
    path = Path(name_or_path)
    places = (SHIPPED / name_or_path, path, path / "model")
    source = next((place for place in places if (place / "codec.safetensors").is_file()), None)
    if source is None:
        raise UserError(f"reuse: {path} holds no trained codec; train it first, or give another run folder")
    other = saved_config(source / "config.yaml")
    for section in ("clip", "codec"):
        there, here = getattr(other, section), getattr(config, section)
        if section == "codec":
            there, here = of_codes(there), of_codes(here)
        if there != here:
            differing = describe_differences(unequal(there, here, f"{section}."))
            raise UserError(
                f"reuse: the section `{section}` of {source} differs from this config's ({differing}); make them equal"
            )
    if latents is not None:
        assert config.data.kind == "latents"
        codes = codes_of_folder(source, config.codec)
        if codes != latents.codes:
            raise UserError(
                f"reuse: the codec of {source} ({codes[:16]}) is not the one that made {config.data.path} "
                f"({latents.codes[:16]}); give the model that did, or encode again"
            )
    if other.picture.sees_start != config.picture.sees_start:
        here = config.picture.sees_start
        raise UserError(
            f"reuse: picture.sees_start of {source} is {not here}, and this config's is {here}; make them equal"
        )
    read_weights(source / "codec.safetensors")  # check before copying
    folder.mkdir(parents=True, exist_ok=True)
    if config.clip.kind == "builtin":
        shutil.copytree(source / "clip", folder / "clip", dirs_exist_ok=True)
    shutil.copyfile(source / "codec.safetensors", folder / "codec.safetensors")
    if (source / start_thresholds.FILE).is_file():
        shutil.copyfile(source / start_thresholds.FILE, folder / start_thresholds.FILE)
