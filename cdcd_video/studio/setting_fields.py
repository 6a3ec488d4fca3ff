"""The settings of a sampler as fields of the page: one for each of `SamplingParams`, with its range and its own words."""

from typing import Any, get_args

from cdcd_video.config import SamplingParams
from cdcd_video.config.ranges import RANGES
from cdcd_video.config.video_record import SAMPLING
from cdcd_video.studio.studio_limits import Limits

MAIN = ("num_frames", "fps", "num_steps", "guidance", "temperature", "contrast", "seed")
"""Settings that are always in sight; the others are folded away."""
FURTHER = tuple(name for name in SAMPLING if name not in MAIN)
LABELS = {
    "num_frames": "Frames",
    "fps": "Frames per second",
    "num_steps": "Steps per frame",
    "guidance": "Guidance",
    "temperature": "Temperature",
    "contrast": "Contrast",
    "seed": "Seed",
    "top_p": "Top p",
    "top_k": "Top k",
    "order": "Order",
    "lookback_s": "Lookback (s)",
    "longest_gap_s": "Longest gap (s)",
    "decoded": "Decoded",
    "unchanged": "Unchanged patches",
    "solver": "Solver",
}
_STEPS = {"guidance": 0.5, "temperature": 0.05, "top_p": 0.05}
"""Of the arrow keys."""


def setting_field(name: str, params: SamplingParams, limits: Limits) -> Any:
    """The Gradio component of a setting.

    Args:
      name: of the setting.
      params: the model's own, whose values it begins with.
      limits: of the studio.
    """
    import gradio as gr

    label, value = LABELS[name], getattr(params, name)
    if name not in RANGES:
        return gr.Dropdown(list(get_args(SamplingParams.model_fields[name].annotation)), value=value, label=label)
    most = {"num_frames": limits.max_frames, "num_steps": limits.max_steps}
    if name in most:
        return gr.Slider(1, most[name], value=min(value, most[name]), step=1, label=label, min_width=300)
    # A seed has more digits than a number of JavaScript.
    return (
        gr.Textbox(str(value), label=label, min_width=140)
        if name == "seed"
        else gr.Number(value, step=_STEPS.get(name, 1), label=label, min_width=140)
    )


def settings_from(values: list[Any]) -> dict[str, Any]:
    """The settings of the fields, in the order of `MAIN` and `FURTHER`; an empty field is the model's own."""
    given = dict(zip((*MAIN, *FURTHER), values, strict=True))
    return {name: _number(name, value) for name, value in given.items() if value not in (None, "")}


def _number(name: str, value: Any) -> Any:
    """Whole numbers come from a page as text or as floats."""
    if name in RANGES and RANGES[name].is_whole:
        try:
            return int(value) if isinstance(value, str) or float(value).is_integer() else value
        except ValueError:  # no number at all; the range says so
            return value
    return value
