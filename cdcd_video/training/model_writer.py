"""Writes one network into a model folder, with the config and the facts beside it."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from cdcd_video.config import Config, config_file
from cdcd_video.engine import runtime
from cdcd_video.model import FORMAT, save_module
from cdcd_video.training.hub_card import remove_card


def write_part(module: nn.Module, name: str, folder: Path, config: Config, facts: Mapping[str, object]) -> None:
    """Writes `NAME.safetensors`, `config.yaml` and `model.json`, and removes the model card, which is of other weights.

    Args:
      name: of the part, "codec" or "denoiser".
      folder: of the model; made if missing.
      facts: further entries of `model.json`.

    Raises:
      UserError: as for `save_module`, or the folder cannot be written.
    """
    with runtime.writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_card(folder)
        save_module(module, folder / f"{name}.safetensors")
        runtime.replace_file(folder / "config.yaml", config_file.dump(config))
        known = {"format": FORMAT, "name": config.name, **facts, **runtime.git_state()}
        runtime.replace_file(folder / "model.json", json.dumps(known, indent=1) + "\n")


def with_weights(denoiser: nn.Module, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy of the denoiser with other weights; those of a stage that also trains temperatures name it as its part."""
    found = copy.deepcopy(denoiser)
    found.load_state_dict({name: tensors.get(name, tensors.get(f"denoiser.{name}")) for name in denoiser.state_dict()})
    return found
