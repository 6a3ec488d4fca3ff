"""The registry of metrics, and the record of one measured number."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cdcd_video.config.registry import Registry
from cdcd_video.errors import UserError

Better = Literal["higher", "lower", "one", "real"]


@dataclass(frozen=True)
class Measure:
    """Unit and direction of a score."""

    unit: str
    better: Better
    """Which way is better. `one`: a ratio to the truth, 1 is right. `real`: the score of the system `truth` is right."""
    counted: Literal["objects", "videos"] = "videos"
    loss: float | None = None
    """Distance from its beginning at which a curve along the video counts as lost; None for no curve."""
    is_relative: bool = False
    """Whether `loss` is a fraction of the beginning instead of an absolute value."""


def _likeness(loss: float | None = None) -> Measure:
    return Measure("distance", "lower", loss=loss, is_relative=True)


@dataclass(frozen=True)
class Metric:
    """A metric that can be named: its scores, and how they are measured.

    Attributes:
      scores: its scores by name.
      measure: from a `measurements.MeasuredVideo` to its `Measurement`s, or the place of such a function as "module:name". None
        for metrics of rendered scenes and of whole sets of videos.
      meaning: one sentence for the report; empty for the built-in ones, which the report describes.
      of_sets: the features for sets of videos: "frame", "video", "flow", "debiased" or "jepa"; empty for other metrics.
      world: the rendered world, "sprites" or "digits", whose scenes it needs; empty for other metrics.
      is_at_home: whether it is validated on the built-in world alone, so that on other data it is measured only by name.
      needs_truth: whether it compares with the true video.
      needs_real: whether it compares with real videos of other scenes or clips.
      needs_clip: whether it uses CLIP.
      needs_download: whether its weights must be downloaded, so that it is measured only by name.
      needs_model: whether it needs the model and not only its videos. It is slow, so it is measured only by name.
      needs_videos: whether videos are sampled for it; likelihoods are those of true ones.
    """

    scores: Mapping[str, Measure]
    measure: Callable[..., Any] | str | None = None
    meaning: str = ""
    of_sets: str = ""
    world: str = ""
    is_at_home: bool = False
    needs_truth: bool = False
    needs_real: bool = False
    needs_clip: bool = False
    needs_download: bool = False
    needs_model: bool = False
    needs_videos: bool = True


MEASURES: dict[str, Measure] = {}
"""All scores, in the order in which they are written."""
MEANINGS: dict[str, str] = {}
"""The meaning of scores of extensions, for the report."""
SETS: dict[str, str] = {}
"""Metrics of whole sets of videos, and the kind of features that they use."""


def _check(name: str, metric: object) -> None:
    if not isinstance(metric, Metric) or not metric.scores:
        raise UserError(f"the metric {name} is registered with {metric!r}; register a Metric with scores")
    if name not in METRICS.built_in and (metric.measure is None or metric.of_sets or not metric.meaning):
        raise UserError(
            f"the metric {name} needs `measure`, a function of one video, and `meaning`, a sentence for the report"
        )
    taken = [score for score in metric.scores if score in MEASURES]
    if taken:
        raise UserError(f"the metric {name} has the score {taken[0]}, as another metric has; rename it")


METRICS: Registry[Metric] = Registry(
    "metric",
    "cdcd_video.metrics",
    "cdcd_video.extensions.metrics",
    dict.fromkeys(
        (
            *(
                "sprites",
                "digits",
                "psnr",
                "ssim",
                "lpips",
                "motion",
                "physics_iq",
                "nll",
                "caption_margin",
                "inbetween",
                "clip_text",
                "clip_first",
                "consistency",
                "flow",
            ),
            *("flicker", "colour_drift", "smoothness", "discontinuity"),
            *("fid", "kid", "is", "fvd", "kvd", "video_is", "flow_vmd", "cd_fvd", "jedi"),
        ),
        __name__,
    ),
    _check,
)
"""All metrics by name."""

OVER_FLOOR = "over_floor"
"""Suffix of a distance minus that of the true videos: `fid_over_floor` and so on."""
RETENTION, SLOPE, KEPT = "retention", "slope", "frames_kept"
"""Suffixes of the scores of a curve along the video: `psnr_retention` and so on."""


def _along(name: str, measure: Measure) -> dict[str, Measure]:
    towards: Better = measure.better if measure.better in ("higher", "lower") else "one"
    still: Better = measure.better if measure.better in ("higher", "lower") else "real"
    return {
        f"{name}_{RETENTION}": Measure("ratio", towards, measure.counted),
        f"{name}_{SLOPE}": Measure(f"{measure.unit} per frame", still, measure.counted),
        f"{name}_{KEPT}": Measure("frames", "higher", measure.counted),
    }


def _add(name: str, metric: Metric) -> None:
    MEASURES.update(metric.scores)
    if metric.of_sets:
        SETS[name] = metric.of_sets
    if name not in METRICS.built_in:
        MEASURES.update(_curves(metric.scores))
        MEANINGS.update(dict.fromkeys(metric.scores, metric.meaning))


def _curves(scores: Mapping[str, Measure]) -> dict[str, Measure]:
    along = (_along(name, measure) for name, measure in scores.items() if measure.loss is not None)
    return {name: figure for figures in along for name, figure in figures.items()}


METRICS.added = _add


def _built_in(name: str, scores: Measure | Mapping[str, Measure], measure: str = "", **traits: Any) -> None:
    scores = {name: scores} if isinstance(scores, Measure) else scores
    METRICS.register(name)(Metric(scores, f"cdcd_video.metrics.measurements:{measure}" if measure else None, **traits))


_CLASSES = Measure("classes", "higher", loss=0.1, is_relative=True)
_COSINE = Measure("cosine", "higher", loss=0.1, is_relative=True)
_built_in(
    "sprites",
    {
        "does_right_thing": Measure("share", "higher", "objects"),
        "direction_right": Measure("share", "higher", "objects"),
        "still_right": Measure("share", "higher", "objects"),
        "still_iou": Measure("ratio", "higher", "objects", loss=0.1),
        "all_right": Measure("share", "higher", "videos"),
        "position_error": Measure("px", "lower", "objects", loss=2),
        "identity_iou": Measure("ratio", "higher", "objects", loss=0.1),
        "background_psnr": Measure("dB", "higher", "videos", loss=3),
        "lost_share": Measure("share", "lower", "objects", loss=0.1),
    },
    world="sprites",
    needs_truth=True,
)
_built_in(
    "digits",
    {
        "digit_right": Measure("share", "higher", "objects"),
        "digit_direction": Measure("share", "higher", "objects"),
        "digits_right": Measure("share", "higher", "videos"),
        "digit_position_error": Measure("px", "lower", "objects", loss=2),
        "digit_identity": Measure("share", "higher", "objects", loss=0.1),
        "digit_identity_end": Measure("share", "higher", "objects"),
        "digit_lost": Measure("share", "lower", "objects", loss=0.1),
        "distractor_still": Measure("share", "higher", "objects"),
        "distractor_identity": Measure("share", "higher", "objects"),
    },
    world="digits",
    needs_truth=True,
)
_built_in("psnr", Measure("dB", "higher", loss=3), "psnr", needs_truth=True)
_built_in("ssim", Measure("ratio", "higher", loss=0.1), "ssim", needs_truth=True)
_built_in("lpips", Measure("distance", "lower", loss=0.1), "lpips", needs_truth=True, needs_download=True)
_built_in("motion", {"motion_ratio": Measure("ratio", "one", loss=0.25)}, "motion_ratio", needs_truth=True)
_built_in(
    "physics_iq",
    {
        "spatial_iou": Measure("ratio", "higher"),
        "spatiotemporal_iou": Measure("ratio", "higher", loss=0.1),
        "weighted_spatial_iou": Measure("ratio", "higher"),
        "mse": Measure("squared", "lower", loss=1.0, is_relative=True),
    },
    "physics",
    needs_truth=True,
)
_built_in("nll", Measure("bits per token", "lower"), needs_model=True, needs_videos=False)
_built_in("caption_margin", Measure("nats per code", "higher"), needs_model=True, needs_videos=False)
_built_in(
    "inbetween",
    {
        "between_psnr": Measure("dB", "higher"),
        "between_ssim": Measure("ratio", "higher"),
        "between_identity_iou": Measure("ratio", "higher", "objects"),
        "between_position_error": Measure("px", "lower", "objects"),
    },
    needs_truth=True,
    needs_model=True,
)
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
_built_in("flow_vmd", _likeness(1.0), of_sets="flow", is_at_home=True, needs_real=True)
_built_in("cd_fvd", _likeness(1.0), of_sets="debiased", needs_real=True, needs_download=True)
_built_in("jedi", _likeness(1.0), of_sets="jepa", needs_real=True, needs_download=True)
MEASURES.update(_curves(MEASURES))
for _name in (name for name in SETS if not name.endswith("is")):
    MEASURES[f"{_name}_{OVER_FLOOR}"] = Measure("distance", "lower")
    MEASURES[f"{_name}_{OVER_FLOOR}_{SLOPE}"] = Measure("distance per frame", "lower")


@dataclass(frozen=True)
class Score:
    """One measured number: a line of `scores.jsonl`."""

    metric: str
    value: float | None
    """None where nothing could be measured, such as a ratio to a true video without motion."""
    low: float | None
    """Lower end of the interval over videos; None where there are too few videos."""
    high: float | None
    n: int
    """How many of `counted` the value is computed from."""
    counted: str
    unit: str
    better: str
    row: str
    """The system: the model or a reference."""
    group: str = "all"
    """A subset such as `motion=spins` or `objects=2`."""
    frame: int | None = None
    """Frame index; None for the score of the whole video, which leaves out frame 0 unless the protocol counts it."""
    window: tuple[int, int] | None = None
    """First and last frame of a window; None for all windows together."""
    features: str | None = None
    """The feature network, for scores that use one."""
    features_sha256: str | None = None
    """SHA-256 of its weights."""
    protocol: str | None = None
    """Hash of the protocol."""
    resamples: int | None = None
    """Bootstrap resamples behind the interval."""
    is_at_least: bool = False
    """Whether the curve was not lost before the video ended, so that the value is a lower bound."""


def rounded(value: float) -> float | None:
    """A number as scores keep it; None for one that is not finite."""
    return round(float(value), 6) if math.isfinite(value) else None


def checked_metrics(names: Sequence[str] | None, world: str | None, has_model: bool = True) -> list[str]:
    """The named metrics, each once; without names, all that fit the data and need neither a download nor the model.

    Args:
      names: some of `METRICS`.
      world: the rendered world whose scenes the data are, as `Metric.world`; None for clips, of which only pixels are known.
      has_model: whether there is a model, and not only its videos.

    Raises:
      UserError: a metric does not exist, or does not fit the data.
    """
    if names is None:
        known = {name: METRICS[name] for name in METRICS}
        fit = {
            name
            for name, metric in known.items()
            if metric.world in ("", world) and (world == "sprites" or not metric.is_at_home)
        }
        return [
            name for name, metric in known.items() if name in fit and not (metric.needs_download or metric.needs_model)
        ]
    for name in names:
        if name not in METRICS:
            METRICS.load_all()  # reports an extension that should have registered it
            raise UserError(f"there is no metric {name!r}; choose from {', '.join(METRICS)}")
        METRICS[name]  # reports an extension that cannot be imported
        if METRICS[name].world not in ("", world):
            raise UserError(
                f"{name} is defined for {name} scenes only; leave it out of --metrics, or use --data {METRICS[name].world}"
            )
        if METRICS[name].needs_model and not has_model:
            raise UserError(f"{name} needs the model itself, which --videos does not have; leave it out of --metrics")
    return list(dict.fromkeys(names))
