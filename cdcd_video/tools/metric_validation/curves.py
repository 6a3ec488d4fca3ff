"""The metric validation: each score under each degradation of growing strength, and what must hold for every metric."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from cdcd_video.metrics.degradations import DEGRADATIONS
from cdcd_video.metrics.features.networks import FeatureNetwork
from cdcd_video.metrics.scores import MEASURES
from cdcd_video.metrics.statistics import paired
from cdcd_video.tools.metric_validation.trial import SetMeasurements, Trial, concatenated, set_scores

STRENGTHS = (0.125, 0.25, 0.5, 1.0)
SPLITS = 50
"""How often real videos are split into two sets, for the spread of a score by chance."""
ROUNDING = 1e-9
_TAIL = 0.025

Verdict = Literal["sees", "uneven", "blind", "fooled"]


@dataclass(frozen=True)
class Curve:
    """One score under one degradation of growing strength."""

    score: str
    features: str | None
    better: str
    defect: str
    strengths: tuple[float, ...]
    """From 0, the true videos."""
    values: tuple[float, ...]
    moved: tuple[int, ...]
    """At each strength: 1 worse than the true videos by more than chance, -1 better, 0 neither."""
    spearman: float | None
    """Rank correlation of worsening and strength; None where the score is constant."""
    worsening: float
    """Fraction of steps from one strength to the next that make the score worse."""
    seen_from: float | None
    """Least strength from which on the score is worse by more than chance."""
    verdict: Verdict
    """`sees`: worse at full strength, growing with strength, and nowhere better than the truth, up to chance and ties.
    `uneven`: changes, but not so. `blind`: never changes by more than chance. `fooled`: better than the truth at full
    strength."""

    @property
    def name(self) -> str:
        """The score, with its feature network."""
        return self.score + (f"[{self.features}]" if self.features else "")


@dataclass(frozen=True)
class Findings:
    """The result of the validation."""

    curves: tuple[Curve, ...]
    equal: dict[str, Any]
    """Scores of equal sets, and of two sets of real videos."""
    still: dict[str, Any]
    """Scores of a still video beside those of the true one, and the scores on which it wins."""
    invariance: dict[str, float]
    """Greatest relative change of a score with batch size, order and threads."""


def calibrate(
    trial: Trial,
    seed: int = 0,
    *,
    strengths: Sequence[float] = STRENGTHS,
    num_splits: int = SPLITS,
    progress: Callable[[int], Any] = lambda sets: None,
) -> Findings:
    """Runs the validation.

    Args:
      trial: the true videos, and the networks that one.
      seed: of the degradations, the splits and the intervals.
      strengths: above 0 and rising; the verdict is that at the last.
      num_splits: of the real videos into two sets.
      progress: called after every set of videos.
    """
    real, clean = trial.measure(trial.true[0], 0), trial.measure(trial.true[1])
    progress(2)
    chance = _chance(real, clean, trial.extractors, num_splits, seed)
    curves: list[Curve] = []
    for name, degrade in DEGRADATIONS.items():
        measured = [clean]
        for strength in strengths:
            degraded = [degrade(video, strength, _generator(seed, place)) for place, video in enumerate(trial.true[1])]
            measured.append(trial.measure(np.stack(degraded)))
            progress(1)
        curves.extend(_curves(name, (0.0, *strengths), real, measured, trial.extractors, chance, seed))
    return Findings(
        tuple(curves),
        _of_equals(trial, real, chance),
        _of_still(curves),
        _invariance(trial, real, clean),
    )


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def _chance(
    real: SetMeasurements, clean: SetMeasurements, extractors: Mapping[str, FeatureNetwork], num_splits: int, seed: int
) -> dict[tuple[str, str], np.ndarray]:
    """The scores of sets between two halves of the real videos, for many random splits."""
    both, size = concatenated(real, clean), len(next(iter(real.sums.values())))
    found: dict[tuple[str, str], list[float]] = {}
    for split in range(num_splits):
        order = _generator(seed, split).permutation(2 * size)
        for key, value in set_scores(both.part(order[:size]), both.part(order[size:]), extractors).items():
            found.setdefault(key, []).append(value)
    return {key: np.array(values) for key, values in found.items()}


# Curves -----------------------------------------------------------------------------------------------------------


def _curves(
    defect: str,
    strengths: Sequence[float],
    real: SetMeasurements,
    measured: Sequence[SetMeasurements],
    extractors: Mapping[str, FeatureNetwork],
    chance: Mapping[tuple[str, str], np.ndarray],
    seed: int,
) -> Iterator[Curve]:
    clean = measured[0]
    for score in sorted(clean.sums, key=list(MEASURES).index):
        values = [one.values()[score] for one in measured]
        changes = [False]
        for one in measured[1:]:
            found = paired.paired(one.sums[score], clean.sums[score], seed=seed)
            excludes = found.low is not None and (found.low > 0 or found.high < 0)
            changes.append(excludes and abs(found.value) > ROUNDING)
        yield _curve(score, None, defect, strengths, values, changes)
    found = [set_scores(real, one, extractors) for one in measured]
    for score, network in found[0]:
        values = [one[score, network] for one in found]
        # The degraded videos are the true ones of the same set, so the sampling error of the set cancels.
        spread = np.ptp(np.quantile(chance[score, network], (_TAIL, 1 - _TAIL))) / 2
        yield _curve(score, network, defect, strengths, values, [abs(value - values[0]) > spread for value in values])


def _curve(
    score: str,
    features: str | None,
    defect: str,
    strengths: Sequence[float],
    values: Sequence[float],
    changes: Sequence[bool | np.bool_],
) -> Curve:
    better = MEASURES[score].better
    right = {"one": 1.0, "real": values[0]}.get(better)
    costs = paired.cost(np.array(values, dtype=np.float64), right) * (-1 if better == "higher" else 1)
    moved = [int(np.sign(cost - costs[0])) if change else 0 for cost, change in zip(costs, changes, strict=True)]
    correlation = spearman(np.array(strengths), costs)
    later = list(zip(strengths[1:], moved[1:], strict=True))
    seen = next((s for place, (s, _) in enumerate(later) if all(m > 0 for _, m in later[place:])), None)
    worse = [cost for cost, sign in zip(costs, moved, strict=True) if sign > 0]
    verdict: Verdict = "uneven"
    if not any(moved):
        verdict = "blind"
    elif moved[-1] < 0:
        verdict = "fooled"
    elif moved[-1] > 0 and min(moved) == 0 and worse == sorted(worse):
        verdict = "sees"
    return Curve(
        score,
        features,
        better,
        defect,
        tuple(strengths),
        tuple(_finite(value) for value in values),
        tuple(moved),
        None if correlation is None else round(correlation, 3),
        round(float((np.diff(costs) > 0).mean()), 3),
        seen,
        verdict,
    )


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Rank correlation, ties at their mean rank; None where one side is constant or not finite."""
    if not np.isfinite(second).all():
        return None
    ranks = [(one[:, None] > one).sum(axis=1) + (one[:, None] == one).sum(axis=1) / 2 for one in (first, second)]
    if min(np.ptp(one) for one in ranks) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


