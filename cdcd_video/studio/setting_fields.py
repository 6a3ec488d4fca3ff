"""The settings of a sampler as fields of the page: one for each of `SamplingParams`, with its range and its own words."""

from typing import Any, get_args

from cdcd_video.config import SamplingParams
from cdcd_video.config.ranges import RANGES
from cdcd_video.config.value_types import Fit
from cdcd_video.config.video_record import SAMPLING
from cdcd_video.studio.studio_limits import Limits

MAIN = ("num_frames", "fps", "num_steps", "guidance", "temperature", "contrast", "seed")
"""Settings that are always in sight; the others are folded away."""
FURTHER = tuple(name for name in SAMPLING if name not in MAIN)
WORDS = {
    "num_frames": ("Frames", "with the starting frame"),
    "fps": ("Frames per second", "more of them: smaller moves"),
    "num_steps": ("Steps per frame", "more are slower"),
    "guidance": ("Guidance", "by the text; 1: off"),
    "temperature": ("Temperature", "0: no chance"),
    "contrast": ("Contrast", "against drift; 0: off"),
    "seed": ("Seed", "another gives another video"),
    "top_p": ("Top p", "keep the most likely codes up to this total probability; 1: all"),
    "top_k": ("Top k", "keep this many of the most likely codes; 0: all"),
    "order": ("Order", "in which codes are fixed"),
    "lookback_s": ("Lookback (s)", "back to the frame that a frame is sampled from; 0: one frame"),
    "longest_gap_s": ("Longest gap (s)", "hidden frames fill longer ones; 0: never"),
    "decoded": ("Decoded", "the sampled codes, or the expected values"),
    "unchanged": ("Unchanged patches", "decoded like the others, or copied from the starting frame"),
    "solver": ("Solver", "only of baselines that are flows"),
}
"""Label of a field, and what it does in a few words."""
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

    value = getattr(params, name)
    shown: Any = dict(zip(("label", "info"), WORDS[name], strict=True))
    if name not in RANGES:
        return gr.Dropdown(list(get_args(SamplingParams.model_fields[name].annotation)), value=value, **shown)
    most = {"num_frames": limits.max_frames, "num_steps": limits.max_steps}
    if name in most:
        return gr.Slider(1, most[name], value=min(value, most[name]), step=1, min_width=300, **shown)
    # A seed has more digits than a number of JavaScript.
    return (
        gr.Textbox(str(value), min_width=140, **shown)
        if name == "seed"
        else gr.Number(value, step=_STEPS.get(name, 1), min_width=140, **shown)
    )


AS_TRAINED = "as trained"
"""The choice of `fit_field` that leaves it to the model."""


def fit_field() -> Any:
    """The Gradio component that says what becomes of pictures of another shape than the model's frames."""
    import gradio as gr

    about = "other shapes: crop cuts edges off, letterbox adds black bars, exact refuses"
    return gr.Dropdown([AS_TRAINED, *get_args(Fit)], value=AS_TRAINED, label="Fit", info=about)


def fit_from(value: Any) -> Fit | None:
    """The choice of `fit_field`, which lets no other value through, as the pipeline takes it."""
    return None if value == AS_TRAINED else value


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
