"""Scores of an ablation in words: titles, numbers, intervals."""

from cdcd_video.ablate.verdict import Difference, Value
from cdcd_video.metrics.score_entries import headline
from cdcd_video.metrics.scores import MEASURES
from cdcd_video.storage.numerals import significant

_FIGURES = {"whole": "", "slope": ", drift per frame", "end": ", last quarter", "last": ", last frame"}


def named(metric: str, figure: str) -> str:
    """The title of a score and of a figure of it, with % for shares."""
    title = {entry.metric: entry.title for entry in headline()}[metric] + (", %" if is_share(metric) else "")
    return title + _FIGURES[figure]


def interval(found: Value | Difference, metric: str, sign: str = "") -> str:
    """`3.2 [2.1, 4.3]`; with `sign` "+" before a value above 0."""
    value = number(found.value, metric)
    sign = sign if found.value > 0 else ""
    return f"{sign}{value} [{number(found.low, metric)}, {number(found.high, metric)}]"


def number(value: float, metric: str) -> str:
    """A value in three digits; of shares in % with one decimal."""
    if is_share(metric):
        return f"{100 * value:.1f}"
    return significant(value, 3) if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def with_unit(value: float, metric: str) -> str:
    """A size with its unit: `0.21 px`, or `1.5 points` for shares."""
    return f"{number(value, metric)} {'points' if is_share(metric) else MEASURES[metric].unit}"


def is_share(metric: str) -> bool:
    """Whether a score is a fraction, which is shown in %."""
    return MEASURES[metric].unit == "share"
