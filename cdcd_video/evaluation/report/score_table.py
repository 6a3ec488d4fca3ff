"""The tables of scores for the HTML page, Markdown and the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from cdcd_video.metrics.score_entries import (
    OF_SETS,
    SENTENCE_TITLES,
    SYSTEMS,
    Entry,
    find,
    formatted,
    headline,
    interval,
    right_metric,
)
from cdcd_video.metrics.scores import KEPT, MEASURES, RETENTION, SLOPE, Score


@dataclass(frozen=True)
class Cell:
    """One value with its interval."""

    value: str
    interval: str = ""
    share: float | None = None
    """From 0 to 1, for cells with a bar."""
    n: int | None = None
    """Sample size, where it differs from that of the line."""


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    title: str
    cells: tuple[Cell, ...]
    meaning: str = ""
    note: str = ""
    kind: str = ""
    """A rule separates lines of different kinds."""


@dataclass(frozen=True)
class Table:
    """A table with its title and a note on how to read it."""

    title: str
    note: str
    columns: tuple[tuple[str, str], ...]
    """Name and description of each."""
    lines: tuple[Line, ...]
    main: int = 0
    """The column of the model."""


_BY_GROUP = {
    "does_right_thing": ("does_right_thing", "direction_right", "position_error", "identity_iou", "lost_share"),
    "digit_right": ("digit_right", "digit_direction", "digit_position_error", "digit_identity", "digit_lost"),
}
"""The columns of the table by group, by the score that is first: of sprites and of digits."""
_GROUP_WORDS = {
    "objects=1": "one object",
    "objects=2": "two objects",
    "ground=dark": "dark ground",
    "ground=grey": "ground between dark and light",
    "ground=light": "light ground",
    "ground=noise": "ground of coloured noise",
    "distractor=yes": "beside a still digit",
    "distractor=no": "without a still digit",
    "outline=yes": "with outline",
    "outline=no": "without outline",
}


def cell(score: Score | None, *, with_n: bool = False, with_bar: bool = False) -> Cell:
    """A score as a cell."""
    is_share = with_bar and score is not None and score.unit in ("share", "ratio")
    return Cell(
        formatted(score), interval(score), score.value if is_share else None, score.n if score and with_n else None
    )


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


_HEADLINE_NOTE = "All columns have the same first frames, captions and true videos."
_SETS_NOTE = (
    "Sets of videos against real videos of other scenes or clips, in the features of a network. The column truth is the floor:"
    " real videos against other real ones, at the same number. Such scores depend on the number of videos and on the network:"
    " compare them only under the same protocol."
)


def _by_row(scores: Sequence[Score], entries: Sequence[Entry], title: str, note: str) -> Table:
    systems = [system for system in SYSTEMS if any(score.row == system for score in scores)]
    lines = []
    for entry in entries:
        found = [find(scores, system, entry.metric, entry.group) for system in systems]
        if any(found):
            first = next(score for score in found if score)
            network = f", {first.features}" if first.features else ""
            cells = tuple(cell(score) for score in found)
            lines.append(Line(entry.title, cells, entry.meaning, f"n = {first.n} {first.counted}{network}"))
    return Table(title, note, tuple((system, SYSTEMS[system]) for system in systems), tuple(lines))


def _sentences(scores: Sequence[Score]) -> Table:
    """Whether the model follows the caption: the object whose sentence is changed, and the other one."""
    right = right_metric(scores)
    columns = {
        "changed object right": (right, "sentence=changed"),
        "right kind and sign": (_BY_GROUP[right][1], "sentence=changed"),
        "other object still right": (right, "sentence=kept"),
    }
    if right == "digit_right":
        columns["both right, motions exchanged"] = ("digits_right", "sentence=swapped")
    lines = []
    for system, title in SENTENCE_TITLES.items():
        found = [find(scores, system, *column) for column in columns.values()]
        if any(found) and any(
            score.row == "counterfactual" for score in scores
        ):  # the second line is meaningless alone
            lines.append(Line(title, tuple(cell(score, with_n=True) for score in found)))
    note = (
        "The same image with another caption, measured by that other caption. The second line measures the"
        " ordinary videos by it: the score of a model that ignores captions."
    )
    return Table("Does the model follow the caption?", note, tuple((name, "") for name in columns), tuple(lines))


def _groups(scores: Sequence[Score]) -> Table:
    """Scores of the model by number of objects, held-out kind and motion, beside those of references."""
    right = right_metric(scores)
    names = sorted({s.group for s in scores if s.metric == right and s.row == "model"})
    lines = []
    for prefix in ("all", "objects=", "size=", "heldout=", "motion=", "ground=", "outline=", "distractor="):
        for group in (name for name in names if name.startswith(prefix)):
            kind, _, name = group.partition("=")
            title = _GROUP_WORDS.get(group) or (f"held-out {name}" if kind == "heldout" else name or "all objects")
            found = [find(scores, "model", metric, group) for metric in _BY_GROUP[right]]
            others = [find(scores, system, right, group) for system in ("copy-first", "codec-ceiling")]
            cells = [cell(score, with_bar=not place) for place, score in enumerate(found)]
            cells += [Cell(formatted(score)) for score in others]
            lines.append(Line(title, (Cell(str(found[0].n)), *cells), kind=kind))
    columns = ("n", "right", "kind and sign", "position error", "identity", "lost", "right: frozen", "right: codec")
    note = (
        "Scores of the model by group. The last two columns are a frozen first frame and the codec's reconstruction in the same"
        " group. Few objects give wide intervals."
    )
    return Table("By motion", note, tuple((name, "") for name in columns), tuple(lines), main=1)


def _along(scores: Sequence[Score]) -> Table:
    """Retention, slope and frames kept of every curve of the model, beside the retention of references."""
    columns = {
        ("end / beginning", "model"): ("model", RETENTION),
        ("slope per frame", "model"): ("model", SLOPE),
        ("frames kept", "model"): ("model", KEPT),
        ("end / beginning", "codec-ceiling"): ("codec-ceiling", RETENTION),
        ("end / beginning", "truth"): ("truth", RETENTION),
    }
    lines = []
    for entry in (*headline(), *OF_SETS):
        found = [find(scores, system, f"{entry.metric}_{figure}") for system, figure in columns.values()]
        if any(found):
            loss = _loss(entry.metric)
            lines.append(Line(entry.title, tuple(map(cell, found)), note=f"loss: {loss}" if loss else ""))
    note = (
        "Beginning and end are the first and the last quarter of the frames that count, or of the windows for scores of"
        " videos. Frames kept is the first frame at which the curve is worse than its beginning by the loss of its line; a plus"
        " means that this does not happen before the end."
    )
    return Table("Along the video", note, tuple(columns), tuple(lines))


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
