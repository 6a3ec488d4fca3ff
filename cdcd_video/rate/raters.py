"""Statistics of each rater, and whose votes are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cdcd_video.rate.answers import Vote
from cdcd_video.rate.study import NOISE, Study

PASS_SHARE = 0.75
"""Least fraction of answered attention checks that a rater must pass to be counted."""
MOST_FOR_NOISE = 2
"""A check with a single video of noise is passed if no answer is above this."""


@dataclass(frozen=True)
class RaterFacts:
    """Statistics of one rater."""

    rater: str
    answered: int
    total: int
    checks: int
    passed: int
    repeats: int
    repeats_alike: float | None
    """Fraction of questions on repeated pages with the same answer (on the scale 1 to 5: at most one apart)."""
    left_share: float | None
    """How often the left video was preferred, of answers without a tie; 0.5 without a bias."""
    median_seconds: float
    hurried: float
    """Fraction of pages that were answered before the video could have ended."""
    kept: bool
    why: str


def rater_facts(study: Study, votes: Sequence[Vote], totals: Mapping[str, int]) -> list[RaterFacts]:
    """Statistics of each rater, and whether their votes are counted, which depends on `PASS_SHARE` alone.

    Args:
      study: the study.
      votes: all answered pages.
      totals: number of pages of each rater; raters without answers are left out.
    """
    found = []
    for rater in [rater for rater in totals if any(vote.rater == rater for vote in votes)]:
        own = [vote for vote in votes if vote.rater == rater]
        checks = [vote for vote in own if vote.check == "noise"]
        passed = sum(_passes(study, vote) for vote in checks)
        alike = _alike(study, own)
        sides = [value for vote in own if len(vote.systems) == 2 and not vote.check for value in vote.answers.values()]
        sides = [value for value in sides if value]
        kept = not checks or passed >= PASS_SHARE * len(checks)
        why = f"passed {passed} of {len(checks)} checks" if checks else "answered no check"
        found.append(
            RaterFacts(
                rater=rater,
                answered=len(own),
                total=totals[rater],
                checks=len(checks),
                passed=passed,
                repeats=sum(vote.check == "repeat" for vote in own),
                repeats_alike=float(np.mean(alike)) if alike else None,
                left_share=float(np.mean(np.array(sides) < 0)) if sides else None,
                median_seconds=float(np.median([vote.seconds for vote in own])),
                hurried=float(np.mean([vote.seconds < _length(study, vote) for vote in own])),
                kept=kept,
                why=why,
            )
        )
    return found


def _passes(study: Study, vote: Vote) -> bool:
    if study.kind == "single":
        return all(value <= MOST_FOR_NOISE for value in vote.answers.values())
    real = -1 if vote.systems[1] == NOISE else 1
    return all(value == real for value in vote.answers.values())


def _alike(study: Study, votes: Sequence[Vote]) -> list[bool]:
    first = {(vote.item, frozenset(vote.systems)): vote for vote in votes if not vote.check}
    found = []
    for vote in votes:
        before = first.get((vote.item, frozenset(vote.systems))) if vote.check == "repeat" else None
        if before is None:
            continue
        sign = 1 if vote.systems == before.systems else -1
        apart = [abs(sign * vote.answers[name] - before.answers[name]) for name in study.questions]
        found += [gap <= (1 if study.kind == "single" else 0) for gap in apart]
    return found


def _length(study: Study, vote: Vote) -> float:
    item = next(item for item in study.items if item.name == vote.item)
    names = [item.noise if system == NOISE else item.videos[system] for system in vote.systems]
    return max((study.media[name].seconds or 0.0) for name in names if name)
