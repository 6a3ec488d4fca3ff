"""Whole sets of videos: as a network sees them, how far drawn ones are from real ones, and how varied they are.

FID, KID and IS take every frame as a sample, FVD, KVD and video IS every window; along the video, only the frames of one
index or the windows of one place. Where one window holds the whole video, shorter ones are followed along it. All of them
depend on how many samples there are: the row `truth` is the same measurement of real videos, at the same number, and the
least a model could reach.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from cdcd_video.metrics import curve_summary
from cdcd_video.metrics.features.networks import FeatureNetwork, Seen
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.scores import MEASURES, METRICS, OVER_FLOOR, Score
from cdcd_video.metrics.sets.distribution import frechet_distance, inception_score, kernel_distance
from cdcd_video.metrics.statistics.intervals import around, over_halves

REAL = "real"
"""The set of other real videos."""
FLOOR = "truth"
"""The row that no model can be expected to beat."""
HALVES, COSTLY_HALVES = 100, 20
"""Random halves behind an interval; fewer where each takes the roots of a large matrix."""
COSTLY = 512

Place = tuple[int, int]
"""First and last frame of what is seen at a time."""


@dataclass(frozen=True)
class Samples:
    """One set as one network saw it: V videos at T places."""

    features: Float[np.ndarray, "V T D"]
    logits: Float[np.ndarray, "V T K"] | None
    clip: Int[np.ndarray, " V"]
    """Which clip each video is from; they are resampled together."""

    @property
    def num_clips(self) -> int:
        """How many clips there are."""
        return int(self.clip.max()) + 1


class FeatureStore:
    """Everything one network saw, row by row.

    Args:
      network: who looks, at frames or at windows.
      places: what it looks at in every video: single frames, or windows of one length.
      shorter: windows of another length that follow the video where `places` are only one; they make the curve alone.
    """

    def __init__(self, network: FeatureNetwork, places: Sequence[Place], shorter: Sequence[Place] = ()):
        self.network, self.places = network, list(places)
        self.along = FeatureStore(network, shorter) if shorter else self
        self._seen: dict[str, dict[str, tuple[str, Seen]]] = {}

    def show(self, row: str, name: str, clip: str, frames: UInt8[np.ndarray, "F H W 3"]) -> None:
        """Shows a video. It is seen by itself, so that nothing depends on the batch it came in."""
        parts = [
            frames[first] if self.network.sees == "frames" else frames[first : last + 1] for first, last in self.places
        ]
        # A repeated frame makes many parts alike, and a large network is slow.
        _, first_of, which = np.unique([part.tobytes() for part in parts], return_index=True, return_inverse=True)
        seen = self.network(np.stack([parts[place] for place in first_of]))
        logits = None if seen.logits is None else seen.logits[which].astype(np.float32)
        self._seen.setdefault(row, {})[name] = clip, Seen(seen.features[which].astype(np.float32), logits)
        if self.along is not self:
            self.along.show(row, name, clip, frames)

    def entries(self) -> list[Any]:
        """All that was seen, plain: by row and video its clip, features and logits; then that of `along`."""
        own = {
            row: {name: [clip, one.features, one.logits] for name, (clip, one) in seen.items()}
            for row, seen in self._seen.items()
        }
        return [own, *(self.along.entries() if self.along is not self else ())]

    def add(self, entries: Sequence[Any]) -> None:
        """Takes over what another gallery of the same kind has seen of other videos."""
        own, *along = entries
        for row, seen in own.items():
            self._seen.setdefault(row, {}).update({name: (clip, Seen(*sides)) for name, (clip, *sides) in seen.items()})
        if along:
            self.along.add(along)

    def samples(self, row: str) -> Samples:
        """What was seen of a row, by the names of the videos: the order in which they were shown does not matter."""
        seen = [self._seen[row][name] for name in sorted(self._seen[row])]
        _, clip = np.unique([clip for clip, _ in seen], return_inverse=True)
        sides = [[getattr(one, side) for _, one in seen] for side in ("features", "logits")]
        features, logits = (None if side[0] is None else np.stack(side) for side in sides)
        return Samples(features, logits, clip)


def set_scores(
    metric: str, feature_store: FeatureStore, rows: Sequence[str], rule: Protocol, features: tuple[str, str]
) -> Iterator[Score]:
    """A metric of several rows: over all that counts, place by place, and the figures of the curve along the video.

    Rows have their first frames in common, and so most of what parts any of them from other scenes. How far a row is from
    real videos beyond the row `truth` is therefore known much better than either distance: it has a score of its own.

    Args:
      metric: one of `scores.SETS`.
      feature_store: has seen these rows, and the row `REAL` where the metric compares with real videos.
      rows: whose videos.
      rule: says how long videos are, which frames count (windows all do), and the seed of the random halves.
      features: name and digest of the network.
    """
    found = {row: _measure(metric, feature_store, row, rule) for row in rows}
    floor = found.get(FLOOR) if METRICS[metric].needs_real else None
    for row, curve in found.items():
        told = {"row": row, "n": curve.n, "features": features}
        yield from _places(metric, curve.values, curve.halves, feature_store, told)
        if len(curve.counted) > 1:
            yield from _along(metric, curve, feature_store.along.places, rule, told)
        if floor and row != FLOOR:
            name, beyond, halves = f"{metric}_{OVER_FLOOR}", curve.values - floor.values, curve.halves - floor.halves
            yield from _places(name, beyond, halves, feature_store, told)
            if len(curve.counted) > 1:
                columns, frames = _counted(curve, feature_store.along.places)
                value = curve_summary.slope(beyond[None, columns], frames)
                slopes = curve_summary.slope(halves[:, columns], frames)[:, None] if len(halves) else np.empty((0, 1))
                low, high = around(value, slopes)
                yield _score(f"{name}_{curve_summary.SLOPE}", value[0], low[0], high[0], len(halves), **told)


@dataclass(frozen=True)
class _Curve:
    """A metric of one row: over all that counts, then at each place along the video; of the whole set and of halves."""

    values: Float[np.ndarray, " 1+T"]
    halves: Float[np.ndarray, "R 1+T"]
    counted: list[int]
    """Places along the video that count."""
    n: int
    """Videos of the smaller set."""


def _measure(metric: str, feature_store: FeatureStore, row: str, rule: Protocol) -> _Curve:
    rows = [row, REAL] if METRICS[metric].needs_real else [row]
    sets, along_sets = ([one.samples(name) for name in rows] for one in (feature_store, feature_store.along))
    whole, counted = (_that_count(one, rule) for one in (feature_store, feature_store.along))
    places = range(len(feature_store.along.places)) if len(feature_store.along.places) > 1 else ()
    spans = [(sets, whole), *((along_sets, [place]) for place in places)]

    def values(*kept: np.ndarray) -> np.ndarray:
        found = []
        for seen, span in spans:
            sides = [_rows(one, which, span, metric) for one, which in zip(seen, kept, strict=True)]
            found.append(_STATISTICS[metric](*sides))
        return np.array(found)

    sizes, n = tuple(one.num_clips for one in sets), min(len(one.clip) for one in sets)
    samples = len(whole) * n // 2
    width = sets[0].features.shape[2] if _STATISTICS[metric] is frechet_distance else samples
    halves = over_halves(values, sizes, rule.seed, COSTLY_HALVES if min(samples, width) > COSTLY else HALVES)
    return _Curve(values(*map(np.arange, sizes)), halves, counted, n)


def _that_count(feature_store: FeatureStore, rule: Protocol) -> list[int]:
    """Numbers of a gallery's places: of frames those that the protocol counts, of windows all."""
    is_frames = feature_store.network.sees == "frames"
    return [
        place for place, (first, _) in enumerate(feature_store.places) if not is_frames or first >= rule.first_counted
    ]


