"""Scores with intervals from the measurements of many videos, and the sums per video that paired comparisons need."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from cdcd_video.metrics import curve_summary
from cdcd_video.metrics.measurements import Measurement
from cdcd_video.metrics.scores import MEASURES, Measure, Score, rounded
from cdcd_video.metrics.statistics.intervals import RESAMPLES, TAIL, bootstrap, resampled_ratios


def _in_order(grouped: Mapping[tuple[str, str], list[Measurement]]) -> list[tuple[tuple[str, str], list[Measurement]]]:
    """The groups in the order in which scores are written."""
    place = {name: place for place, name in enumerate(MEASURES)}
    return sorted(grouped.items(), key=lambda item: (place[item[0][0]], item[0][1]))


@dataclasses.dataclass(frozen=True)
class PerVideo:
    """What one video adds to a score: a line of `per_video.jsonl`. The score is the sum of totals over that of weights."""

    row: str
    """The system: the model or a reference."""
    metric: str
    video: str
    frame: int | None
    """None for the sum over all frames that count."""
    total: float
    weight: float
    clip: str | None = None
    """The clip that the video starts from, where its name differs. Videos of one clip are not independent."""


def scores_of(
    system: str, measured: Sequence[Measurement], first_counted: int, seed: int, features: Mapping[str, tuple[str, str]]
) -> list[Score]:
    """Scores of one system: per group over all frames that count; for all videos also per frame, and of the curve.

    Args:
      system: the model or a reference.
      measured: the measurements of its videos.
      first_counted: the first frame that counts.
      seed: of the bootstrap.
      features: name and digest of the network that a metric uses, where there is one.
    """
    grouped: dict[tuple[str, str], list[Measurement]] = {}
    for one in measured:
        for group in one.groups:
            grouped.setdefault((one.metric, group), []).append(one)
    scores = []
    for (metric, group), ones in _in_order(grouped):
        network = features.get(metric, (None, None))
        more: dict[str, Any] = {
            "row": system,
            "group": group,
            "features": network[0],
            "features_sha256": network[1],
            "resamples": RESAMPLES,
        }
        scores += [Score(**figures, **more) for figures in _of_group(metric, group, ones, first_counted, seed)]
    return scores


def per_video(system: str, measured: Sequence[Measurement], first_counted: int, by_frame: bool) -> Iterator[PerVideo]:
    """The sums of every video, over its objects where there are several; `by_frame` adds those of each frame."""
    grouped: dict[tuple[str, str], list[Measurement]] = {}
    for one in measured:
        if "all" in one.groups:
            grouped.setdefault((one.metric, one.eval_video.name), []).append(one)
    for (metric, name), ones in _in_order(grouped):
        totals, weights = (np.nan_to_num(np.stack(side)).sum(axis=0) for side in _sides(ones))
        counted = slice(first_counted, None) if len(totals) > 1 else slice(None)
        clip = ones[0].eval_video.clip if ones[0].eval_video.clip != name else None
        yield PerVideo(system, metric, name, None, _plain(totals[counted].sum()), _plain(weights[counted].sum()), clip)
        if by_frame and len(totals) > 1:
            for frame in np.flatnonzero(weights):
                yield PerVideo(system, metric, name, int(frame), _plain(totals[frame]), _plain(weights[frame]), clip)


def _of_group(
    metric: str, group: str, ones: Sequence[Measurement], first_counted: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Metric, value, low, high, n, counted, unit and better of each score, and its frame."""
    measure = MEASURES[metric]
    # In the order of names, so that the order of sampling does not matter.
    ones = sorted(ones, key=lambda one: one.eval_video.name)
    totals, weights = (np.stack(side) for side in _sides(ones))
    known, num_frames = ~np.isnan(totals), totals.shape[1]
    is_curve = num_frames > 1
    counted = slice(first_counted, None) if is_curve else slice(None)
    columns = [counted]
    if is_curve and group == "all":
        columns += [slice(frame, frame + 1) for frame in range(num_frames) if known[:, frame].any()]
    clips, of_clip = np.unique([one.eval_video.clip for one in ones], return_inverse=True)
    sums = np.zeros((2, len(clips), len(columns)))
    for side, values in enumerate((np.nan_to_num(totals), np.nan_to_num(weights))):
        np.add.at(sums[side], of_clip, np.stack([values[:, column].sum(axis=1) for column in columns], axis=1))
    found = bootstrap(sums[0], sums[1], seed, is_share=measure.unit == "share")
    for column, value, low, high in zip(columns, *found, strict=True):
        n = int(known[:, column].any(axis=1).sum())
        where = {"frame": None if column.stop is None else column.start}
        yield _figures(metric, (value, low, high), n) | where
    frames = [column.start for column in columns[1:] if column.start >= first_counted]
    if len(frames) > 1 and measure.loss is not None:
        n = int(known[:, counted].any(axis=1).sum())
        yield from _along(metric, measure, sums[:, :, -len(frames) :], frames, num_frames, n, seed)


def _along(
    metric: str,
    measure: Measure,
    sums: Float[np.ndarray, "2 V T"],
    frames: Sequence[int],
    num_frames: int,
    n: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    value, resampled = resampled_ratios(sums[0], sums[1], seed)
    own = curve_summary.figures(np.where(np.isfinite(value), value, np.nan)[None], frames, num_frames, measure)
    others = curve_summary.figures(resampled, frames, num_frames, measure).by_name()
    for name, figure in own.by_name().items():
        spread = others[name][np.isfinite(others[name])]
        is_known = len(spread) and sums.shape[1] > 1 and np.isfinite(figure[0])
        ends = np.quantile(spread, (TAIL, 1 - TAIL)) if is_known else (np.nan, np.nan)
        where = {"is_at_least": bool(own.is_at_least[0]) and name == curve_summary.KEPT}
        yield _figures(f"{metric}_{name}", (figure[0], *ends), n) | where


def _figures(metric: str, ends: Sequence[float], n: int) -> dict[str, Any]:
    measure, figures = MEASURES[metric], dict(zip(("value", "low", "high"), map(rounded, ends), strict=True))
    return {
        "metric": metric,
        **figures,
        "n": n,
        "counted": measure.counted,
        "unit": measure.unit,
        "better": measure.better,
    }


def _sides(ones: Sequence[Measurement]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [one.total for one in ones], [one.weight for one in ones]


def _plain(value: float) -> float:
    return round(float(value), 6)
