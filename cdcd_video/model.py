"""A trained model (CLIP, codec, denoiser) and its folder."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from cdcd_video.baselines.build import build_baseline
from cdcd_video.config import Config
from cdcd_video.config.fingerprint import saved_config
from cdcd_video.config.model_digest import folder_digest
from cdcd_video.config.shipped_files import MODELS
from cdcd_video.diffusion import process as processes
from cdcd_video.errors import UserError, is_text, say
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec import start_thresholds
from cdcd_video.networks.codec.frame_codec import Codec, CodeSpace
from cdcd_video.networks.codec.perceptual import Critic
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_encoder import StepTextEncoder
from cdcd_video.storage.memory import user_error_when_out
from cdcd_video.storage.small_file import read_small_json
from cdcd_video.storage.tensor_file import MOST_IN_16_BITS, check_numbers, read_tensors

Network = TypeVar("Network", bound=nn.Module)

FORMAT = 1
"""Version of the model folder's layout."""
SHIPPED = MODELS
"""Models that come with the package, by name."""


@dataclass(frozen=True)
class Model:
    """Everything needed to sample a video."""

    config: Config
    clip: FrozenClip
    codec: Codec
    denoiser: Any
    """The network that predicts the next frame: a `Denoiser`, or the `Baseline` of the config."""
    digest: str
    """sha256 of what sampling depends on, see `model_digest`."""
    start: start_thresholds.StartThresholds = field(default_factory=start_thresholds.StartThresholds)
    """What starting frames like the training frames reach."""
    folder: Path | None = None
    """The folder it was loaded from."""
    unfinished: str = ""
    """How far its training was when the weights were written; "" if it had ended."""

    @property
    def process(self) -> processes.DiscreteProcess:
        return build_process(self.config, self.codec.num_codes)


def build_codec(config: Config, clip: FrozenClip) -> Codec:
    """A codec with fresh weights for a CLIP's states.

    Raises:
      UserError: frames of the config are no whole number of its patches.
    """
    codec = Codec(
        config.codec,
        clip_width=clip.vision_width,
        num_patches=clip.num_patches,
        joint_width=clip.joint_width,
        size_px=config.data.size_px,
        uses_start=config.picture.sees_start,
    )
    patch_px = codec.decoder.patch_px
    for height, width in getattr(config.data, "sizes", None) or ():
        if height % patch_px or width % patch_px:
            raise UserError(
                f"data.sizes: frames of {height}x{width} px are no whole number of this CLIP's patches, of which a square of"
                f" {config.data.size_px} px has {clip.num_patches}; use multiples of {patch_px}"
            )
    return codec


def build_critic(config: Config) -> Critic | None:
    """The decoder's critic with fresh weights; None where the config has none."""
    return Critic(config.picture.critic_width) if config.picture.adversarial else None


def build_denoiser(config: Config, codec: CodeSpace, text_width: int) -> Any:
    """A `Denoiser` with fresh weights for a codec's codes, or the `Baseline` that replaces it."""
    shape: dict[str, Any] = dict(
        levels=codec.levels, table=codec.table, num_patches=codec.num_patches, groups=codec.groups
    )
    shape |= dict(text_width=text_width)
    if config.baseline is None:
        return Denoiser(config.denoiser, **shape, takes_last=config.diffusion.last_share > 0)
    return build_baseline(config.baseline, config.denoiser, **shape)


def build_step_encoder(config: Config, codec: CodeSpace, text_width: int) -> StepTextEncoder:
    """A step-text encoder with fresh weights, as wide as the codec's `embed`."""
    code_width = codec.groups * codec.table.shape[1]
    width, normalised_text = config.codec.embed_width, config.denoiser.normalised_text
    return StepTextEncoder(code_width, codec.num_patches, text_width, width, normalised_text=normalised_text)


def build_process(config: Config, num_codes: int) -> processes.DiscreteProcess:
    """The forward process of a config."""
    return config.diffusion.process.build(num_codes, config.diffusion.num_steps)


def save_module(module: nn.Module, path: Path) -> None:
    """Writes a module's weights in 16 bits (safetensors), atomically; equal weights give equal bytes.

    Raises:
      UserError: a weight is not finite, or too large for 16 bits, or the file cannot be written; what was there stays.
    """
    way_out = (
        "nothing was written and the checkpoints are unchanged; train into a new --out with a lower learning_rate or"
        " clip_norm"
    )
    check_numbers(module.state_dict(), f"the model for {path}", way_out, MOST_IN_16_BITS)
    tensors = {name: value.detach().half().contiguous() for name, value in module.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    try:
        # One key only: safetensors writes several in an order that differs from process to process.
        save_file(tensors, temporary, metadata={"facts": json.dumps({"format": FORMAT})})
        temporary.chmod(0o644)  # safetensors writes for the owner only
        temporary.replace(path)
    except (SafetensorError, OSError) as error:  # a full disk is a SafetensorError, and no OSError
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path} ({error}); free some space or change its permissions, then run it again"
        ) from error


