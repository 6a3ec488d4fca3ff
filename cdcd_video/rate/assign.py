"""The pages of each rater, their order and sides, randomised by the seed of the study and the name of the rater."""

import hashlib
import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cdcd_video.rate.study import NOISE, Study

Check = Literal["", "noise", "repeat"]


@dataclass(frozen=True)
class Task:
    """One page of a rater."""

    item: str
    """The name of the item."""
    systems: tuple[str, ...]
    """Systems from left to right; `NOISE` in an attention check."""
    check: Check = ""


def tasks_for(study: Study, rater: str) -> list[Task]:
    """All pages of a rater in order; deterministic for a study and a rater.

    Every system (or pair of systems) occurs equally often, as far as the number of tasks allows, and equally often on each
    side. Checks are evenly spread, with the noise equally often on each side, so that a rater who always presses the same key
    fails half of them. A repeated pair has its sides exchanged.

    Args:
      study: what is rated.
      rater: the normalised name.
    """
    digest = hashlib.sha256(f"{study.seed}/{rater}".encode()).digest()
    rng = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    combinations = list(itertools.combinations(study.systems, 2 if study.kind == "pair" else 1))
    columns = []
    for combination in combinations:
        order, sides = rng.permutation(len(study.items)), rng.permutation(len(study.items)) % 2
        columns.append(
            [
                Task(study.items[item].name, combination[:: 1 - 2 * int(side)])
                for item, side in zip(order, sides, strict=True)
            ]
        )
    rounds = [[column[number] for column in columns] for number in range(len(study.items))]
    tasks = [one[place] for one in rounds for place in rng.permutation(len(one))][: study.tasks_per_rater]
    return _with_checks(_with_repeats(tasks, study.repeats, rng), _checks(study, rng), rng)


def _checks(study: Study, rng: np.random.Generator) -> list[Task]:
    able = [item for item in study.items if item.noise]
    if study.kind == "single":
        return [Task(able[place].name, (NOISE,), "noise") for place in rng.permutation(len(able))]
    sides = rng.permutation(len(able)) % 2
    tasks = []
    for place, side in zip(rng.permutation(len(able)), sides, strict=True):
        system = study.systems[rng.integers(len(study.systems))]
        tasks.append(Task(able[place].name, (system, NOISE)[:: 1 - 2 * int(side)], "noise"))
    return tasks


def _with_repeats(tasks: list[Task], count: int, rng: np.random.Generator) -> list[Task]:
    """Repeats tasks of the first half, sides exchanged, at random places in the second half."""
    half = len(tasks) // 2
    chosen = rng.permutation(half)[: min(count, half)]
    again = [Task(tasks[place].item, tasks[place].systems[::-1], "repeat") for place in chosen]
    return _spread(tasks, again, half + rng.random(len(again)) * (len(tasks) - half))


def _with_checks(tasks: list[Task], checks: list[Task], rng: np.random.Generator) -> list[Task]:
    places = (np.arange(len(checks)) + rng.random(len(checks))) * len(tasks) / max(len(checks), 1)
    return _spread(tasks, checks, np.maximum(places, 1))  # the first page is not a check


def _spread(tasks: list[Task], more: list[Task], places: np.ndarray) -> list[Task]:
    """Inserts `more` into `tasks`: each before the task whose number is at or after its place."""
    keyed = [(float(number), task) for number, task in enumerate(tasks)]
    keyed += [(float(place) - 0.5, task) for place, task in zip(np.ceil(places), more, strict=True)]
    return [task for _, task in sorted(keyed, key=lambda pair: pair[0])]
