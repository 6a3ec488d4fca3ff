"""`init`: the networks of a run begin with another model's weights instead of noise, as far as they fit."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cdcd_video.config import ClipConfig
from cdcd_video.config.fingerprint import saved_config
from cdcd_video.model import folder_of, read_weights
from cdcd_video.networks.clip import built_in
from cdcd_video.storage.tensor_file import read_tensors

PARTS = {"clip": "CLIP", "codec": "codec", "diffusion": "denoiser"}
"""What a stage trains first, in words; a model folder holds no step encoder, so that of the stage `eye` always begins anew."""
_MOST_NAMED = 4


def saved_tokenizer(model: str, cfg: ClipConfig) -> Any | None:
    """The tokenizer whose token ids the other model's CLIP knows; None where this config's CLIP reads other ids.

    Args:
      model: a shipped name, a model folder or a run folder.
      cfg: of this run's CLIP.

    Raises:
      UserError: there is no such model.
    """
    other = saved_config(folder_of(model) / "config.yaml").clip
    if other.kind != "builtin" or (other.vocabulary, other.max_tokens) != (cfg.vocabulary, cfg.max_tokens):
        return None
    return built_in.read_tokenizer(folder_of(model) / "clip")


def begin_with(model: str, stage: str, network: nn.Module) -> str:
    """Copies the weights of another model that fit: those with the same name and shape. The others stay as they are.

    Args:
      model: a shipped name, a model folder or a run folder.
      stage: of `PARTS`.
      network: what the stage trains; changed in place.

    Returns:
      One sentence on what was copied and what was not.

    Raises:
      UserError: there is no such model, or its file is damaged.
    """
    folder, part = folder_of(model), PARTS[stage]
    other = saved_config(folder / "config.yaml")
    if stage == "clip" and other.clip.kind != "builtin":
        return f"the {part} begins anew: that of {model} is a published one, which the config can name in `clip`"
    saved, own = _weights(folder, part), network.state_dict()
    fitting = {name: saved[name].to(value.dtype) for name, value in own.items() if _fits(saved.get(name), value)}
    with torch.no_grad():
        for name, value in fitting.items():
            own[name].copy_(value)
    anew = [name for name in own if name not in fitting]
    if not anew:
        return f"the {part} begins with all {len(own)} tensors of {model}"
    named = ", ".join(anew[:_MOST_NAMED]) + (f" and {len(anew) - _MOST_NAMED} more" if len(anew) > _MOST_NAMED else "")
    return f"the {part} begins with {len(fitting)} of its {len(own)} tensors from {model}; anew begin {named}"


def _weights(folder: Path, part: str) -> dict[str, Tensor]:
    if part == "CLIP":
        return read_tensors(folder / "clip" / "model.safetensors", "CLIP file", "copy it again")
    return read_weights(folder / f"{part}.safetensors")


def _fits(given: Tensor | None, value: Tensor) -> bool:
    return given is not None and given.shape == value.shape
