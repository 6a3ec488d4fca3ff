"""What a section of a config was, in words that stay the same when dials are added: checkpoints are told apart by it."""

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel

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
    "GaussianRival": "kind",
    "AutoregressiveRival": "kind",
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
"""The dials of each section when checkpoints of format 1 began: they are always told. One that came later is told only
where it was turned, so that a run from before it goes on."""


def identity_text(section: BaseModel, but: Collection[str] = ()) -> str:
    """A section as JSON, without the dials that are newer than `FIRST` and stand at their default.

    Args:
      section: of a config.
      but: dials of it that may differ between two starts of one run.
    """
    return section.model_dump_json(exclude=_newer(section) | dict.fromkeys(but, True))


def _newer(section: BaseModel) -> dict[str, Any]:
    """In pydantic's form: name -> True, or what is left out of the section that it holds."""
    known = next((kind.__name__ for kind in type(section).__mro__ if kind.__name__ in FIRST), "")
    first = FIRST.get(known, "kind").split()
    left_out: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if name not in first and value == field.get_default(call_default_factory=True, validated_data={}):
            left_out[name] = True
        elif isinstance(value, BaseModel) and _newer(value):
            left_out[name] = _newer(value)
    return left_out