def _places(
    name: str, values: np.ndarray, halves: np.ndarray, feature_store: FeatureStore, told: Mapping[str, Any]
) -> Iterator[Score]:
    """The score of all that counts, and of each place; no interval reaches below what the statistic can be."""
    low, high = around(values, halves)
    ends = np.maximum(low, _LEAST.get(_STATISTICS.get(name), -np.inf)), high
    for number, (value, low, high) in enumerate(zip(values, *ends, strict=True)):
        first, last = feature_store.along.places[number - 1] if number else (0, 0)
        where = {"frame": first} if feature_store.network.sees == "frames" else {"window": (first, last)}
        yield _score(name, value, low, high, len(halves), **told, **(where if number else {}))


def _counted(curve: _Curve, places: Sequence[Place]) -> tuple[list[int], list[int]]:
    """Columns of what counts along the video, and the first frame of each."""
    return [1 + place for place in curve.counted], [places[place][0] for place in curve.counted]


def _along(
    metric: str, curve: _Curve, places: Sequence[Place], rule: Protocol, told: Mapping[str, Any]
) -> Iterator[Score]:
    columns, frames = _counted(curve, places)
    own = curve_summary.figures(curve.values[None, columns], frames, rule.num_frames, MEASURES[metric])
    others = (
        curve_summary.figures(curve.halves[:, columns], frames, rule.num_frames, MEASURES[metric])
        if len(curve.halves)
        else own
    )
    for name, value in own.by_name().items():
        halves = others.by_name()[name][:, None]
        is_known = len(curve.halves) and np.isfinite(halves).all()
        low, high = around(value, halves if is_known else np.empty((0, 1)))
        if name == curve_summary.KEPT:  # a video has only so many frames
            low, high = np.clip(low, 0, rule.num_frames), np.clip(high, 0, rule.num_frames)
        is_at_least = bool(own.is_at_least[0]) and name == curve_summary.KEPT
        ends = (value[0], low[0], high[0])
        yield _score(f"{metric}_{name}", *ends, len(curve.halves), is_at_least=is_at_least, **told)


def _score(
    name: str,
    value: float,
    low: float,
    high: float,
    resamples: int,
    *,
    n: int,
    row: str,
    features: tuple[str, str],
    **where: Any,
) -> Score:
    measure = MEASURES[name]
    ends = (round(float(end), 6) if math.isfinite(end) else None for end in (value, low, high))
    told = {"features": features[0], "features_sha256": features[1], "resamples": resamples or None}
    return Score(name, *ends, n, measure.counted, measure.unit, measure.better, row, **told, **where)


def _rows(samples: Samples, clips: np.ndarray, span: Sequence[int], metric: str) -> Float[np.ndarray, "n D"]:
    side = samples.logits if metric.endswith("is") else samples.features
    chosen = np.isin(samples.clip, clips)
    return side[chosen][:, span].reshape(-1, side.shape[2])


def _score_of_classes(logits: np.ndarray) -> float:
    return inception_score(logits)[0]


_STATISTICS: dict[str, Callable[..., float]] = {
    **dict.fromkeys(("fid", "fvd", "cd_fvd"), frechet_distance),
    **dict.fromkeys(("kid", "kvd"), kernel_distance),
    **dict.fromkeys(("is", "video_is"), _score_of_classes),
}
_LEAST = {frechet_distance: 0.0, _score_of_classes: 1.0}
"""What a statistic is never below; that of kernels is unbiased, and may fall below 0."""
