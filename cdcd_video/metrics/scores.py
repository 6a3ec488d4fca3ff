"""What may be asked for, and the record that every measured number is kept in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cdcd_video.errors import UserError


@dataclass(frozen=True)
class Measure:
    """What a score is of."""

    unit: Literal["share", "ratio", "px", "dB"]
    better: Literal["higher", "lower", "one"]
    """Which way is better; `one` for a ratio to the truth."""
    counted: Literal["objects", "videos"]


METRICS: dict[str, dict[str, Measure]] = {
    "sprites": {
        "does_right_thing": Measure("share", "higher", "objects"),
        "direction_right": Measure("share", "higher", "objects"),
        "still_right": Measure("share", "higher", "objects"),
        "all_right": Measure("share", "higher", "videos"),
        "position_error": Measure("px", "lower", "objects"),
        "identity_iou": Measure("ratio", "higher", "objects"),
        "background_psnr": Measure("dB", "higher", "videos"),
        "lost_share": Measure("share", "lower", "objects"),
    },
    "psnr": {"psnr": Measure("dB", "higher", "videos")},
    "ssim": {"ssim": Measure("ratio", "higher", "videos")},
    "motion": {"motion_ratio": Measure("ratio", "one", "videos")},
}
"""What may be asked for, and the scores that come of it."""
MEASURES = {name: measure for family in METRICS.values() for name, measure in family.items()}

_NEED_NETWORKS = ("fvd", "fid", "is")


@dataclass(frozen=True)
class Score:
    """One measured number: a line of `scores.jsonl`."""

    metric: str
    value: float | None
    """None where there was nothing to measure (a ratio to a truth that does not move, say)."""
    low: float | None
    """Lower end of the bootstrap interval over videos; None where one video is all there is."""
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
    """Frame index; None for the mean over all frames but the given one (frame 0)."""


def checked_metrics(names: Sequence[str] | None, has_scenes: bool) -> list[str]:
    """The metrics asked for, each once; all that fit the data where none is named.

    Args:
      names: some of `METRICS`.
      has_scenes: whether the data are scenes whose truth is known.

    Raises:
      UserError: a metric does not exist, does not exist yet, or does not fit the data.
    """
    fitting = [name for name in METRICS if has_scenes or name != "sprites"]
    asked, known = list(dict.fromkeys(names or fitting)), ", ".join(METRICS)
    for name in asked:
        if name in _NEED_NETWORKS:
            raise UserError(f"{name} arrives with the feature networks; the metrics that exist now are {known}")
        if name not in METRICS:
            raise UserError(f"there is no metric {name!r}; there are {known}")
        if name not in fitting:
            raise UserError(
                f"{name} needs the truth of sprites scenes; leave it out of --metrics, or use --data sprites"
            )
    return asked
