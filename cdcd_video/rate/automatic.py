"""Automatic scores, read from files, to be laid beside what people said."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdcd_video.data.tables import read_rows
from cdcd_video.errors import UserError
from cdcd_video.rate.study import Study


@dataclass
class Metric:
    """One automatic metric; values are turned so that more is better."""

    better: str
    """As the file says: higher, lower, or one (a ratio to the truth)."""
    videos: dict[tuple[str, str], float] = field(default_factory=dict)
    """By (system, item)."""
    systems: dict[str, float] = field(default_factory=dict)

    def of_system(self, system: str) -> float | None:
        """The system's own value, or else the mean over its videos."""
        if system in self.systems:
            return self.systems[system]
        found = [value for (of, _), value in self.videos.items() if of == system]
        return sum(found) / len(found) if found else None


def read_scores(arguments: Sequence[str], study: Study) -> dict[str, Metric]:
    """Reads automatic scores.

    Args:
      arguments: each a table with the columns system, item, metric, value and perhaps better (a value per video; without
        item, of the whole system); or NAME=scores.jsonl as `evaluate.py` writes it, whose row `model` is system NAME.
      study: what was rated.

    Returns:
      Metrics by name.

    Raises:
      UserError: a file is missing or damaged, or speaks of none of the study's systems.
    """
    metrics: dict[str, Metric] = {}
    items = {item.name for item in study.items}
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        system = name if equals and name in study.systems else None
        if equals and system is None and not Path(argument).exists():
            raise UserError(f"--scores {argument}: {name} is none of the systems ({', '.join(study.systems)})")
        path = Path(rest if system else argument)
        rows = [row.cells for row in read_rows(path, ("metric",), "scores", ("system", "item", "value", "better"))]
        used = 0
        for row in rows:
            if system is not None and row.get("system") is None:
                if not _is_whole(row):
                    continue
                row = row | {"system": system}
            value = _number(row.get("value"))
            if row.get("system") not in study.systems or value is None:
                continue
            better = str(row.get("better") or "higher")
            if better == "real":  # likeness to real videos: neither more nor less of it is better
                continue
            if better not in ("higher", "lower", "one"):
                raise UserError(f"scores {path}: better is {better!r}; it must be higher, lower or one")
            metric = metrics.setdefault(str(row["metric"]), Metric(better))
            turned = {"higher": value, "lower": -value, "one": -abs(value - 1)}[better]
            item = row.get("item") or None
            if item is None:
                metric.systems[row["system"]] = turned
            elif item in items:
                metric.videos[row["system"], item] = turned
            used += item is None or item in items
        if not used:
            raise UserError(
                f"scores {path} say nothing of this study's systems and items; rows need system"
                f" ({', '.join(study.systems)}), item, metric and value, or write --scores NAME={path.name}"
            )
    return metrics


def _is_whole(row: dict) -> bool:
    """Whether a line of `scores.jsonl` is the model's score over everything, and not of a group or a frame."""
    plain = row.get("row", "model") == "model" and row.get("group", "all") == "all"
    return plain and row.get("frame") is None and row.get("window") is None


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
