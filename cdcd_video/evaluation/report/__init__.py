"""The output of an evaluation: JSON lines, a table for the terminal, an HTML page, and Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.evaluation.report import latent_page
from cdcd_video.evaluation.report.html_page import write_report
from cdcd_video.evaluation.report.markdown import write_markdown
from cdcd_video.evaluation.report.saved_previews import FILE, write_previews
from cdcd_video.evaluation.report.score_files import write_cost, write_protocol, write_scores, write_videos
from cdcd_video.evaluation.report.summary_text import terminal_table
from cdcd_video.metrics.latent.latent_study import LatentStudy
from cdcd_video.metrics.protocol import SettledProtocol
from cdcd_video.metrics.statistics.saved_evaluation import COST
from cdcd_video.metrics.suite import Evaluation

__all__ = ["terminal_table", "write", "write_markdown", "write_report", "write_scores"]


def write(
    found: Evaluation,
    settled: SettledProtocol,
    facts: Mapping[str, Any],
    folder: Path,
    *,
    notes: Sequence[str] = (),
    cost: Mapping[str, Any] | None = None,
    study: LatentStudy | None = None,
) -> list[Path]:
    """Writes `scores.jsonl`, `per_video.jsonl`, `protocol.yaml`, `previews.json`, `cost.json`, `report.md` and `report.html`.

    Files of an earlier evaluation are replaced.

    Args:
      found: the result of the evaluation.
      settled: the protocol.
      facts: common to all scores: data, split, seed, checkpoint, model_sha256, drawing, versions.
      folder: output folder.
      notes: notes at the top of the report, one sentence each.
      cost: command, commit, machine and seconds. They differ between runs, so they are not with the scores.
      study: of the latent space; its scores and plots are added to the others.

    Returns:
      The paths.

    Raises:
      UserError: the place cannot be written.
    """
    cost = dict(cost or {}) | ({"seconds for the latent space": study.seconds} if study else {})
    report: dict[str, Any] = {"facts": facts, "settled": settled, "notes": notes, "cost": cost}
    of_latents = study.scores if study else ()
    fragments = {"The latent space": latent_page.fragment(study, level=3)} if study else {}
    return [
        write_scores([*found.scores, *of_latents], facts, folder / "scores.jsonl"),
        write_videos(found.videos, folder / "per_video.jsonl"),
        write_protocol(settled, folder / "protocol.yaml"),
        write_previews(found.examples, settled.protocol.rate, folder / FILE),
        write_cost(cost, folder / COST),
        write_markdown(found.scores, folder / "report.md", of_latents=of_latents, **report),
        write_report(found.scores, found.examples, folder / "report.html", fragments=fragments, **report),
    ]
