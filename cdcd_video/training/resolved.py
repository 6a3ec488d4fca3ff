"""Resolves `auto` in a config at the start of a run, and keeps the result: the precision of each stage."""

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
    """The resolved config of the run in a folder; None if nothing was trained there.

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

    The weights depend on it, so a run that has started keeps its precision on any machine. For the same reason a run that is
    older than a config key keeps the earlier behaviour, see `fingerprint.BEFORE`, unless that key is set.

    Args:
      begun: the resolved config of the run, if it has started.
      absent: of that run, see `fingerprint.unnamed_in`.
    """
    kept = {}
    for name, keys in absent.items():
        own = getattr(config, name)
        old = {key: value for key, value in keys.items() if getattr(own, key) == getattr(type(own)(), key)}
        kept[name] = own.model_copy(update=old)
    return _with(config.model_copy(update=kept), best_for(device)[0], begun)


def foreseen(config: Config, begun: Config | None = None) -> tuple[Config, str]:
    """`settled` for a dry run, also for a device that this machine does not have, and a sentence on what `auto` means."""
    try:
        best, why = best_for(device_for(config.device))
    except UserError:  # the config is for another machine
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
    """The precision of each stage of a resolved config."""
    return {name: getattr(config.train, name).precision for name in stages}


def slow_ones(config: Config, stages: Sequence[str], device: torch.device) -> str:
    """A warning about stages that train in bf16 on a machine where that is slow; empty if there are none."""
    best, why = best_for(device)
    slow = [name for name, precision in precisions(config, stages).items() if precision == "bf16" != best]
    if not slow:
        return ""
    return (
        f"{', '.join(slow)}: bf16 will be slow here ({why}); it is what the config or the earlier start of the run says, and"
        " precision auto with a new --out chooses fp32"
    )
