"""Analyses the votes: preferences, agreement of raters, and correlation with automatic metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cdcd_video.metrics.statistics.intervals import CONFIDENCE, RESAMPLES
from cdcd_video.rate import agreement, strengths
from cdcd_video.rate.answers import Vote
from cdcd_video.rate.automatic import Metric
from cdcd_video.rate.study import Study

_FEWEST_FOR_INTERVAL = 4


@dataclass(frozen=True)
class Estimate:
    """A number with its percentile interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Number of votes (of a mean), units (of alpha) or videos (of a correlation)."""


def findings(study: Study, votes: Sequence[Vote], metrics: Mapping[str, Metric], seed: int = 0) -> dict[str, Any]:
    """All results of each question.

    Args:
      study: the study.
      votes: of the counted raters; checks and repeats among them are ignored.
      metrics: automatic scores.
      seed: of the bootstrap.

    Returns:
      By question: `systems` (name -> estimate, and for pairs log-strengths), `pairs` (wins, losses, ties), `alpha`, and
      `metrics`, all of plain types.
    """
    counted = [vote for vote in votes if not vote.check]
    return {name: _question(study, counted, name, metrics, seed) for name in study.questions} if counted else {}


def resamples(items: Int[np.ndarray, " V"], raters: Int[np.ndarray, " V"], seed: int) -> Float[np.ndarray, "R V"]:
    """Weights of the votes in bootstrap resamples of items and raters: the pigeonhole bootstrap (Owen 2007).

    Items and raters are resampled independently, and the weight of a vote is the product of the counts of its item and its
    rater. This is conservative: intervals are too wide where neither items nor raters differ much; docs/rating.md has the
    coverage in simulations. A single rater is not resampled.

    Args:
      items: the number of each vote's item.
      raters: the number of each vote's rater.
      seed: of the bootstrap.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    weights = np.ones((RESAMPLES, len(items)))
    for of in (items, raters):
        size = int(of.max(initial=-1)) + 1
        if size > 1:
            weights *= rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES)[:, of]
    return weights


def _question(study: Study, votes: Sequence[Vote], name: str, metrics: Mapping[str, Metric], seed: int) -> dict:
    items = np.unique([vote.item for vote in votes], return_inverse=True)[1]
    raters = np.unique([vote.rater for vote in votes], return_inverse=True)[1]
    weights = resamples(items, raters, seed)
    found = (_preferences if study.kind == "pair" else _means)(study, votes, name, weights)
    units = _units(study, votes, name)
    found["alpha"] = {level: asdict(_alpha(units, level, seed)) for level in ("nominal", "ordinal")}
    by_system = {system: facts["value"] for system, facts in found["systems"].items()}
    correlate = _agrees_on_pairs if study.kind == "pair" else _agrees_on_videos
    found["metrics"] = {
        metric: {"better": of.better, **correlate(study, units, of, seed), "systems": _agrees_on_systems(of, by_system)}
        for metric, of in metrics.items()
    }
    return found


def _preferences(study: Study, votes: Sequence[Vote], name: str, weights: np.ndarray) -> dict:
    """Preferences by the Bradley-Terry model with ties."""
    pairs = [tuple(pair) for pair in strengths.pairs_of(len(study.systems)).tolist()]
    outcomes = np.zeros((len(votes), len(pairs), 3))
    for number, vote in enumerate(votes):
        pair, sign = _oriented(study, vote)
        outcome = {1: strengths.WIN, 0: strengths.TIE, -1: strengths.LOSS}[sign * vote.answers[name]]
        outcomes[number, pairs.index(pair), outcome] = 1
    flat = outcomes.reshape(len(votes), -1)
    counts = np.concatenate([flat.sum(axis=0)[None], weights @ flat]).reshape(-1, len(pairs), 3)
    log_strengths, log_nu = strengths.fit(counts, len(study.systems))
    shares = strengths.preferred(log_strengths, log_nu)
    met = outcomes.sum(axis=(0, 2))
    found: dict[str, Any] = {"systems": {}, "pairs": []}
    for place, system in enumerate(study.systems):
        n = int(sum(met[number] for number, pair in enumerate(pairs) if place in pair))
        strength = asdict(_estimate(log_strengths[0, place], log_strengths[1:, place], n))
        found["systems"][system] = asdict(_estimate(shares[0, place], shares[1:, place], n)) | {
            "log_strength": strength
        }
    for number, (first, second) in enumerate(pairs):
        wins, losses, ties = (int(count) for count in counts[0, number])
        both = {"first": study.systems[first], "second": study.systems[second]}
        found["pairs"].append(both | {"wins": wins, "losses": losses, "ties": ties})
    found["log_nu"] = float(log_nu[0])
    return found


def _means(study: Study, votes: Sequence[Vote], name: str, weights: np.ndarray) -> dict:
    """Mean scores and their differences."""
    values = np.array([vote.answers[name] for vote in votes], dtype=np.float64)
    own = np.array([[vote.systems == (system,) for vote in votes] for system in study.systems], dtype=np.float64)
    weights = np.concatenate([np.ones((1, len(votes))), weights])
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (weights @ (own * values).T) / (weights @ own.T)
    counts = own.sum(axis=1).astype(int).tolist()
    systems = {
        system: asdict(_estimate(means[0, place], means[1:, place], counts[place]))
        for place, system in enumerate(study.systems)
    }
    pairs = []
    for first, second in strengths.pairs_of(len(study.systems)).tolist():
        ahead = means[:, first] - means[:, second]
        estimate = _estimate(ahead[0], ahead[1:], min(counts[first], counts[second]))
        pairs.append({"first": study.systems[first], "second": study.systems[second], **asdict(estimate)})
    return {"systems": systems, "pairs": pairs}


