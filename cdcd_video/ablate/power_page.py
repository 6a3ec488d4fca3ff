"""What an ablation with endpoints says before it begins (what it can find) and afterwards (what it found, or could have)."""

from collections.abc import Iterator, Sequence

import numpy as np

from cdcd_video.ablate import declaration
from cdcd_video.ablate.endpoint_section import LEVEL, Endpoint
from cdcd_video.ablate.endpoints import Deviation, Tested, deviations, level_of
from cdcd_video.ablate.plan import Plan
from cdcd_video.ablate.score_words import interval, named, with_unit
from cdcd_video.metrics.statistics.detectable import (
    MOST_PAIRS,
    POWER,
    minimum_detectable_effect,
    multiple,
    pairs_needed,
)
from cdcd_video.metrics.statistics.sign_flip import attained_level, smallest_p

_POWER = f"{100 * POWER:.0f} %"


def before(plan: Plan) -> list[str]:
    """What is declared and what it can find, as lines for the user."""
    num = len(plan.ablation.seeds)
    lines = [f"Declared config: SHA-256 {declaration.digest_of(plan)}.", _design(plan)]
    if smallest_p(num) > level_of(plan):
        lines.append(f"WARNING: {_blind(plan)}")
    for endpoint, deviation in zip(plan.ablation.endpoints, deviations(plan), strict=True):
        title = f"- {named(endpoint.metric, endpoint.figure)} ({endpoint.measured})"
        if deviation is None:
            lines.append(
                f"{title}: what it can find is not known, because no deviation of its differences is; give the endpoint a"
                " deviation, or name a pilot"
            )
        else:
            lines.append(f"{title}: {_can_find(plan, endpoint, deviation)}")
    return lines


def after(plan: Plan, tests: Sequence[Tested], known: Sequence[Deviation | None]) -> Iterator[str]:
    """The results of the declared tests as Markdown.

    Args:
      plan: the ablation.
      tests: see `endpoints.endpoint_tests`.
      known: the deviation of each endpoint.
    """
    yield "## Endpoints"
    yield ""
    yield _design(plan)
    if smallest_p(len(plan.ablation.seeds)) > level_of(plan):
        yield f"**Warning:** {_blind(plan)}"
    yield ""
    yield "| endpoint | arm (bases) | minus | difference [95% interval] | p | p (Holm) | different? |"
    yield "|---|---|---|---|---|---|---|"
    declared = [test for test in tests if not test.is_null]
    for test in declared:
        difference = interval(test.difference, test.metric, "+") if test.difference else "-"
        cells = (_title(test), f"{test.arm} ({test.num})", test.reference, difference, _p(test.p), _p(test.p_holm))
        yield f"| {' | '.join(cells)} | {_verdict(plan, test)} |"
    yield ""
    yield from (f"- {_sentence(plan, test)}" for test in declared)
    yield ""
    yield from _nulls(plan, tests, known)
    yield "All other scores below are listed without a test."


def _design(plan: Plan) -> str:
    num_endpoints, num_arms, num = len(plan.ablation.endpoints), len(plan.tested_arms), len(plan.ablation.seeds)
    start = "bases, from whose weights all arms are trained further" if plan.bases else "training seeds"
    return (
        f"Declared before training: {num_endpoints} endpoints x {num_arms} arms = {plan.num_tests} tests, each over the paired"
        f" differences of {num} {start}. Two-sided sign-flip test; Holm at {100 * LEVEL:.0f} %, whose first step is at"
        f" {100 * level_of(plan):.2g} %; the smallest possible p is {smallest_p(num):.2g}.{_formula(plan)}"
    )


def _formula(plan: Plan) -> str:
    num, level = len(plan.ablation.seeds), level_of(plan)
    if not attained_level(num, level):
        return ""
    times = f"{multiple(num, level):.2f} deviations of a paired difference"
    return f" Minimum detectable effect at {_POWER} power: {times} (Bloom 1995)."


