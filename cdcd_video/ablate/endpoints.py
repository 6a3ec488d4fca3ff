"""Tests of the declared endpoints, what they could have found, and what the null arms say of chance.

The differences of an arm from its reference are paired by base (or training seed), and the sign-flip test is over these. Videos
are the same for all, so they are held fixed in the test; the interval is over bases and videos. Holm's procedure covers every
endpoint and arm that was declared. An effect is detectable where the test finds it with a power of 80 % at the level of Holm's
first step, the strictest one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cdcd_video.ablate.endpoint_section import LEVEL, Endpoint
from cdcd_video.ablate.gather import Gathered
from cdcd_video.ablate.plan import Arm, Plan
from cdcd_video.ablate.verdict import Difference, difference_of
from cdcd_video.errors import UserError
from cdcd_video.metrics.scores import MEASURES
from cdcd_video.metrics.statistics.detectable import minimum_detectable_effect, pooled_deviation
from cdcd_video.metrics.statistics.paired import holm
from cdcd_video.metrics.statistics.sign_flip import sign_flip_p
from cdcd_video.storage.small_file import MIB, read_small_json

FILE = "endpoints.json"


@dataclass(frozen=True)
class Tested:
    """One endpoint of one arm."""

    measured: str
    metric: str
    figure: str
    arm: str
    reference: str
    is_null: bool
    num: int
    """Bases that both have finished."""
    difference: Difference | None
    """None where nothing is finished or comparable."""
    p: float | None
    """None before every base is finished, so that nobody stops when it is small."""
    p_holm: float | None
    """None for null arms, which are no tests."""
    deviation: float | None
    """Standard deviation of the paired differences."""
    detectable: float | None
    """The minimum detectable effect at this deviation; None where it is infinite or not known."""

    @property
    def is_significant(self) -> bool:
        """Whether the hypothesis of no difference is rejected."""
        return self.p_holm is not None and self.p_holm <= LEVEL


@dataclass(frozen=True)
class Deviation:
    """The standard deviation of a paired difference of an endpoint, and where it is known from."""

    value: float
    source: str


def level_of(plan: Plan) -> float:
    """The level of Holm's first step: that of all tests over their number."""
    return LEVEL / max(plan.num_tests, 1)


def endpoint_tests(plan: Plan, gathered: Sequence[Gathered], seed: int = 0) -> list[Tested]:
    """The declared tests in the order of endpoints and arms, and the null arms; empty where no endpoint is declared.

    Args:
      plan: the ablation.
      gathered: its evaluations.
      seed: of the bootstrap.
    """
    by_name = {found.name: found for found in gathered}
    arms = [arm for arm in plan.arms.values() if arm.reference != arm.name]
    found = [
        _tested(plan, endpoint, arm, by_name[endpoint.measured], seed)
        for endpoint in plan.ablation.endpoints
        for arm in arms
    ]
    # A test that is not finished counts as one that will not reject, so that the others are not judged too kindly.
    declared = [test for test in found if not test.is_null]
    adjusted = holm([1.0 if test.p is None else test.p for test in declared])
    after = {id(test): p for test, p in zip(declared, adjusted, strict=True) if test.p is not None}
    return [replace(test, p_holm=after.get(id(test))) for test in found]


def _tested(plan: Plan, endpoint: Endpoint, arm: Arm, found: Gathered, seed: int) -> Tested:
    metric, figure = endpoint.metric, endpoint.figure
    own, other = (found.sums.get(name, {}).get(metric) for name in (arm.name, arm.reference))
    difference = None
    if own is not None and other is not None:
        right = {"one": 1.0, "real": found.references.get("truth", {}).get(metric)}.get(MEASURES[metric].better)
        difference = difference_of(own, other, MEASURES[metric].better, figure, right, seed)
    values = np.asarray(difference.by_seed if difference else (), np.float64)
    is_known = len(values) > 0 and bool(np.isfinite(values).all())
    deviation = float(values.std(ddof=1)) if is_known and len(values) > 1 else None
    p = sign_flip_p(values) if is_known and len(values) == len(plan.ablation.seeds) else None
    detectable = None
    if deviation is not None:
        least = minimum_detectable_effect(deviation, len(values), level_of(plan))
        detectable = least if np.isfinite(least) else None
    where = (endpoint.measured, metric, figure, arm.name, arm.reference, arm.is_null)
    return Tested(*where, len(values), difference, p, None, deviation, detectable)


def deviations(plan: Plan, tests: Sequence[Tested] = ()) -> list[Deviation | None]:
    """The deviation of each endpoint: from the null arms if there are any, else from the pilot, else as it was declared.

    Args:
      plan: the ablation.
      tests: of its finished cells.

    Raises:
      UserError: the pilot cannot be read.
    """
    return [_deviation(plan, endpoint, tests) for endpoint in plan.ablation.endpoints]


def _deviation(plan: Plan, endpoint: Endpoint, tests: Sequence[Tested]) -> Deviation | None:
    key = (endpoint.measured, endpoint.metric, endpoint.figure)
    nulls = [test for test in tests if test.is_null and (test.measured, test.metric, test.figure) == key]
    by_seed = [np.asarray(test.difference.by_seed) for test in nulls if test.difference]
    found = pooled_deviation([values[np.isfinite(values)] for values in by_seed])
    if found:
        return Deviation(found[0], f"of the null arms, {found[1]} degrees of freedom")
    if plan.ablation.pilot and (found := _of_pilot(Path(plan.ablation.pilot), endpoint)):
        return Deviation(found[0], f"of the pilot {plan.ablation.pilot}, {found[1]} degrees of freedom")
    return Deviation(endpoint.deviation, "as it was declared, a guess") if endpoint.deviation else None


def _of_pilot(folder: Path, endpoint: Endpoint) -> tuple[float, int] | None:
    """Pooled over the null arms of an earlier ablation, or over all its arms where it has none."""
    file = folder / "table.json"
    lines = read_small_json(file, kind=list, limit=256 * MIB)
    try:
        of_endpoint = [
            line
            for line in lines
            if (line["metric"], line["figure"]) == (endpoint.metric, endpoint.figure) and line["difference"]
        ]
        same = [line for line in of_endpoint if line["measured"] == endpoint.measured] or of_endpoint
        nulls = [line for line in same if line.get("is_null")]
        by_seed = [np.array(line["difference"]["by_seed"], np.float64) for line in nulls or same]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"pilot: {file} is not a table of an ablation ({error!r}); name another folder") from error
    return pooled_deviation([values[np.isfinite(values)] for values in by_seed])
