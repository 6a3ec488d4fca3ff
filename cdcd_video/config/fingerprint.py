"""The identity of a section of a config, by which checkpoints are compared; it stays the same when fields are added."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from cdcd_video.config import CodecConfig, Config, TrainStages, config_file

FIRST: dict[str, str] = {
    "ClipConfig": (
        "kind patch_size vision_width vision_layers text_width text_layers joint_width vocabulary max_tokens"
    ),
    "PretrainedClip": "kind folder",
    "FsqConfig": "kind levels",
    "VqConfig": "kind num_codes width",
    "CodecConfig": (
        "layers projection_width groups quantizer decoder_width decoder_layers pixel_width embed_width "
        "change_weight still_weight embed_weight frame_frame frame_text temperature"
    ),
    "MaskProcess": "kind schedule",
    "ReplaceProcess": "kind uniform schedule",
    "BridgeProcess": "kind uniform schedule",
    "HybridProcess": "kind mask uniform schedule",
    "CdcdProcess": "kind",
    "DenoiserConfig": "width num_layers num_heads",
    "GaussianBaseline": "kind",
    "AutoregressiveBaseline": "kind",
    "ContrastConfig": (
        "frame_frame frame_text level temperature learn_temperature symmetric inter far shuffled "
        "num_chunks text_eye share"
    ),
    "CdcdContrastConfig": "intra intra_mode chunks num_chunks inter inter_mode num_negatives",
    "LossConfig": "bound auxiliary changed still_clip contrast cdcd",
    "DiffusionConfig": "process num_steps full_share max_gap start_share first_dropout caption_dropout source_jitter",
    "TrainConfig": (
        "num_steps batch_size learning_rate warmup_steps final_lr_ratio weight_decay clip_norm ema_decay "
        "precision log_every evaluate_every checkpoint_every"
    ),
    "RefineConfig": (
        "num_steps batch_size learning_rate warmup_steps final_lr_ratio weight_decay clip_norm ema_decay "
        "precision log_every evaluate_every checkpoint_every own_share"
    ),
}
"""The fields of each section in checkpoints of format 1; they are always part of the identity. A later field is part
of it only if its value differs from the earlier behaviour, so that older runs can be resumed."""


BEFORE: Mapping[str, dict[str, Any]] = MappingProxyType(
    {"codec": {"still_tolerance": 0.0}, "denoiser": {"normalised_text": False}}
)
"""Newer fields, by section, whose default differs from the behaviour before they existed, with the earlier value."""
_BEFORE_OF: dict[str, dict[str, Any]] = {
    type(Config.model_fields[name].default).__name__: fields for name, fields in BEFORE.items()
}
_TRAINED_BEFORE = {stage: {"precision": "bf16"} for stage in TrainStages.model_fields}
"""For stages that a config does not name: the precision of all stages before the machine chose it."""
TRAINS_THE_CODEC = ("still_tolerance",)
"""Newer fields of the section `codec` that affect only its training, not the meaning of its codes."""


def saved_config(file: Path) -> Config:
    """Reads the config of a run or model folder, with the meaning that it had when it was written.

    Raises:
      UserError: it is missing or damaged.
    """
    return config_file.load(file, Config, beneath={**BEFORE, "train": _TRAINED_BEFORE})


def unnamed_in(file: Path) -> dict[str, dict[str, Any]]:
    """The fields of `BEFORE` that an older config does not name, with the values that applied then."""
    now, then = config_file.load(file, Config), saved_config(file)
    found = {name: {field: _of(then, name, field) for field in fields} for name, fields in BEFORE.items()}
    return {
        name: {field: value for field, value in fields.items() if _of(now, name, field) != value}
        for name, fields in found.items()
    }


def _of(config: Config, section: str, field: str) -> Any:
    return getattr(getattr(config, section), field)


def text_digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def of_codes(section: CodecConfig) -> CodecConfig:
    """The section of a codec without the fields that affect only its training: what its codes depend on."""
    return section.model_copy(update={name: BEFORE["codec"][name] for name in TRAINS_THE_CODEC})


def identity_text(section: BaseModel, but: Collection[str] = ()) -> str:
    """A section as JSON, without fields that are newer than `FIRST` and have their earlier value.

    Args:
      section: of a config.
      but: fields that may differ between two starts of one run.
    """
    return section.model_dump_json(exclude=_newer(section) | dict.fromkeys(but, True))


def _newer(section: BaseModel) -> dict[str, Any]:
    """In pydantic's form: name -> True, or what is left out of the section that it holds."""
    known = next((kind.__name__ for kind in type(section).__mro__ if kind.__name__ in FIRST), "")
    first = FIRST.get(known, "kind").split()
    left_out: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        then = _BEFORE_OF.get(known, {}).get(name, field.get_default(call_default_factory=True, validated_data={}))
        if name not in first and value == then:
            left_out[name] = True
        elif isinstance(value, BaseModel) and _newer(value):
            left_out[name] = _newer(value)
    return left_out
