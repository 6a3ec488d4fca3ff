"""Reads automatic scores, to be correlated with the ratings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cdcd_video.data.tables import read_rows
from cdcd_video.errors import UserError
from cdcd_video.rate.study import Study


@dataclass
class Metric:
    """One automatic metric; values are signed so that higher is better."""

    better: str
    """The direction in the file: higher, lower, or one (a ratio to the true video)."""
    videos: dict[tuple[str, str], float] = field(default_factory=dict)
    """By (system, item)."""
    systems: dict[str, float] = field(default_factory=dict)

    def of_system(self, system: str) -> float | None:
        """The value of the system, or else the mean over its videos."""
        if system in self.systems:
            return self.systems[system]
        found = [value for (of, _), value in self.videos.items() if of == system]
        return sum(found) / len(found) if found else None


def read_scores(arguments: Sequence[str], study: Study) -> dict[str, Metric]:
    """Reads automatic scores.

    Args:
      arguments: each a table with the columns system, item, metric, value and optionally better (one value per video, or
        without item one per system); or NAME=scores.jsonl of `evaluate.py`, whose `model` is the system NAME.
      study: the study.

    Returns:
      Metrics by name.

    Raises:
      UserError: a file is missing or damaged, or has no system of the study.
    """
    metrics: dict[str, Metric] = {}
    items = {item.name for item in study.items}
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        system = name if equals and name in study.systems else None
        if equals and system is None and not Path(argument).exists():
            raise UserError(
                f"--scores {argument}: {name} is not a system of the study; choose from {', '.join(study.systems)}"
            )
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
            if better == "real":  # the value of real videos is right, so neither higher nor lower is better
                continue
            if better not in ("higher", "lower", "one"):
                raise UserError(f"scores {path}: better is {better!r}; it must be higher, lower, one or real")
            metric = metrics.setdefault(str(row["metric"]), Metric(better))
            signed = {"higher": value, "lower": -value, "one": -abs(value - 1)}[better]
            item = row.get("item") or None
            if item is None:
                metric.systems[row["system"]] = signed
            elif item in items:
                metric.videos[row["system"], item] = signed
            used += item is None or item in items
        if not used:
            raise UserError(
                f"scores {path} have no system and item of this study; rows need system ({', '.join(study.systems)}), item,"
                f" metric and value, or write --scores NAME={path.name}"
            )
    return metrics


def _is_whole(row: dict) -> bool:
    """Whether a line of `scores.jsonl` is the score of the model over all videos, not of a group or a frame."""
    plain = row.get("row", "model") == "model" and row.get("group", "all") == "all"
    return plain and row.get("frame") is None and row.get("window") is None


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
