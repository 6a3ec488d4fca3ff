"""Scores as tables, which every page is made from."""

from collections.abc import Sequence
from dataclasses import dataclass

from cdcd_video.evaluation.report.score_entries import (
    OF_SETS,
    SENTENCE_TITLES,
    SYSTEMS,
    Entry,
    find,
    headline,
    interval,
    shown,
)
from cdcd_video.metrics.scores import KEPT, MEASURES, RETENTION, SLOPE, Score


@dataclass(frozen=True)
class Cell:
    """One value with its interval."""

    value: str
    interval: str = ""
    share: float | None = None
    """From 0 to 1, where a bar is drawn."""
    n: int | None = None
    """Where it is not the line's."""


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    title: str
    cells: tuple[Cell, ...]
    meaning: str = ""
    note: str = ""
    kind: str = ""
    """Lines of another kind than the one above are set apart."""


@dataclass(frozen=True)
class Table:
    """A table with its title and what must be known to read it."""

    title: str
    note: str
    columns: tuple[tuple[str, str], ...]
    """What each is called, and what it is."""
    lines: tuple[Line, ...]
    main: int = 0
    """The column that is about the model."""


_BY_GROUP = ("does_right_thing", "direction_right", "position_error", "identity_iou", "lost_share")
_GROUP_WORDS = {"objects=1": "one object", "objects=2": "two objects"}


def cell(score: Score | None, *, with_n: bool = False, with_bar: bool = False) -> Cell:
    """A score as a cell."""
    is_share = with_bar and score is not None and score.unit in ("share", "ratio")
    return Cell(shown(score), interval(score), score.value if is_share else None, score.n if score and with_n else None)


# Tables -----------------------------------------------------------------------------------------------------------


def tables(scores: Sequence[Score]) -> dict[str, Table]:
    """Every table that has a line, by its place on the page."""
    made = {
        "headline": _by_row(scores, headline(), "Scores", _HEADLINE_NOTE),
        "sets": _by_row(scores, OF_SETS, "Sets of videos", _SETS_NOTE),
        "sentences": _sentences(scores),
        "groups": _groups(scores),
        "along": _along(scores),
    }
    return {name: table for name, table in made.items() if table.lines}


_HEADLINE_NOTE = "Every column is measured on the same first frames, sentences and truths."
_SETS_NOTE = (
    "Whole sets against real videos of other scenes or clips, as a network sees them. The column truth is the floor: real"
    " videos against other real ones, at the same number; less than that is not to be had. Such scores depend on how many"
    " videos there are and on the network: never compare them with others."
)


def _by_row(scores: Sequence[Score], entries: Sequence[Entry], title: str, note: str) -> Table:
    rows = [row for row in SYSTEMS if any(score.row == row for score in scores)]
    lines = []
    for entry in entries:
        found = [find(scores, row, entry.metric, entry.group) for row in rows]
        if any(found):
            first = next(score for score in found if score)
            seen_by = f", {first.features}" if first.features else ""
            cells = tuple(cell(score) for score in found)
            lines.append(Line(entry.title, cells, entry.meaning, f"n = {first.n} {first.counted}{seen_by}"))
    return Table(title, note, tuple((row, SYSTEMS[row]) for row in rows), tuple(lines))


def _sentences(scores: Sequence[Score]) -> Table:
    """The two rows that ask whether the sentence is read, for the object it changes and for the one it does not."""
    columns = {
        "changed object right": ("does_right_thing", "sentence=changed"),
        "right kind and sign": ("direction_right", "sentence=changed"),
        "other object still right": ("does_right_thing", "sentence=kept"),
    }
    lines = []
    for row, title in SENTENCE_TITLES.items():
        found = [find(scores, row, *column) for column in columns.values()]
        if any(found) and any(score.row == "counterfactual" for score in scores):  # the second line means nothing alone
            lines.append(Line(title, tuple(cell(score, with_n=True) for score in found)))
    note = (
        "The same image with another sentence about one object, judged by that other sentence. The second line judges the"
        " ordinary videos by it: what a model that does not read would earn."
    )
    return Table("Is the sentence read?", note, tuple((name, "") for name in columns), tuple(lines))


def _groups(scores: Sequence[Score]) -> Table:
    """The model's scores by number of objects, held-out kind and motion, beside what the references get right."""
    names = sorted({s.group for s in scores if s.metric == "does_right_thing" and s.row == "model"})
    lines = []
    for prefix in ("all", "objects=", "heldout=", "motion="):
        for group in (name for name in names if name.startswith(prefix)):
            kind, _, name = group.partition("=")
            title = _GROUP_WORDS.get(group) or (f"held-out {name}" if kind == "heldout" else name or "all objects")
            found = [find(scores, "model", metric, group) for metric in _BY_GROUP]
            others = [find(scores, row, "does_right_thing", group) for row in ("copy-first", "codec-ceiling")]
            cells = [cell(score, with_bar=not place) for place, score in enumerate(found)]
            cells += [Cell(shown(score)) for score in others]
            lines.append(Line(title, (Cell(str(found[0].n)), *cells), kind=kind))
    columns = ("n", "right", "kind and sign", "position error", "identity", "lost", "frozen right", "codec right")
    note = (
        "The model's scores, with what freezing and the codec alone get right in the same group. Few objects mean wide"
        " intervals."
    )
    return Table("By motion", note, tuple((name, "") for name in columns), tuple(lines), main=1)


def _along(scores: Sequence[Score]) -> Table:
    """Retention, slope and frames kept of every curve of the model, beside the references' retention."""
    columns = {
        ("end / beginning", "model"): ("model", RETENTION),
        ("per frame", "model"): ("model", SLOPE),
        ("frames kept", "model"): ("model", KEPT),
        ("end / beginning", "codec-ceiling"): ("codec-ceiling", RETENTION),
        ("end / beginning", "truth"): ("truth", RETENTION),
    }
    lines = []
    for entry in (*headline(), *OF_SETS):
        found = [find(scores, row, f"{entry.metric}_{figure}") for row, figure in columns.values()]
        if any(found):
            loss = _loss(entry.metric)
            lines.append(Line(entry.title, tuple(map(cell, found)), note=f"lost: {loss}" if loss else ""))
    note = (
        "Beginning and end are the first and the last quarter of the frames that count (of the windows, for scores of"
        " videos; of shorter ones where one window holds all of a video). Frames kept says when the curve first is farther"
        " from its beginning than the loss named; a plus: not before the video ended."
    )
    return Table("From beginning to end", note, tuple(columns), tuple(lines))


def _loss(metric: str) -> str:
    measure = MEASURES[metric]
    if measure.loss is None:
        return ""
    sign = {"higher": "-", "lower": "+"}.get(measure.better, "+/-")
    if measure.is_relative:
        return f"{sign}{100 * measure.loss:.0f}%"
    if measure.unit == "share":
        return f"{sign}{100 * measure.loss:.0f} points"
    return f"{sign}{measure.loss:g}" + (
        f" {measure.unit}" if measure.unit not in ("ratio", "cosine", "distance") else ""
    )
