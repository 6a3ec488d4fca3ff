"""The main results in sentences, and as a table for the terminal."""

from collections.abc import Mapping, Sequence

from cdcd_video.evaluation.report.score_table import tables
from cdcd_video.metrics.score_entries import (
    OF_SETS,
    SENTENCE_TITLES,
    SYSTEMS,
    find,
    formatted,
    headline,
    interval,
    right_metric,
)
from cdcd_video.metrics.scores import SETS, Score


def verdict(scores: Sequence[Score]) -> list[str]:
    """The main results in sentences: the first score with its floor and ceiling, and whether the model follows captions."""
    words = []
    entry = next((entry for entry in headline() if find(scores, "model", entry.metric, entry.group)), None)
    if entry:
        found = {system: find(scores, system, entry.metric, entry.group) for system in SYSTEMS}
        references = {"codec-ceiling": "the codec's reconstruction has {}", "copy-first": "a frozen first frame has {}"}
        beside = [text.format(formatted(found[system])) for system, text in references.items() if found[system]]
        if entry.metric in ("does_right_thing", "digit_right"):
            sentence = f"{formatted(found['model'])} of {found['model'].n} objects move as the caption says"
        else:
            title = entry.title[0].upper() + entry.title[1:]
            sentence = f"{title} is {formatted(found['model'])} over {found['model'].n} {found['model'].counted}"
        words.append("; ".join([sentence, *beside]) + ".")
    right = right_metric(scores)
    other, ignoring = (find(scores, system, right, "sentence=changed") for system in SENTENCE_TITLES)
    if other:
        ignored = f"; a model that ignores captions would have {formatted(ignoring)}" if ignoring else ""
        words.append(f"With another caption of the same image, {formatted(other)} do{ignored}.")
    for entry in (entry for entry in OF_SETS if entry.metric in ("fvd", "fid")):
        sampled, floor, frozen = (find(scores, system, entry.metric) for system in ("model", "truth", "copy-first"))
        if sampled:
            beside = f"; true videos have {formatted(floor)}" if floor else ""
            beside += f", frozen ones {formatted(frozen)}" if floor and frozen else ""
            words.append(f"{entry.title} {formatted(sampled)} on {sampled.features} features{beside}.")
    return words


def terminal_table(scores: Sequence[Score]) -> str:
    """The tables of systems as text, a line per score, a column per system, the model with its interval."""
    made = tables(scores)
    systems = [system for system in SYSTEMS if any(score.row == system for score in scores)]
    lines = [["", "n", *(f"{system} [95%]" if system == "model" else system for system in systems)]]
    for name in ("headline", "sets"):
        for line in made[name].lines if name in made else ():
            cells = [
                f"{one.value} [{one.interval}]" if system == "model" and one.interval else one.value
                for system, one in zip(systems, line.cells, strict=True)
            ]
            lines.append([line.title, line.note.split()[2], *cells])
    titles = ("other caption followed", "  if it were ignored")
    right = right_metric(scores)
    found = [find(scores, system, right, "sentence=changed") for system in SENTENCE_TITLES]
    for score, title in zip(found, titles, strict=True):
        if score and found[0]:
            lines.append([title, str(score.n), f"{formatted(score)} [{interval(score)}]", *[""] * (len(systems) - 1)])
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in lines]
    features = networks_of(scores)
    note = [f"features: {', '.join(f'{metric} {name}' for metric, name in features.items())}"] if features else []
    return "\n".join([*(text.rstrip() for text in texts), *note]) + "\n"


def networks_of(scores: Sequence[Score]) -> Mapping[str, str]:
    """The feature network of each score of whole sets."""
    found = {score.metric: score.features for score in scores if score.features}
    return {entry.metric: found[entry.metric] for entry in OF_SETS if entry.metric in found and entry.metric in SETS}
