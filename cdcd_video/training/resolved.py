"""What a config leaves open, settled at the start of a run and kept from then on: the precision of each stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from cdcd_video.config import Config, TrainStages
from cdcd_video.config.fingerprint import saved_config
from cdcd_video.engine.precision import Precision, best_for
from cdcd_video.engine.runtime import device_for
from cdcd_video.errors import UserError


def begun_in(folder: Path) -> Config | None:
    """The settled config of the run that a folder holds; None where nothing was trained there: such a folder takes any.

    Raises:
      UserError: it is damaged.
    """
    file, model = folder / "config.yaml", folder / "model" / "model.json"
    is_trained = any((folder / "checkpoints").glob("*/step-*")) or model.is_file()
    return saved_config(file) if is_trained and file.is_file() else None


def settled(
    config: Config,
    device: torch.device,
    begun: Config | None = None,
    absent: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Config:
    """A config in which every stage names its precision.

    The weights depend on it, so a run that was begun goes on in the one it has, on whatever machine. For the same reason a
    run from before a dial was there goes on as it began, see `fingerprint.BEFORE`, unless that dial is turned.

    Args:
      config: as the user gave it.
      device: where it is trained.
      begun: the settled config of the run, where it was begun before.
      absent: of that run, see `fingerprint.unnamed_in`.
    """
    kept = {}
    for name, dials in absent.items():
        own = getattr(config, name)
        old = {dial: value for dial, value in dials.items() if getattr(own, dial) == getattr(type(own)(), dial)}
        kept[name] = own.model_copy(update=old)
    return _with(config.model_copy(update=kept), best_for(device)[0], begun)


def foreseen(config: Config, begun: Config | None = None) -> tuple[Config, str]:
    """The same for what is only counted, and a sentence on what `auto` is; also for a device that is not here.

    Args:
      config: as the user gave it.
      begun: as for `settled`.
    """
    try:
        best, why = best_for(device_for(config.device))
    except UserError:  # the config is for another machine: told all the same
        best, why = "bf16", f"as on a {config.device} device with bf16; this machine has none"
    found = _with(config, best, begun)
    kept = " A run that has started keeps its own." if begun else ""
    return found, f"Stages with precision auto use {best} here: {why}.{kept}"


def _with(config: Config, best: Precision, begun: Config | None) -> Config:
    changed = {}
    for name in TrainStages.model_fields:
        section = getattr(config.train, name)
        if section.precision == "auto":
            kept = getattr(begun.train, name).precision if begun else "auto"
            changed[name] = section.model_copy(update={"precision": best if kept == "auto" else kept})
    return config.model_copy(update={"train": config.train.model_copy(update=changed)}) if changed else config


def precisions(config: Config, stages: Sequence[str]) -> dict[str, str]:
    """The precision of each stage of a settled config."""
    return {name: getattr(config.train, name).precision for name in stages}


def slow_ones(config: Config, stages: Sequence[str], device: torch.device) -> str:
    """A sentence about stages that train in bf16 where that is slow; empty where there are none."""
    best, why = best_for(device)
    slow = [name for name, precision in precisions(config, stages).items() if precision == "bf16" != best]
    if not slow:
        return ""
    return (
        f"{', '.join(slow)}: bf16 will be slow here ({why}); it is what the config or the earlier start of the run says, and"
        " precision auto with a new --out chooses fp32"
    )
