"""What people and programs read after an evaluation: `scores.jsonl`, a table for the terminal, one page of HTML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdcd_video.metrics.suite import Evaluation
from cdcd_video.report.html import write_report
from cdcd_video.report.table import terminal_table, write_scores

__all__ = ["terminal_table", "write", "write_report", "write_scores"]


def write(found: Evaluation, facts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes `scores.jsonl` and `report.html`; files of an earlier evaluation are replaced.

    Args:
      found: what was measured.
      facts: what holds for every score: data, split, seed, checkpoint, model_sha256, drawing, versions.
      folder: where to.

    Returns:
      The two paths.

    Raises:
      UserError: the place cannot be written.
    """
    return [
        write_scores(found.scores, facts, folder / "scores.jsonl"),
        write_report(found.scores, found.examples, facts, folder / "report.html"),
    ]
