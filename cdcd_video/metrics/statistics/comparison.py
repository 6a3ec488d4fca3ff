"""Compares saved evaluations: the scores of several systems, their differences, and tests of these."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cdcd_video.config.wording import command_name
from cdcd_video.errors import UserError
from cdcd_video.metrics.scores import KEPT, RETENTION, SLOPE
from cdcd_video.metrics.statistics import paired
from cdcd_video.metrics.statistics.saved_evaluation import Evaluated, check_alike, number, read

COMPARED = (("model", "all"), ("counterfactual", "sentence=changed"))
"""Values of `row` and `group` that get a line."""
OF_LATENTS = ("space=", "fps=")
"""Prefixes of groups of latent-space scores; those of `model` get a line each."""
REFERENCES = ("truth", "copy-first", "codec-ceiling", "oracle-cross-fade")
"""References beside the systems: true videos, a frozen first frame, the reconstruction of the codec, an oracle."""
_LATENT_NAME = {"truth": "real"}
"""In the latent space the true videos are encoded by the codec, and called so."""
LEVEL = 0.05

How = Literal["paired", "unpaired", "intervals"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One score of one system."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    per_frame: tuple[tuple[float, float], ...] = ()
    """(frame, or middle of the window, and value) along the video."""
    is_at_least: bool = False
    """Whether the value is only a lower bound."""


@dataclasses.dataclass(frozen=True)
class Test:
    """Two systems on one line."""

    first: str
    second: str
    how: How
    """`paired`: over the same videos. `unpaired`: each over its own videos. `intervals`: the score is of whole sets, or its
    videos were not saved, so only the intervals of the scores can be compared."""
    difference: float | None
    """First minus second, of distances to the right value where there is one."""
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    """p adjusted for all tests of the comparison (Holm 1979)."""
    n: int
    is_parted: bool
    """Whether the interval of the difference excludes 0, and p_holm, where there is one, is below 0.05. For `intervals`:
    whether the two intervals do not overlap."""

    @property
    def is_significant(self) -> bool:
        """The one rule for bold: a test was possible, its interval excludes 0, and p_holm is below 0.05."""
        return self.is_parted and self.p_holm is not None


@dataclasses.dataclass(frozen=True)
class Line:
    """One score of all systems."""

    metric: str
    row: str
    unit: str
    better: str
    """`higher`, `lower`, `one` where 1 is right, `real` where what true videos score is right."""
    right: float | None
    """The value that is right, for the last two."""
    counted: str
    features: str | None
    """The feature network, for scores that need one."""
    cells: Mapping[str, Cell]
    """By system; one that did not measure this score is missing."""
    references: Mapping[str, Mapping[str, Cell]]
    """By reference, then by system."""
    tests: tuple[Test, ...]
    best: str | None
    """The system that is significantly better than every other one, if any."""
    note: str = ""
    group: str = "all"
    """The videos, objects, space or frame rate that the score is of."""

    @property
    def is_undecided(self) -> bool:
        """Whether systems differ significantly, but the right value is unknown, so that none of them is better."""
        return self.better == "real" and self.right is None and any(test.is_significant for test in self.tests)

    @property
    def is_latent(self) -> bool:
        """Whether this is a score of the latent space."""
        return self.group.startswith(OF_LATENTS)

    @property
    def is_along(self) -> bool:
        """Whether this summarises a curve along the video, such as its slope."""
        return self.metric.endswith((f"_{RETENTION}", f"_{SLOPE}", f"_{KEPT}"))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The content of `evaluation.report.comparison_page`."""

    systems: tuple[str, ...]
    folders: Mapping[str, str]
    protocol: Mapping[str, Any]
    protocol_hash: str | None
    lines: tuple[Line, ...]
    num_tests: int
    """Number of p-values that were adjusted together."""
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Folders that cannot be read, with the reason."""

    @property
    def is_too_small(self) -> bool:
        """Whether no difference could be significant, however large: not even the smallest possible p of the largest test."""
        counts = [test.n for line in self.lines for test in line.tests if test.p is not None]
        return bool(counts) and paired.least_p(max(counts)) * self.num_tests >= LEVEL

    @property
    def least_videos(self) -> int | None:
        """The number of videos from which on a difference can be significant; None where no number is enough."""
        enough = (n for n in range(1, paired.EXACT_UP_TO + 1) if paired.least_p(n) * self.num_tests < LEVEL)
        return next(enough, None)


def compare(folders: Sequence[Path | str], seed: int = 0) -> Comparison:
    """Compares evaluations.

    Args:
      folders: two or more that `evaluate.py` wrote.
      seed: of the bootstrap.

    Returns:
      A line per score, in the order of the first evaluation.

    Raises:
      UserError: fewer than two folders have an evaluation, or two have different protocols.
    """
    places = [Path(folder) for folder in folders]
    if len(places) < 2 or len({place.resolve() for place in places}) < len(places):
        called = command_name("evaluate")
        raise UserError(f"a comparison needs two or more different folders: {called} --compare DIR DIR ...")
    found: dict[Path, Evaluated] = {}
    left_out: dict[str, str] = {}
    for place in places:
        try:
            found[place] = read(place)
        except UserError as error:
            left_out[str(place)] = str(error)
    if len(found) < 2:
        raise UserError("; ".join(left_out.values()))
    runs = dict(zip(_names(list(found)), found.values(), strict=True))
    first, *others = runs.values()
    for other in others:
        check_alike(first, other)
    keys = dict.fromkeys(key for run in runs.values() for key in _keys(run))
    lines = [_line(runs, *key, seed) for key in keys]
    adjusted = paired.holm([test.p for line in lines for test in line.tests])
    places_of = iter(adjusted)
    lines = [_with_adjusted(line, [next(places_of) for _ in line.tests]) for line in lines]
    return Comparison(
        systems=tuple(runs),
        folders={name: str(run.folder) for name, run in runs.items()},
        protocol=first.protocol,
        protocol_hash=first.protocol_hash,
        lines=tuple(lines),
        num_tests=sum(p is not None for p in adjusted),
        left_out=left_out,
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """The last names of the folders, with as many parents as needed to be unique."""
    parts = [folder.resolve().parts[1:] or ("",) for folder in folders]
    names = ["/".join(own) for own in parts]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-depth:]) for own in parts]
        if len(set(names)) == len(names):
            break
    return names


def _keys(run: Evaluated) -> Iterator[tuple[str, str, str, str | None]]:
    """Row, group, metric and network of each line: first `COMPARED`, then the latent space, metrics in file order."""
    whole = [score for score in run.scores if _is_whole(score)]
    groups = dict.fromkeys(score.get("group", "all") for score in whole if score["row"] == "model")
    latent = [("model", group) for group in groups if group.startswith(OF_LATENTS)]
    for row, group in (*COMPARED, *latent):
        for score in whole:
            if (score["row"], score.get("group", "all")) == (row, group):
                yield row, group, score["metric"], score.get("features")


def _is_whole(score: Mapping[str, Any]) -> bool:
    return score.get("frame") is None and score.get("window") is None


def _line(runs: Mapping[str, Evaluated], row: str, group: str, metric: str, features: str | None, seed: int) -> Line:
    cells = {name: cell for name, run in runs.items() if (cell := _cell(run, row, group, metric, features))}
    references = {}
    for reference in REFERENCES:
        called = _LATENT_NAME.get(reference, reference) if group.startswith(OF_LATENTS) else reference
        found = {name: _cell(run, called, group, metric, features) for name, run in runs.items()}
        if any(found.values()):
            references[reference] = {name: cell for name, cell in found.items() if cell}
    first = next(score for run in runs.values() for score in run.by_key.get((row, group, metric, features), ()))
    is_of_videos = (row, group) == ("model", "all")
    sums = {name: runs[name].videos.get(metric) for name in cells} if is_of_videos else {}
    kept = {name: videos for name, videos in sums.items() if videos}
    better = str(first.get("better", ""))
    right = _right(better, references)
    tests = tuple(_test(pair, cells, kept, right, seed) for pair in itertools.combinations(cells, 2))
    return Line(
        metric=metric,
        row=row,
        unit=str(first.get("unit", "")),
        better=better,
        right=right,
        counted=str(first.get("counted", "")),
        features=features,
        cells=cells,
        references=references,
        tests=tests,
        best=None,
        note=_note(cells, kept),
        group=group,
    )


def _cell(run: Evaluated, row: str, group: str, metric: str, features: str | None) -> Cell | None:
    matching = run.by_key.get((row, group, metric, features), ())
    whole = next(filter(_is_whole, matching), None)
    if whole is None:
        return None
    along = [(_place(score), number(score.get("value"))) for score in matching if not _is_whole(score)]
    curve = tuple(sorted((place, value) for place, value in along if place is not None and value is not None))
    value, low, high = (number(whole.get(name)) for name in ("value", "low", "high"))
    return Cell(
        value, low, high, n=int(whole.get("n") or 0), per_frame=curve, is_at_least=bool(whole.get("is_at_least"))
    )


def _place(score: Mapping[str, Any]) -> float | None:
    """The frame, or the middle of the window [first, last]."""
    window = score.get("window")
    if isinstance(window, list) and len(window) == 2:
        return sum(window) / 2
    return number(score.get("frame"))


def _note(cells: Mapping[str, Cell], kept: Mapping[str, Any]) -> str:
    counts = {cell.n for cell in cells.values()}
    if len(counts) > 1 and not kept:
        return "measured on different numbers of samples, which affects this score: do not compare"
    return ""


def _right(better: str, references: Mapping[str, Mapping[str, Cell]]) -> float | None:
    true = next(iter(references.get("truth", {}).values()), None)
    return {"one": 1.0, "real": true.value if true else None}.get(better)


def _test(
    pair: tuple[str, str],
    cells: Mapping[str, Cell],
    kept: Mapping[str, Mapping[str, tuple[float, float]]],
    right: float | None,
    seed: int,
) -> Test:
    if all(name in kept for name in pair):
        videos = [kept[name] for name in pair]
        is_paired = videos[0].keys() == videos[1].keys()
        sums = [np.array([own[video] for video in sorted(own)]) for own in videos]
        found = (paired.paired if is_paired else paired.unpaired)(sums[0], sums[1], right, seed)
        excludes = found.low is not None and (found.low > 0 or found.high < 0)
        how: How = "paired" if is_paired else "unpaired"
        return Test(*pair, how, found.value, found.low, found.high, found.p, None, found.n, excludes)
    own = [cells[name] for name in pair]
    difference = None
    if None not in (own[0].value, own[1].value):
        values = paired.cost(np.array([cell.value for cell in own]), right)
        difference = float(values[0] - values[1])
    ends = [_ends(cell, right) for cell in own]
    parted = None not in ends and (ends[0][0] > ends[1][1] or ends[0][1] < ends[1][0])
    is_parted = parted and own[0].n == own[1].n
    return Test(*pair, "intervals", difference, None, None, None, None, min(cell.n for cell in own), is_parted)


def _ends(cell: Cell, right: float | None) -> tuple[float, float] | None:
    """The interval of the score, or of its distance to the right value where there is one."""
    if cell.low is None or cell.high is None:
        return None
    low, high = sorted(paired.cost(np.array([cell.low, cell.high]), right).tolist())
    return (0.0, high) if right is not None and cell.low <= right <= cell.high else (low, high)


def _with_adjusted(line: Line, adjusted: Sequence[float | None]) -> Line:
    """The line with its adjusted p-values, and the best system where there is one."""
    tests = tuple(
        dataclasses.replace(test, p_holm=p, is_parted=test.is_parted and (p is None or p < LEVEL))
        for test, p in zip(line.tests, adjusted, strict=True)
    )
    sign = 1 if line.better == "higher" else -1 if line.better == "lower" or line.right is not None else 0
    wins = dict.fromkeys(line.cells, 0)
    for test in tests:
        if test.is_significant and test.difference and sign:
            wins[test.first if test.difference * sign > 0 else test.second] += 1
    best = next((name for name, won in wins.items() if won and won == len(line.cells) - 1), None)
    return dataclasses.replace(line, tests=tests, best=best)
