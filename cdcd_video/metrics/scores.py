"""What may be asked for, and the record that every measured number is kept in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cdcd_video.config.registry import Registry
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


@dataclass(frozen=True)
class Metric:
    """What may be asked for by name: the scores that come of it, and how they are measured.

    Attributes:
      scores: what is measured, by name.
      see: measures one video: from a `measurements.MeasuredVideo` to its `Seen`s; or where that stands, as "module:name". None
        for what is measured otherwise: the truth of sprites scenes, and whole sets of videos.
      meaning: one sentence for the report; empty for the built-in ones, which the report knows.
      of_sets: which network looks at whole sets of videos: "frame", "video" or "debiased"; empty for others.
      is_at_home: whether it is sure to mean something on the built-in world alone, so that other data must ask for it.
      needs_truth: whether it compares with how the clip really goes on.
      needs_real: whether it compares with real videos of other scenes or clips.
      needs_clip: whether it looks through CLIP.
      needs_download: whether its weights are a download, so that it must be asked for.
      needs_model: whether it is of the model itself and not of its videos. That takes long, so it must be asked for.
    """

    scores: Mapping[str, Measure]
    see: Callable[..., Any] | str | None = None
    meaning: str = ""
    of_sets: str = ""
    is_at_home: bool = False
    needs_truth: bool = False
    needs_real: bool = False
    needs_clip: bool = False
    needs_download: bool = False
    needs_model: bool = False


MEASURES: dict[str, Measure] = {}
"""Every score there can be, in the order in which they are written."""
MEANINGS: dict[str, str] = {}
"""What the scores of extensions mean, for the report."""
SETS: dict[str, str] = {}
"""Metrics of whole sets of videos, and which network looks at them."""


def _check(name: str, metric: Metric) -> None:
    if not isinstance(metric, Metric) or not metric.scores:
        raise UserError(f"the metric {name} is registered with {metric!r}, which is no Metric with scores")
    if name not in METRICS.built_in and (metric.see is None or metric.of_sets or not metric.meaning):
        raise UserError(
            f"the metric {name} needs `see`, which measures a video, and `meaning`, a sentence for the report"
        )
    taken = [score for score in metric.scores if score in MEASURES]
    if taken:
        raise UserError(f"the metric {name} has the score {taken[0]}, which another metric has already; rename it")


METRICS: Registry[Metric] = Registry(
    "metric",
    "cdcd_video.metrics",
    "cdcd_video.extensions.metrics",
    dict.fromkeys(
        (
            *("sprites", "psnr", "ssim", "lpips", "motion", "nll", "clip_text", "clip_first", "consistency", "flow"),
            *("flicker", "colour_drift", "smoothness", "discontinuity"),
            *("fid", "kid", "is", "fvd", "kvd", "video_is", "cd_fvd"),
        ),
        __name__,
    ),
    _check,
)
"""What may be asked for, and the scores that come of it."""

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


def _take_in(name: str, metric: Metric) -> None:
    MEASURES.update(metric.scores)
    if metric.of_sets:
        SETS[name] = metric.of_sets
    if name not in METRICS.built_in:
        MEASURES.update(_curves(metric.scores))
        MEANINGS.update(dict.fromkeys(metric.scores, metric.meaning))


def _curves(scores: Mapping[str, Measure]) -> dict[str, Measure]:
    along = (_along(name, measure) for name, measure in scores.items() if measure.loss is not None)
    return {name: figure for figures in along for name, figure in figures.items()}


METRICS.added = _take_in


def _built_in(name: str, scores: Measure | Mapping[str, Measure], see: str = "", **traits: Any) -> None:
    scores = {name: scores} if isinstance(scores, Measure) else scores
    METRICS.register(name)(Metric(scores, f"cdcd_video.metrics.measurements:{see}" if see else None, **traits))


_CLASSES = Measure("classes", "higher", loss=0.1, is_relative=True)
_COSINE = Measure("cosine", "higher", loss=0.1, is_relative=True)
_built_in(
    "sprites",
    {
        "does_right_thing": Measure("share", "higher", "objects"),
        "direction_right": Measure("share", "higher", "objects"),
        "still_right": Measure("share", "higher", "objects"),
        "all_right": Measure("share", "higher", "videos"),
        "position_error": Measure("px", "lower", "objects", loss=2),
        "identity_iou": Measure("ratio", "higher", "objects", loss=0.1),
        "background_psnr": Measure("dB", "higher", "videos", loss=3),
        "lost_share": Measure("share", "lower", "objects", loss=0.1),
    },
    is_at_home=True,
    needs_truth=True,
)
_built_in("psnr", Measure("dB", "higher", loss=3), "psnr", needs_truth=True)
_built_in("ssim", Measure("ratio", "higher", loss=0.1), "ssim", needs_truth=True)
_built_in("lpips", Measure("distance", "lower", loss=0.1), "lpips", needs_truth=True, needs_download=True)
_built_in("motion", {"motion_ratio": Measure("ratio", "one", loss=0.25)}, "motion_ratio", needs_truth=True)
_built_in("nll", Measure("bits per token", "lower"), needs_model=True)
_built_in("clip_text", _COSINE, "clip_text", is_at_home=True, needs_clip=True)
_built_in("clip_first", _COSINE, "clip_first", is_at_home=True, needs_clip=True)
_built_in("consistency", {"warp_error": Measure("levels", "real", loss=0.5, is_relative=True)}, "warp_error")
_built_in("flow", Measure("px per frame", "real", loss=0.5, is_relative=True), "flow")
_built_in("flicker", Measure("levels", "real", loss=0.5, is_relative=True), "flicker")
_built_in("colour_drift", Measure("CIELAB", "real", loss=3), "colour_drift")
_built_in(
    "smoothness",
    {
        "step_length": Measure("distance", "real", loss=0.5, is_relative=True),
        "curvature": Measure("degrees", "real"),
    },
    "smoothness",
    is_at_home=True,
    needs_clip=True,
)
_built_in("discontinuity", Measure("ratio", "real"), "discontinuity", is_at_home=True, needs_real=True)
_built_in("fid", _likeness(1.0), of_sets="frame", is_at_home=True, needs_real=True)
_built_in("kid", _likeness(1.0), of_sets="frame", is_at_home=True, needs_real=True)
_built_in("is", _CLASSES, of_sets="frame", is_at_home=True)
_built_in("fvd", _likeness(1.0), of_sets="video", is_at_home=True, needs_real=True)
_built_in("kvd", _likeness(1.0), of_sets="video", is_at_home=True, needs_real=True)
_built_in("video_is", _CLASSES, of_sets="video", is_at_home=True)
_built_in("cd_fvd", _likeness(1.0), of_sets="debiased", needs_real=True, needs_download=True)
MEASURES.update(_curves(MEASURES))
for _name in (name for name in SETS if not name.endswith("is")):
    MEASURES[f"{_name}_{OVER_FLOOR}"] = Measure("distance", "lower")
    MEASURES[f"{_name}_{OVER_FLOOR}_{SLOPE}"] = Measure("distance per frame", "lower")


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
        known = {name: METRICS[name] for name in METRICS}
        fit = {name for name, metric in known.items() if has_scenes or not metric.is_at_home}
        return [
            name for name, metric in known.items() if name in fit and not (metric.needs_download or metric.needs_model)
        ]
    for name in names:
        if name not in METRICS:
            METRICS.load_all()  # one that should have registered it is found out here
            raise UserError(f"there is no metric {name!r}; there are {', '.join(METRICS)}")
        METRICS[name]  # what cannot be imported is told now
        if name == "sprites" and not has_scenes:
            raise UserError(
                f"{name} needs the truth of sprites scenes; leave it out of --metrics, or use --data sprites"
            )
        if METRICS[name].needs_model and not has_model:
            raise UserError(
                f"{name} asks the model how likely it finds the true videos, and --videos brings no model; leave it out of"
                " --metrics"
            )
    return list(dict.fromkeys(names))
