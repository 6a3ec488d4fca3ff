"""What was found, in words and as text for a terminal."""

from collections.abc import Mapping, Sequence

from cdcd_video.evaluation.report.score_entries import (
    OF_SETS,
    SENTENCE_TITLES,
    SYSTEMS,
    find,
    headline,
    interval,
    shown,
)
from cdcd_video.evaluation.report.score_table import tables
from cdcd_video.metrics.scores import SETS, Score


def verdict(scores: Sequence[Score]) -> list[str]:
    """What was found, in words: the model's first score between its floor and its ceiling, and whether it reads."""
    words = []
    entry = next((entry for entry in headline() if find(scores, "model", entry.metric, entry.group)), None)
    if entry:
        found = {row: find(scores, row, entry.metric, entry.group) for row in SYSTEMS}
        if entry.metric == "does_right_thing":
            words.append(f"{shown(found['model'])} of {found['model'].n} objects do what the sentence says.")
            references = {
                "codec-ceiling": "The codec alone would show {}",
                "copy-first": "a frozen first frame earns {}",
            }
        else:
            words.append(f"{entry.title} {shown(found['model'])} over {found['model'].n} {found['model'].counted}.")
            references = {"codec-ceiling": "The codec alone reaches {}", "copy-first": "a frozen first frame {}"}
        told = [text.format(shown(found[row])) for row, text in references.items() if found[row]]
        words += [", ".join(told) + "."] if told else []
    other, deaf = (find(scores, row, "does_right_thing", "sentence=changed") for row in SENTENCE_TITLES)
    if other:
        ignored = f", against {shown(deaf)} if it did not read it" if deaf else ""
        words.append(f"With another sentence for the same image it obeys in {shown(other)}{ignored}.")
    for entry in (entry for entry in OF_SETS if entry.metric in ("fvd", "fid")):
        drawn, floor, frozen = (find(scores, row, entry.metric) for row in ("model", "truth", "copy-first"))
        if drawn:
            least = f", where the true videos are at {shown(floor)}" if floor else ""
            least += f" and frozen ones at {shown(frozen)}" if floor and frozen else ""
            words.append(f"{entry.title} {shown(drawn)} on {drawn.features} features{least}.")
    return words


def terminal_table(scores: Sequence[Score]) -> str:
    """Both tables of rows as text: scores down, rows across, the model with its interval."""
    made = tables(scores)
    rows = [row for row in SYSTEMS if any(score.row == row for score in scores)]
    lines = [["", "n", *(f"{row} [95%]" if row == "model" else row for row in rows)]]
    for name in ("headline", "sets"):
        for line in made[name].lines if name in made else ():
            cells = [
                f"{one.value} [{one.interval}]" if row == "model" and one.interval else one.value
                for row, one in zip(rows, line.cells, strict=True)
            ]
            lines.append([line.title, line.note.split()[2], *cells])
    titles = ("other sentence obeyed", "  if it were ignored")
    found = [find(scores, row, "does_right_thing", "sentence=changed") for row in SENTENCE_TITLES]
    for score, title in zip(found, titles, strict=True):
        if score and found[0]:
            lines.append([title, str(score.n), f"{shown(score)} [{interval(score)}]", *[""] * (len(rows) - 1)])
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in lines]
    features = networks_of(scores)
    told = [f"features: {', '.join(f'{metric} {name}' for metric, name in features.items())}"] if features else []
    return "\n".join([*(text.rstrip() for text in texts), *told]) + "\n"


def networks_of(scores: Sequence[Score]) -> Mapping[str, str]:
    """The network behind each score of whole sets."""
    found = {score.metric: score.features for score in scores if score.features}
    return {entry.metric: found[entry.metric] for entry in OF_SETS if entry.metric in found and entry.metric in SETS}
