"""The videos that a report shows: the first ones, the best and the worst."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from cdcd_video.metrics.measurements import Measurement
from cdcd_video.metrics.scores import MEASURES, METRICS

NUM_EXTREMES = 3
"""How many of the best, and how many of the worst."""
CASE_METRICS = ("psnr", "identity_iou", "ssim", "lpips", "clip_text")
"""Best and worst are chosen by the first of these metrics that was measured."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One video of every system, for a report."""

    captions: dict[str, str]
    """The caption of each system that was sampled."""
    videos: dict[str, UInt8[np.ndarray, "F H W 3"]]
    name: str = ""
    kind: str = ""
    """`best` or `worst`; empty for the first videos, which were not chosen."""
    measured: tuple[str, float] | None = None
    """The metric by which it is the best or the worst, and its value."""


class ExampleStore:
    """Chooses examples among videos that are offered in the order of their numbers.

    Args:
      num_first: how many of the first.
      metrics: the metrics of the evaluation.
      first_counted: first frame that counts.
    """

    def __init__(self, num_first: int, metrics: Sequence[str], first_counted: int):
        names = {name for metric in metrics for name in METRICS[metric].scores}
        self.metric = next((name for name in CASE_METRICS if name in names), None)
        self._num_first, self._first_counted = num_first, first_counted
        self._first: list[tuple[int, Example]] = []
        self._ends: dict[str, list[tuple[float, int, Example]]] = {"best": [], "worst": []}
        self._num = 0

    def offer(self, number: int, example: Example, measured: Sequence[Measurement]) -> None:
        """Keeps a copy of a video if it is among the first, the best or the worst."""
        self._num += 1
        if len(self._first) < self._num_first:
            self._first.append((number, _copied(example)))
        value = self._value(measured)
        if value is None:
            return
        sign = 1 if MEASURES[self.metric].better == "lower" else -1
        for kind, turn in (("best", sign), ("worst", -sign)):
            kept = self._ends[kind]
            if len(kept) < NUM_EXTREMES or turn * value < kept[-1][0]:
                chosen = dataclasses.replace(_copied(example), kind=kind, measured=(self.metric, value))
                kept.append((turn * value, number, chosen))
                kept.sort(key=lambda entry: entry[0])
                del kept[NUM_EXTREMES:]

    def candidates(self) -> dict[int, Example]:
        """All videos that are kept, by number and as they were offered."""
        found = [*self._first, *((number, example) for kept in self._ends.values() for _, number, example in kept)]
        return {number: dataclasses.replace(example, kind="", measured=None) for number, example in found}

    def choose_again(self, candidates: Mapping[int, Example], measured: Mapping[int, Sequence[Measurement]]) -> None:
        """Chooses again among the candidates of several processes.

        Args:
          candidates: of all processes.
          measured: the measurements of every video, kept or not.
        """
        self._first, self._ends = [], {"best": [], "worst": []}
        for number in sorted(candidates):
            self.offer(number, candidates[number], measured[number])
        self._num = len(measured)

    def examples(self) -> list[Example]:
        """All examples; best and worst only where there are more videos than are shown anyway."""
        first = [example for _, example in self._first]
        if self._num <= max(self._num_first, 2 * NUM_EXTREMES):
            return first
        return first + [example for kept in self._ends.values() for _, _, example in kept]

    def _value(self, measured: Sequence[Measurement]) -> float | None:
        ones = [one for one in measured if one.metric == self.metric]
        total, weight = (
            (
                sum(float(np.nansum(side[self._first_counted if len(side) > 1 else 0 :])) for side in sides)
                for sides in zip(*((one.total, one.weight) for one in ones), strict=True)
            )
            if ones
            else (0.0, 0.0)
        )
        return total / weight if weight else None


def _copied(example: Example) -> Example:
    return dataclasses.replace(example, videos={system: frames.copy() for system, frames in example.videos.items()})