def load_module(module: Network, path: Path) -> Network:
    """Reads weights written by `save_module` into a module of the same shape.

    Raises:
      UserError: the file is missing, truncated, of another architecture or format, or has unusable values.
    """
    tensors = read_weights(path)
    try:
        module.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"model file {path} does not fit its config.yaml: {reason}") from error
    return module


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors that `save_module` wrote.

    Raises:
      UserError: as for `load_module`, apart from the architecture.
    """
    if not path.is_file():
        raise UserError(f"model file {path} is missing; train the model to its end, or choose another --checkpoint")
    return read_tensors(path, "model file", "copy it again or train again", MOST_IN_16_BITS)


def check_room(network: nn.Module, path: Path) -> None:
    """Refuses a network that is far larger than its file, before memory is allocated: the config is not trusted.

    Args:
      network: on the device "meta".
      path: of its weights.

    Raises:
      UserError: the file exists, and has less than half of the parameters.
    """
    if not path.is_file():
        return  # reported when it is read
    wanted = sum(value.numel() for value in network.state_dict().values())
    if wanted > 2 * path.stat().st_size:
        raise UserError(
            f"model file {path} does not fit its config.yaml: it needs {wanted:,} parameters, but the file has"
            f" {path.stat().st_size:,} bytes; copy both from the same model"
        )


def _least_numbers(config: Config) -> tuple[int, int]:
    """Numbers in the largest matrices of the codec and the denoiser, of which the whole networks have a few times as many.

    A file of 16-bit numbers has more bytes than that. To count exactly, on the device "meta", torch imports its compiler,
    which takes longer than torch itself: only what looks too large is counted so.
    """
    codec, denoiser = config.codec, config.denoiser
    blocks = 12 * codec.decoder_layers * codec.decoder_width**2 + 24 * codec.embed_width**2
    codec_numbers = blocks + codec.projection_width * config.codec.groups + codec.pixel_width**2
    num_codes = math.prod(codec.quantizer.levels) if codec.quantizer.kind == "fsq" else codec.quantizer.num_codes
    return codec_numbers, 14 * denoiser.num_layers * denoiser.width**2 + num_codes * codec.groups * denoiser.width


def folder_of(name_or_path: str | Path) -> Path:
    """The folder of a model: of a shipped name, a model folder, or a run folder with one.

    Raises:
      UserError: there is no such model; the shipped names are listed.
    """
    if not is_text(str(name_or_path)):
        raise UserError(
            f"the name of the model {str(name_or_path)!r} is not UTF-8, so its weights cannot be read; rename it"
        )
    for folder in (SHIPPED / str(name_or_path), Path(name_or_path), Path(name_or_path) / "model"):
        if (folder / "config.yaml").is_file() and (folder / "denoiser.safetensors").is_file():
            return folder
    shipped = sorted(found.parent.name for found in SHIPPED.glob("*/model.json"))
    if (Path(name_or_path) / "config.yaml").is_file():
        raise UserError(
            f"{name_or_path} contains no model yet: a run has one from the first checkpoint of its diffusion on; wait for it,"
            " or run its training command again to continue"
        )
    names = ", ".join(shipped) or "none installed"
    raise UserError(
        f"there is no model {str(name_or_path)!r}: give a run folder, a model folder, or the name of a shipped model ({names})"
    )


def clip_folder(config: Config, folder: Path) -> Path | str:
    """The CLIP of a model: in the model folder if it was trained with it, else the folder or name in the config."""
    return folder / "clip" if config.clip.kind == "builtin" else config.clip.folder


def load_model(name_or_path: str | Path, device: torch.device | str = "cpu") -> Model:
    """Loads a finished model.

    Raises:
      UserError: the model is missing, incomplete, damaged or from another version.
    """
    with user_error_when_out(f"loading the model {name_or_path}", "choose a smaller one"):
        return _loaded(folder_of(name_or_path), device)


def _loaded(folder: Path, device: torch.device | str) -> Model:
    facts = folder / "model.json"
    if not facts.is_file():
        raise UserError(f"model folder {folder} has no model.json; copy it again or train again")
    known: dict[str, Any] = read_small_json(facts, "model file")
    version = known.get("format")
    if version != FORMAT:
        raise UserError(
            f"model folder {folder} has format {version!r}, but this version reads {FORMAT}; train it again"
        )
    if known.get("unfinished"):
        say("warning", f"the model {folder} is unfinished ({known['unfinished']}).")
    config = saved_config(folder / "config.yaml")
    clip = FrozenClip(clip_folder(config, folder))
    if config.clip.kind == "pretrained":
        clip.known_words = None  # those that another model was trained with
    if known.get("clip_sha256", clip.digest) != clip.digest:
        raise UserError(
            f"model folder {folder} was trained with another CLIP (sha256 {str(known['clip_sha256'])[:12]}...) than"
            f" the one in {clip_folder(config, folder)} ({clip.digest[:12]}...); restore that CLIP, or train again"
        )
    files = [folder / name for name in ("codec.safetensors", "denoiser.safetensors")]
    if any(
        least > file.stat().st_size for least, file in zip(_least_numbers(config), files, strict=True) if file.is_file()
    ):
        with torch.device("meta"):
            shapes = build_codec(config, clip)
            check_room(shapes, files[0])
            check_room(build_denoiser(config, shapes, clip.text_width), files[1])
    codec = load_module(build_codec(config, clip), files[0])
    denoiser = load_module(build_denoiser(config, codec, clip.text_width), files[1])
    for module in (clip, codec, denoiser):
        module.to(device).eval().requires_grad_(False)
    thresholds = start_thresholds.read_thresholds(folder)
    unfinished = str(known.get("unfinished") or "")
    return Model(config, clip, codec, denoiser, folder_digest(folder), thresholds, folder, unfinished)