def _blind(plan: Plan) -> str:
    fewest = next(num for num in range(2, MOST_PAIRS) if smallest_p(num) <= level_of(plan))
    return (
        f"{len(plan.ablation.seeds)} paired differences can never reject, whatever the effect; take at least {fewest} seeds, or"
        " fewer endpoints or arms."
    )


def _can_find(plan: Plan, endpoint: Endpoint, deviation: Deviation) -> str:
    num, level, metric = len(plan.ablation.seeds), level_of(plan), endpoint.metric
    least = minimum_detectable_effect(deviation.value, num, level)
    found = f"a true difference of {with_unit(least, metric)} or more is found with {_POWER} power"
    if not np.isfinite(least):
        found = "no difference can be found"
    text = f"{found} (deviation of a difference {with_unit(deviation.value, metric)}, {deviation.source})"
    return f"{text}; {_needed(endpoint, deviation.value, level)}" if endpoint.effect else text


def _needed(endpoint: Endpoint, deviation: float, level: float) -> str:
    assert endpoint.effect is not None
    num = pairs_needed(deviation, endpoint.effect, level)
    bases = f"more than {MOST_PAIRS}" if num is None else str(num)
    return f"{with_unit(endpoint.effect, endpoint.metric)}, the smallest that would matter, needs {bases} bases"


def _nulls(plan: Plan, tests: Sequence[Tested], known: Sequence[Deviation | None]) -> Iterator[str]:
    """What differs where nothing does, and how many bases follow from it."""
    nulls = [test for test in tests if test.is_null and test.difference]
    if nulls:
        yield "Null arms repeat an arm with other random numbers, so that their differences are chance:"
        yield ""
        yield "| endpoint | null arm (bases) | repeats | difference [95% interval] | p | deviation of a difference |"
        yield "|---|---|---|---|---|---|"
        for test in nulls:
            assert test.difference is not None
            spread = "-" if test.deviation is None else with_unit(test.deviation, test.metric)
            difference = interval(test.difference, test.metric, "+")
            cells = (_title(test), f"{test.arm} ({test.num})", test.reference, difference, _p(test.p), spread)
            yield f"| {' | '.join(cells)} |"
        yield ""
    for endpoint, deviation in zip(plan.ablation.endpoints, known, strict=True):
        if deviation is not None:
            yield f"- {named(endpoint.metric, endpoint.figure)} ({endpoint.measured}): {_can_find(plan, endpoint, deviation)}."
    yield ""


def _title(test: Tested) -> str:
    return f"{named(test.metric, test.figure)} ({test.measured})"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _open(plan: Plan, test: Tested) -> str:
    """Why there is no test; empty where there is one."""
    if test.p is not None:
        return ""
    num = len(plan.ablation.seeds)
    return f"not finished ({test.num} of {num} bases)" if test.num < num else "not measured in every base"


def _verdict(plan: Plan, test: Tested) -> str:
    if missing := _open(plan, test):
        return missing
    if test.is_significant and test.difference:
        return f"**{'better' if test.difference.is_better else 'worse'}**"
    return f"no; {_POWER} power {_from(test)}"


def _from(test: Tested) -> str:
    return "nowhere" if test.detectable is None else f"from {with_unit(test.detectable, test.metric)}"


def _sentence(plan: Plan, test: Tested) -> str:
    title, missing = _title(test), _open(plan, test)
    if missing:
        return f"{test.arm} against {test.reference}, {title}: {missing}."
    assert test.difference is not None
    numbers = f"{interval(test.difference, test.metric, '+')}, p = {_p(test.p)}, {_p(test.p_holm)} after Holm"
    if test.is_significant:
        word = "better" if test.difference.is_better else "worse"
        return f"**{test.arm}** is {word} than {test.reference} by {title}: {numbers}."
    could = (
        f"a true difference of {with_unit(test.detectable, test.metric)} or more would have been found with {_POWER} power"
        if test.detectable is not None
        else "no difference could have been found"
    )
    return f"No difference of {test.arm} from {test.reference} by {title} was found: {numbers}; {could}."
