"""What people and programs read after an evaluation: lines of JSON, a table for the terminal, a page, and Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.evaluation.report import latent_page
from cdcd_video.evaluation.report.html_page import write_report
from cdcd_video.evaluation.report.markdown import write_markdown
from cdcd_video.evaluation.report.score_files import write_protocol, write_scores, write_videos
from cdcd_video.evaluation.report.summary_text import terminal_table
from cdcd_video.metrics.latent.latent_study import LatentStudy
from cdcd_video.metrics.protocol import SettledProtocol
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
    """Writes `scores.jsonl`, `per_video.jsonl`, `protocol.yaml`, `report.md` and `report.html`.

    Files of an earlier evaluation are replaced.

    Args:
      found: what was measured.
      settled: the protocol.
      facts: what holds for every score: data, split, seed, checkpoint, model_sha256, drawing, versions.
      folder: where to.
      notes: what the reader must know before anything else, one sentence each.
      cost: commit, machine and seconds; in the report alone, for no two runs cost the same.
      study: of the latent space, where somebody looked; its scores and its plots stand beside the others.

    Returns:
      The paths.

    Raises:
      UserError: the place cannot be written.
    """
    cost = dict(cost or {}) | ({"seconds for the latent space": study.seconds} if study else {})
    report = {"facts": facts, "settled": settled, "notes": notes, "cost": cost}
    of_latents = study.scores if study else ()
    fragments = {"The latent space": latent_page.fragment(study, level=3)} if study else {}
    return [
        write_scores([*found.scores, *of_latents], facts, folder / "scores.jsonl"),
        write_videos(found.videos, folder / "per_video.jsonl"),
        write_protocol(settled, folder / "protocol.yaml"),
        write_markdown(found.scores, folder / "report.md", of_latents=of_latents, **report),
        write_report(found.scores, found.examples, folder / "report.html", fragments=fragments, **report),
    ]
