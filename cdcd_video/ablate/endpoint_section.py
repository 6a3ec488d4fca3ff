"""Endpoints: the few scores that an ablation tests, declared in its file before anything is trained. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from cdcd_video.config import Section
from cdcd_video.metrics.scores import MEASURES, METRICS

LEVEL = 0.05
"""Probability that any of the declared tests rejects where nothing differs (Holm 1979)."""
Positive = Annotated[float, Field(gt=0.0)]


class Endpoint(Section):
    """One score that is tested in every arm."""

    measured: str
    """The evaluation that measures it."""
    metric: str
    """The score, such as position_error."""
    figure: Literal["whole", "last", "end", "slope"] = "whole"
    """Of the whole video; of its last frame or last quarter; or the slope along it, per frame."""
    effect: Positive | None = None
    """The smallest difference that would matter, in the unit of the score (a share from 0 to 1): how many bases find it is
    reported."""
    deviation: Positive | None = None
    """What is believed of the standard deviation of paired differences, where neither null arms nor a pilot tell."""


def checked_endpoints(endpoints: Sequence[Endpoint], metrics: Mapping[str, Sequence[str]]) -> None:
    """Checks endpoints against what is measured.

    Args:
      endpoints: in the order of the file.
      metrics: those of every evaluation.

    Raises:
      ValueError: an endpoint is not measured, or has no such figure, or the first one is a share.
    """
    seen = set()
    for endpoint in endpoints:
        name, key = endpoint.metric, (endpoint.measured, endpoint.metric, endpoint.figure)
        if endpoint.measured not in metrics:
            raise ValueError(f"the endpoint {name} is of {endpoint.measured!r}, which is not in measured")
        known = [metric for metric in metrics[endpoint.measured] if metric in METRICS]
        scores = {score for metric in known for score in METRICS[metric].scores if not METRICS[metric].of_sets}
        if len(known) == len(metrics[endpoint.measured]) and name not in scores:
            raise ValueError(
                f"the endpoint {name} is not measured for each video by the metrics of {endpoint.measured}"
            )
        if name in scores and endpoint.figure != "whole" and MEASURES[name].loss is None:
            raise ValueError(f"the endpoint {name} has no curve along the video; leave out figure: {endpoint.figure}")
        if key in seen:
            raise ValueError(f"the endpoint {name} is declared twice")
        seen.add(key)
    first = endpoints[0] if endpoints else None
    if first and first.metric in MEASURES and MEASURES[first.metric].unit == "share":
        raise ValueError(
            f"the first endpoint is {first.metric}, a share of yes and no; begin with a continuous score, which finds smaller"
            " effects, such as position_error or caption_margin"
        )
