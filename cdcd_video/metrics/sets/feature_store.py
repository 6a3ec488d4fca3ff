"""Metrics of whole sets of videos: the distance between sampled and real ones in a feature space, and their diversity.

FID, KID and IS take every frame as a sample; FVD, KVD, JEDi, flow VMD and video IS every window. A curve along the
video takes only the frames of one index, or the windows at one place; where one window holds the whole video, shorter
windows make the curve.
All depend on the number of samples: the system `truth` is the same metric of true videos, at the same number, and the floor.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from cdcd_video.metrics import curve_summary
from cdcd_video.metrics.features.networks import FeatureNetwork, NetworkOutput
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.scores import MEASURES, METRICS, OVER_FLOOR, Score, rounded
from cdcd_video.metrics.sets.distribution import frechet_distance, inception_score, jedi, kernel_distance
from cdcd_video.metrics.statistics.intervals import around, over_halves

REAL = "real"
"""The set of other real videos."""
FLOOR = "truth"
"""The system that no model can be expected to beat."""
HALVES, COSTLY_HALVES = 100, 20
"""Random halves behind an interval; fewer where each needs the decomposition of a large matrix."""
COSTLY = 512

Place = tuple[int, int]
"""First and last frame of one input of the network."""


@dataclass(frozen=True)
class Samples:
    """Features of one set under one network: V videos at T places."""

    features: Float[np.ndarray, "V T D"]
    logits: Float[np.ndarray, "V T K"] | None
    clip: Int[np.ndarray, " V"]
    """The clip of each video; videos of one clip are resampled together."""

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return int(self.clip.max()) + 1


class FeatureStore:
    """The features of one network for every system.

    Args:
      network: of frames or of windows.
      places: its inputs in every video: single frames, or windows of one length.
      shorter: shorter windows for the curve along the video, where `places` is a single window.
    """

    def __init__(self, network: FeatureNetwork, places: Sequence[Place], shorter: Sequence[Place] = ()):
        self.network, self.places = network, list(places)
        self.along = FeatureStore(network, shorter) if shorter else self
        self._outputs: dict[str, dict[str, tuple[str, NetworkOutput]]] = {}

    def add_video(self, system: str, name: str, clip: str, frames: UInt8[np.ndarray, "F H W 3"]) -> None:
        """Adds the features of a video. It is a batch of its own, so that nothing depends on other videos."""
        parts = [
            frames[first] if self.network.input_kind == "frames" else frames[first : last + 1]
            for first, last in self.places
        ]
        # Equal inputs, such as those of a frozen video, are run once: a large network is slow.
        _, first_of, which = np.unique([part.tobytes() for part in parts], return_index=True, return_inverse=True)
        output = self.network(np.stack([parts[place] for place in first_of]))
        logits = None if output.logits is None else output.logits[which].astype(np.float32)
        self._outputs.setdefault(system, {})[name] = (
            clip,
            NetworkOutput(output.features[which].astype(np.float32), logits),
        )
        if self.along is not self:
            self.along.add_video(system, name, clip, frames)

    def entries(self) -> list[Any]:
        """All features as plain values: clip, features and logits by system and video; then those of `along`."""
        own = {
            system: {name: [clip, one.features, one.logits] for name, (clip, one) in videos.items()}
            for system, videos in self._outputs.items()
        }
        return [own, *(self.along.entries() if self.along is not self else ())]

    def add(self, entries: Sequence[Any]) -> None:
        """Adds the entries of another store of the same network, which has other videos."""
        own, *along = entries
        for system, videos in own.items():
            added = {name: (clip, NetworkOutput(*sides)) for name, (clip, *sides) in videos.items()}
            self._outputs.setdefault(system, {}).update(added)
        if along:
            self.along.add(along)

    def samples(self, system: str) -> Samples:
        """The features of a system, ordered by the names of the videos."""
        outputs = [self._outputs[system][name] for name in sorted(self._outputs[system])]
        _, clip = np.unique([clip for clip, _ in outputs], return_inverse=True)
        logits = [one.logits for _, one in outputs if one.logits is not None]
        return Samples(np.stack([one.features for _, one in outputs]), np.stack(logits) if logits else None, clip)


def set_scores(
    metric: str, feature_store: FeatureStore, systems: Sequence[str], protocol: Protocol, features: tuple[str, str]
) -> Iterator[Score]:
    """A metric of several systems: over all places that count, at each place, and of the curve along the video.

    Systems share their first frames, and so most of their distance from other scenes. The distance of a system minus that of
    `truth` is therefore known much better than either distance, and has a score of its own.

    Args:
      metric: one of `scores.SETS`.
      feature_store: has these systems, and `REAL` where the metric compares with real videos.
      systems: the systems.
      protocol: has the length of videos, the frames that count (windows all do), and the seed of the random halves.
      features: name and digest of the network.
    """
    found = {system: _measure(metric, feature_store, system, protocol) for system in systems}
    floor = found.get(FLOOR) if METRICS[metric].needs_real else None
    for system, curve in found.items():
        common: dict[str, Any] = {"system": system, "n": curve.n, "features": features}
        yield from _places(metric, curve.values, curve.halves, feature_store, common)
        if len(curve.counted) > 1:
            yield from _along(metric, curve, feature_store.along.places, protocol, common)
        if floor and system != FLOOR:
            name, beyond, halves = f"{metric}_{OVER_FLOOR}", curve.values - floor.values, curve.halves - floor.halves
            yield from _places(name, beyond, halves, feature_store, common)
            if len(curve.counted) > 1:
                columns, frames = _counted(curve, feature_store.along.places)
                value = curve_summary.slope(beyond[None, columns], frames)
                slopes = curve_summary.slope(halves[:, columns], frames)[:, None] if len(halves) else np.empty((0, 1))
                low, high = around(value, slopes)
                yield _score(f"{name}_{curve_summary.SLOPE}", value[0], low[0], high[0], len(halves), **common)


@dataclass(frozen=True)
class _Curve:
    """A metric of one system: over all places that count, then at each place; of the whole set and of halves."""

    values: Float[np.ndarray, " P"]
    halves: Float[np.ndarray, "R _"]
    counted: list[int]
    """Places along the video that count."""
    n: int
    """Videos of the smaller set."""


def _measure(metric: str, feature_store: FeatureStore, system: str, protocol: Protocol) -> _Curve:
    systems = [system, REAL] if METRICS[metric].needs_real else [system]
    sets, along_sets = ([one.samples(name) for name in systems] for one in (feature_store, feature_store.along))
    whole, counted = (_counted_places(one, protocol) for one in (feature_store, feature_store.along))
    places = range(len(feature_store.along.places)) if len(feature_store.along.places) > 1 else ()
    spans = [(sets, whole), *((along_sets, [place]) for place in places)]

    def values(*kept: np.ndarray) -> np.ndarray:
        found = []
        for samples_of, span in spans:
            sides = [_rows(one, which, span, metric) for one, which in zip(samples_of, kept, strict=True)]
            found.append(_STATISTICS[metric](*sides))
        return np.array(found)

    sizes, n = tuple(one.num_clips for one in sets), min(len(one.clip) for one in sets)
    samples = len(whole) * n // 2
    width = sets[0].features.shape[2] if _STATISTICS[metric] is frechet_distance else samples
    halves = over_halves(values, sizes, protocol.seed, COSTLY_HALVES if min(samples, width) > COSTLY else HALVES)
    return _Curve(values(*map(np.arange, sizes)), halves, counted, n)


def _counted_places(feature_store: FeatureStore, protocol: Protocol) -> list[int]:
    """Indices of the places that count: of frames those that the protocol counts, of windows all."""
    is_frames = feature_store.network.input_kind == "frames"
    return [
        place
        for place, (first, _) in enumerate(feature_store.places)
        if not is_frames or first >= protocol.first_counted
    ]


def _places(
    name: str, values: np.ndarray, halves: np.ndarray, feature_store: FeatureStore, common: Mapping[str, Any]
) -> Iterator[Score]:
    """The score over all places that count, and at each place; intervals are clipped at the least possible value."""
    low, high = around(values, halves)
    ends = np.maximum(low, _LEAST.get(_STATISTICS.get(name), -np.inf)), high
    for number, (value, low, high) in enumerate(zip(values, *ends, strict=True)):
        first, last = feature_store.along.places[number - 1] if number else (0, 0)
        where = {"frame": first} if feature_store.network.input_kind == "frames" else {"window": (first, last)}
        yield _score(name, value, low, high, len(halves), **common, **(where if number else {}))


def _counted(curve: _Curve, places: Sequence[Place]) -> tuple[list[int], list[int]]:
    """Columns of the places that count, and the first frame of each."""
    return [1 + place for place in curve.counted], [places[place][0] for place in curve.counted]


def _along(
    metric: str, curve: _Curve, places: Sequence[Place], protocol: Protocol, common: Mapping[str, Any]
) -> Iterator[Score]:
    columns, frames = _counted(curve, places)
    own = curve_summary.figures(curve.values[None, columns], frames, protocol.num_frames, MEASURES[metric])
    others = (
        curve_summary.figures(curve.halves[:, columns], frames, protocol.num_frames, MEASURES[metric])
        if len(curve.halves)
        else own
    )
    for name, value in own.by_name().items():
        halves = others.by_name()[name][:, None]
        is_known = len(curve.halves) and np.isfinite(halves).all()
        low, high = around(value, halves if is_known else np.empty((0, 1)))
        if name == curve_summary.KEPT:  # bounded by the length of the video
            low, high = np.clip(low, 0, protocol.num_frames), np.clip(high, 0, protocol.num_frames)
        is_at_least = bool(own.is_at_least[0]) and name == curve_summary.KEPT
        ends = (value[0], low[0], high[0])
        yield _score(f"{metric}_{name}", *ends, len(curve.halves), is_at_least=is_at_least, **common)


def _score(
    name: str,
    value: float,
    low: float,
    high: float,
    resamples: int,
    *,
    n: int,
    system: str,
    features: tuple[str, str],
    **where: Any,
) -> Score:
    measure = MEASURES[name]
    counted: dict[str, Any] = dict(n=n, counted=measure.counted, unit=measure.unit, better=measure.better, row=system)
    network: dict[str, Any] = {"features": features[0], "features_sha256": features[1], "resamples": resamples or None}
    return Score(name, rounded(value), rounded(low), rounded(high), **counted, **network, **where)


def _rows(samples: Samples, clips: np.ndarray, span: Sequence[int], metric: str) -> Float[np.ndarray, "n D"]:
    side = samples.logits if metric.endswith("is") else samples.features
    assert side is not None
    chosen = np.isin(samples.clip, clips)
    return side[chosen][:, span].reshape(-1, side.shape[2])


def _score_of_classes(logits: np.ndarray) -> float:
    return inception_score(logits)[0]


_STATISTICS: dict[str, Callable[..., float]] = {
    **dict.fromkeys(("fid", "fvd", "flow_vmd", "cd_fvd"), frechet_distance),
    **dict.fromkeys(("kid", "kvd"), kernel_distance),
    "jedi": jedi,
    **dict.fromkeys(("is", "video_is"), _score_of_classes),
}
_LEAST = {frechet_distance: 0.0, jedi: 0.0, _score_of_classes: 1.0}
"""Least possible values; the kernel distance is unbiased, and may fall below 0."""