# What must hold for every metric ------------------------------------------------------------------------------------


def _of_equals(trial: Trial, real: SetMeasurements, chance: Mapping[tuple[str, str], np.ndarray]) -> dict[str, Any]:
    """Scores of equal sets: 0 for a distance; unbiased estimates may differ from 0."""
    found: dict[str, Any] = {
        f"{score}[{network}]": {
            "equal_sets": _finite(value),
            "real_against_real": _finite(chance[score, network].mean()),
            "real_against_real_from": _finite(np.quantile(chance[score, network], _TAIL)),
            "real_against_real_to": _finite(np.quantile(chance[score, network], 1 - _TAIL)),
        }
        for (score, network), value in set_scores(real, real, trial.extractors).items()
    }
    return found | {name: {"equal_sets": _finite(value)} for name, value in real.values().items()}


def _of_still(curves: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    """A still video beside the true ones."""
    outcome = {1: "loses", -1: "wins", 0: "draws"}
    return {
        curve.name: {"truth": curve.values[0], "still": curve.values[-1], "still_video": outcome[curve.moved[-1]]}
        for curve in curves
        if curve.defect == "freeze"
    }


def _invariance(trial: Trial, real: SetMeasurements, clean: SetMeasurements) -> dict[str, float]:
    """Change of the scores of sets with batch size, order of the videos and number of threads."""
    base, threads = set_scores(real, clean, trial.extractors), torch.get_num_threads()

    def change(videos: np.ndarray, **changes: int) -> float:
        again = set_scores(real, SetMeasurements(clean.sums, trial.features(videos, **changes)), trial.extractors)
        return max(abs(again[key] - value) / max(ROUNDING, abs(value)) for key, value in base.items())

    videos = trial.true[1]
    found = {f"batch_size_{size}": change(videos, batch_size=size) for size in (1, 7)}
    found["order"] = change(videos[::-1])
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        found["threads"] = change(videos)
    finally:
        torch.set_num_threads(threads)
    return {name: float(f"{value:.2g}") for name, value in found.items()}
