"""Scores as lines of JSON, and as words: which ones come first, what they are called, how they are rounded."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.metrics.scores import Score
from cdcd_video.video import whole_file


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the headline table."""

    metric: str
    title: str
    meaning: str
    group: str = "all"


HEADLINE = (
    Line("does_right_thing", "does the right thing", "Objects that do what the sentence says and nothing else."),
    Line("direction_right", "right kind and sign", "Objects whose change is at least of the right kind and sign."),
    Line("still_right", "still when told so", 'Objects that "stay still" and really do; freezing passes this too.'),
    Line("all_right", "both objects right", "Videos of two objects in which both do the right thing.", "objects=2"),
    Line("position_error", "position error", "Distance from the true centre, over the objects that were found."),
    Line("identity_iou", "identity", "Overlap with the true shape laid over the tracked centre (IoU); 0 where lost."),
    Line(
        "background_psnr", "background PSNR", "Pixels that no object covers, against the true background; at most 60."
    ),
    Line("lost_share", "lost", "Objects not found, over objects and frames."),
    Line("psnr", "PSNR", "Whole frames against the true ones; at most 60."),
    Line("ssim", "SSIM", "Structural similarity of whole frames to the true ones."),
    Line("motion_ratio", "motion", "Mean change from frame to frame over the truth's: 1 is right, 0 is frozen."),
)
"""What is shown first, in this order, as far as it was measured."""

ROWS = {
    "model": "the model's videos",
    "copy-first": "the first frame, repeated",
    "codec-ceiling": "the true codes, decoded",
    "truth": "the true video",
}
"""The columns of the headline table, and what they are."""


def find(scores: Sequence[Score], row: str, metric: str, group: str = "all") -> Score | None:
    """One score over all frames; None where it was not measured."""
    wanted = (row, metric, group, None)
    return next((one for one in scores if (one.row, one.metric, one.group, one.frame) == wanted), None)


def shown(score: Score | None) -> str:
    """A value with its unit, rounded to what it can bear; a dash where there is none."""
    return "-" if score is None else _number(score.value, score.unit, with_unit=True)


def interval(score: Score | None) -> str:
    """The interval, as in "55 to 69"; empty where there is none."""
    if score is None or score.low is None or score.high is None:
        return ""
    return f"{_number(score.low, score.unit)} to {_number(score.high, score.unit)}"


def _number(value: float | None, unit: str, with_unit: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    if unit == "share":
        return f"{100 * value:.0f}" + ("%" if with_unit else "")
    if unit == "ratio":
        return f"{value:.2f}"
    return f"{value:.1f}" + (f" {unit}" if with_unit else "")


def terminal_table(scores: Sequence[Score]) -> str:
    """The headline scores as text: scores down, rows across, the model with its interval."""
    rows = [row for row in ROWS if any(score.row == row for score in scores)]
    lines = [["", "n", *(f"{row} [95%]" if row == "model" else row for row in rows)]]
    for line in HEADLINE:
        found = [find(scores, row, line.metric, line.group) for row in rows]
        if any(found):
            count = next(score.n for score in found if score)
            cells = [
                f"{shown(score)} [{interval(score)}]" if row == "model" and interval(score) else shown(score)
                for row, score in zip(rows, found, strict=True)
            ]
            lines.append([line.title, str(count), *cells])
    for row, title in (("counterfactual", "other sentence obeyed"), ("sentence-ignored", "  if it were ignored")):
        score = find(scores, row, "does_right_thing", "sentence=changed")
        if score:
            lines.append([title, str(score.n), f"{shown(score)} [{interval(score)}]", *[""] * (len(rows) - 1)])
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in lines]
    return "\n".join(text.rstrip() for text in texts) + "\n"


def write_scores(scores: Sequence[Score], facts: Mapping[str, Any], path: Path) -> Path:
    """Writes `scores.jsonl`, whole or not at all: a line per score, each with every fact needed to trust it.

    Args:
      scores: what was found.
      facts: what holds for all of them: data, split, seed, checkpoint, drawing settings, versions.
      path: the file.

    Returns:
      The path.

    Raises:
      UserError: the place cannot be written.
    """
    with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        for score in scores:
            file.write(json.dumps({**dataclasses.asdict(score), **facts}, allow_nan=False) + "\n")
    return path
