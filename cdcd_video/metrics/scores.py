"""What may be asked for, and the record that every measured number is kept in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cdcd_video.errors import UserError

Better = Literal["higher", "lower", "one", "real"]


@dataclass(frozen=True)
class Measure:
    """What a score is of."""

    unit: str
    better: Better
    """Which way is better; `one` for a ratio to the truth, `real` where nothing but likeness to real videos is: the score
    of the row `truth` is right."""
    counted: Literal["objects", "videos"] = "videos"
    loss: float | None = None
    """How far from its beginning a curve along the video may stray before it counts as lost; None for no curve."""
    is_relative: bool = False
    """Whether `loss` is a share of the beginning instead of so many units."""


def _likeness(loss: float | None = None) -> Measure:
    return Measure("distance", "lower", loss=loss, is_relative=True)


METRICS: dict[str, dict[str, Measure]] = {
    "sprites": {
        "does_right_thing": Measure("share", "higher", "objects"),
        "direction_right": Measure("share", "higher", "objects"),
        "still_right": Measure("share", "higher", "objects"),
        "all_right": Measure("share", "higher", "videos"),
        "position_error": Measure("px", "lower", "objects", loss=2),
        "identity_iou": Measure("ratio", "higher", "objects", loss=0.1),
        "background_psnr": Measure("dB", "higher", "videos", loss=3),
        "lost_share": Measure("share", "lower", "objects", loss=0.1),
    },
    "psnr": {"psnr": Measure("dB", "higher", loss=3)},
    "ssim": {"ssim": Measure("ratio", "higher", loss=0.1)},
    "lpips": {"lpips": Measure("distance", "lower", loss=0.1)},
    "motion": {"motion_ratio": Measure("ratio", "one", loss=0.25)},
    "nll": {"nll": Measure("bits per token", "lower")},
    "clip_text": {"clip_text": Measure("cosine", "higher", loss=0.1, is_relative=True)},
    "clip_first": {"clip_first": Measure("cosine", "higher", loss=0.1, is_relative=True)},
    "consistency": {"warp_error": Measure("levels", "real", loss=0.5, is_relative=True)},
    "flow": {"flow": Measure("px per frame", "real", loss=0.5, is_relative=True)},
    "flicker": {"flicker": Measure("levels", "real", loss=0.5, is_relative=True)},
    "colour_drift": {"colour_drift": Measure("CIELAB", "real", loss=3)},
    "smoothness": {
        "step_length": Measure("distance", "real", loss=0.5, is_relative=True),
        "curvature": Measure("degrees", "real"),
    },
    "discontinuity": {"discontinuity": Measure("ratio", "real")},
    "fid": {"fid": _likeness(1.0)},
    "kid": {"kid": _likeness(1.0)},
    "is": {"is": Measure("classes", "higher", loss=0.1, is_relative=True)},
    "fvd": {"fvd": _likeness(1.0)},
    "kvd": {"kvd": _likeness(1.0)},
    "video_is": {"video_is": Measure("classes", "higher", loss=0.1, is_relative=True)},
    "cd_fvd": {"cd_fvd": _likeness(1.0)},
}
"""What may be asked for, and the scores that come of it."""

SETS = {"fid": "frame", "kid": "frame", "is": "frame", "fvd": "video", "kvd": "video", "video_is": "video"}
SETS |= {"cd_fvd": "debiased"}
"""Metrics of whole sets of videos, and which network looks at them."""
NEED_REAL = {name for name in SETS if not name.endswith("is")} | {"discontinuity"}
"""Metrics that compare with real videos of other scenes or clips."""
_AT_HOME = {"sprites", "clip_text", "clip_first", "smoothness", "discontinuity", *SETS} - {"cd_fvd"}
"""Metrics that are sure to mean something on the built-in world alone."""
_NEED_DOWNLOADS = ("lpips", "cd_fvd")
NEED_MODEL = ("nll",)
"""Metrics of the model itself and not of its videos. They take long, and are measured only where they are named."""

OVER_FLOOR = "over_floor"
"""How far a row is from real videos beyond what the true videos are: `fid_over_floor` and so on."""
RETENTION, SLOPE, KEPT = "retention", "slope", "frames_kept"
"""Figures of every curve along the video; their scores are called `psnr_retention` and so on."""


def _along(name: str, measure: Measure) -> dict[str, Measure]:
    towards: Better = measure.better if measure.better in ("higher", "lower") else "one"
    still: Better = measure.better if measure.better in ("higher", "lower") else "real"
    return {
        f"{name}_{RETENTION}": Measure("ratio", towards, measure.counted),
        f"{name}_{SLOPE}": Measure(f"{measure.unit} per frame", still, measure.counted),
        f"{name}_{KEPT}": Measure("frames", "higher", measure.counted),
    }


MEASURES = {name: measure for family in METRICS.values() for name, measure in family.items()}
MEASURES |= {
    name: figure
    for base, measure in list(MEASURES.items())
    if measure.loss is not None
    for name, figure in _along(base, measure).items()
}
for _name in (name for name in SETS if name in NEED_REAL):
    MEASURES[f"{_name}_{OVER_FLOOR}"] = Measure("distance", "lower")
    MEASURES[f"{_name}_{OVER_FLOOR}_{SLOPE}"] = Measure("distance per frame", "lower")
"""Every score there can be, in the order in which they are written."""


@dataclass(frozen=True)
class Score:
    """One measured number: a line of `scores.jsonl`."""

    metric: str
    value: float | None
    """None where there was nothing to measure (a ratio to a truth that does not move, say)."""
    low: float | None
    """Lower end of the interval over videos; None where there are too few videos to say."""
    high: float | None
    n: int
    """How many of `counted` the value rests on."""
    counted: str
    unit: str
    better: str
    row: str
    """Whose videos these are: the model's or a reference's."""
    group: str = "all"
    """A subset such as `motion=spins` or `objects=2`."""
    frame: int | None = None
    """Frame index; None for the score of the whole video, which leaves out frame 0 unless the protocol counts it."""
    window: tuple[int, int] | None = None
    """First and last frame of a window; None for all windows together."""
    features: str | None = None
    """The network that looked, for scores that rest on one."""
    features_sha256: str | None = None
    """Its weights."""
    protocol: str | None = None
    """Hash of the protocol."""
    resamples: int | None = None
    """Redraws of the videos behind the interval."""
    is_at_least: bool = False
    """Whether the video ended before what was waited for came, so that the value is only a lower bound."""


def checked_metrics(names: Sequence[str] | None, has_scenes: bool, has_model: bool = True) -> list[str]:
    """The metrics asked for, each once; where none is named, all that fit the data and need neither a download nor long.

    Args:
      names: some of `METRICS`.
      has_scenes: whether the data are scenes whose truth is known.
      has_model: whether there is a model, and not only its videos.

    Raises:
      UserError: a metric does not exist, or does not fit the data.
    """
    if names is None:
        quick = [name for name in METRICS if name not in (*_NEED_DOWNLOADS, *NEED_MODEL)]
        return [name for name in quick if has_scenes or name not in _AT_HOME]
    known = ", ".join(METRICS)
    for name in names:
        if name not in METRICS:
            raise UserError(f"there is no metric {name!r}; there are {known}")
        if name == "sprites" and not has_scenes:
            raise UserError(
                f"{name} needs the truth of sprites scenes; leave it out of --metrics, or use --data sprites"
            )
        if name in NEED_MODEL and not has_model:
            raise UserError(
                f"{name} asks the model how likely it finds the true videos, and --videos brings no model; leave it out of"
                " --metrics"
            )
    return list(dict.fromkeys(names))