def _units(study: Study, votes: Sequence[Vote], name: str) -> dict[tuple, dict[str, int]]:
    """The answer of each rater to each unit: (system, item), or (first, second, item) with 1 where the first is preferred."""
    units: dict[tuple, dict[str, int]] = {}
    for vote in votes:
        if len(vote.systems) == 1:
            unit, value = (vote.systems[0], vote.item), vote.answers[name]
        else:
            (first, second), sign = _oriented(study, vote)
            unit = (study.systems[first], study.systems[second], vote.item)
            value = sign * vote.answers[name]
        units.setdefault(unit, {})[vote.rater] = value
    return units


def _alpha(units: Mapping[tuple, Mapping[str, int]], level: agreement.Level, seed: int) -> Estimate:
    values = np.unique([value for answers in units.values() for value in answers.values()]).astype(np.float64)
    table = np.array(
        [[list(answers.values()).count(value) for value in values] for answers in units.values()], np.float64
    )
    shared = table[table.sum(axis=1) > 1]
    if not len(shared):
        return Estimate(None, None, None, 0)
    resampled = agreement.alpha_of_counts(shared, values, level, _resampled(len(shared), seed))
    return _estimate(resampled[0], resampled[1:], len(shared))


def _agrees_on_videos(study: Study, units: Mapping[tuple, Mapping[str, int]], metric: Metric, seed: int) -> dict:
    """Rank correlation of a metric with the mean rating, over videos."""
    known = [unit for unit in units if unit in metric.videos]
    ratings = np.array([np.mean(list(units[unit].values())) for unit in known])
    values = np.array([metric.videos[unit] for unit in known])
    return _correlation(values, ratings, [unit[-1] for unit in known], seed)


def _agrees_on_pairs(study: Study, units: Mapping[tuple, Mapping[str, int]], metric: Metric, seed: int) -> dict:
    """Rank correlation of the difference of a metric with the preference, over pairs, each in both orders."""
    known = [unit for unit in units if all((system, unit[2]) in metric.videos for system in unit[:2])]
    preferred = np.array([np.mean(list(units[unit].values())) for unit in known])
    ahead = np.array([metric.videos[unit[0], unit[2]] - metric.videos[unit[1], unit[2]] for unit in known])
    found = _correlation(
        np.append(ahead, -ahead), np.append(preferred, -preferred), [unit[2] for unit in known] * 2, seed
    )
    decided = (preferred != 0) & (ahead != 0)
    found["n"] = len(known)
    found["same_side"] = (
        float(np.mean(np.sign(preferred[decided]) == np.sign(ahead[decided]))) if decided.any() else None
    )
    found["decided"] = int(decided.sum())
    return found


def _agrees_on_systems(metric: Metric, ratings: Mapping[str, float | None]) -> dict:
    known = [system for system in ratings if ratings[system] is not None and metric.of_system(system) is not None]
    values = np.array([metric.of_system(system) for system in known])
    return _correlation(values, np.array([ratings[system] for system in known]), None, 0)


def _correlation(values: np.ndarray, ratings: np.ndarray, items: Sequence[str] | None, seed: int) -> dict:
    """Spearman and Kendall correlation; the interval resamples whole items, and needs items."""
    n = len(values)
    found: dict[str, Any] = {"n": n, "spearman": None, "kendall": None, "low": None, "high": None}
    if n < 3:  # two points always lie on a line
        return found
    names, place = np.unique(items, return_inverse=True) if items else (np.arange(n), np.arange(n))
    resampled = agreement.spearman(values, ratings, _resampled(len(names), seed)[:, place])
    found["spearman"], found["kendall"] = _finite(resampled[0]), _finite(agreement.kendall(values, ratings))
    if items and len(names) >= _FEWEST_FOR_INTERVAL:
        estimate = _estimate(resampled[0], resampled[1:], n)
        found |= {"low": estimate.low, "high": estimate.high}
    return found


def _oriented(study: Study, vote: Vote) -> tuple[tuple[int, int], int]:
    """The pair in the order of the study, and the sign by which 1 means that its first system is preferred."""
    left, right = (study.systems.index(system) for system in vote.systems)
    return ((left, right), -1) if left < right else ((right, left), 1)


def _resampled(size: int, seed: int) -> Float[np.ndarray, "R n"]:
    """Counts of items: all once in the first row, bootstrap resamples in the others."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    return np.concatenate([np.ones((1, size)), rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES)])


def _estimate(value: float, resampled: np.ndarray, n: int) -> Estimate:
    resampled, tail = resampled[np.isfinite(resampled)], (1 - CONFIDENCE) / 2
    ends = np.quantile(resampled, (tail, 1 - tail)).tolist() if len(resampled) else (None, None)
    return Estimate(_finite(value), *ends, n)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
