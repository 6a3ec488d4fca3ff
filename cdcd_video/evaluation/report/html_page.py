"""The report as one self-contained HTML file that also fits a phone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdcd_video.evaluation.report import plots
from cdcd_video.evaluation.report.markdown import sections
from cdcd_video.evaluation.report.score_table import tables
from cdcd_video.evaluation.report.summary_text import verdict
from cdcd_video.metrics.protocol import SettledProtocol
from cdcd_video.metrics.score_entries import OF_SETS, SYSTEM_TITLES, SYSTEMS, headline
from cdcd_video.metrics.scores import OVER_FLOOR, SETS, Score
from cdcd_video.metrics.statistics.intervals import CONFIDENCE
from cdcd_video.metrics.suite import Example
from cdcd_video.pages.chart_style import COLOURS
from cdcd_video.pages.templates import render
from cdcd_video.storage.numerals import significant
from cdcd_video.video import whole_file

MOST_PICTURE_BYTES = 10_000_000
"""Size at which further examples are left out, so that the page stays below 15 MB."""
_LABELS = {
    "position_error": "position error, px",
    "identity_iou": "identity, IoU",
    "lost_share": "lost, fraction",
    "digit_position_error": "digit's position error, px",
    "digit_identity": "digit's identity, share",
    "digit_lost": "digit lost, fraction",
    "background_psnr": "background PSNR, dB",
    "psnr": "PSNR, dB",
    "motion_ratio": "motion / true motion",
    "warp_error": "warp error, levels",
    "flow": "optical flow, px per frame",
    "flicker": "flicker, levels",
    "colour_drift": "colour drift, CIELAB",
    "mse": "MSE",
    "flow_vmd_over_floor": "flow VMD over the floor",
    "cd_fvd_over_floor": "content-debiased FVD over the floor",
    "jedi_over_floor": "JEDi by V-JEPA 2 over the floor",
}
_TITLES = {"model": "sampled", "truth": "truth", "codec-ceiling": "codec", "counterfactual": "other caption"}


def write_report(
    scores: Sequence[Score],
    examples: Sequence[Example],
    path: Path,
    *,
    settled: SettledProtocol,
    facts: Mapping[str, Any],
    notes: Sequence[str] = (),
    cost: Mapping[str, Any] | None = None,
    fragments: Mapping[str, str] | None = None,
) -> Path:
    """Writes the report of an evaluation, whole or not at all.

    Args:
      scores: all scores.
      examples: videos to show.
      path: an .html file.
      settled: the protocol.
      facts: common to all scores, as in `scores.jsonl`.
      notes: notes at the top of the page.
      cost: commit, machine and seconds.
      fragments: further parts of the page by their titles, as HTML that is not escaped.

    Returns:
      The path.

    Raises:
      UserError: the place cannot be written.
    """
    pictures = _pictures(examples, settled.protocol.rate)
    made, curves, facts_by_title = tables(scores), _curves(scores), sections(settled, facts, cost or {})
    first, extremes = ([one for one in pictures if bool(one["kind"]) is ends] for ends in (False, True))
    ids = {title: title.lower().replace(" ", "-") for title in (*(fragments or {}), *facts_by_title)}
    parts = {"videos": "Videos"} if first else {}
    parts |= {name: table.title for name, table in made.items() if name != "along"}
    parts |= {"along": "Along the video"} if "along" in made or curves else {}
    parts |= {"extremes": "Best and worst"} if extremes else {}
    parts |= {name: title for title, name in ids.items()}
    values = {
        "facts": facts,
        "num_videos": max((score.n for score in scores if score.counted == "videos"), default=0),
        "verdict": verdict(scores),
        "notes": notes,
        "tables": made,
        "parts": parts,
        "ids": ids,
        "systems": [system for system in SYSTEMS if any(score.row == system for score in scores)],
        "curves": curves,
        "colours": COLOURS,
        "titles": SYSTEM_TITLES,
        "first": first,
        "extremes": extremes,
        "fragments": fragments or {},
        "sections": facts_by_title,
        "confidence": f"{100 * CONFIDENCE:.0f}%",
    }
    with whole_file(path) as part:
        part.write_text(render(Path(__file__).with_name("page.html"), values), encoding="utf-8")
    return path


def _curves(scores: Sequence[Score]) -> list[str]:
    entries = [entry for entry in (*headline(), *OF_SETS) if entry.group == "all"]
    labels = {entry.metric: _LABELS.get(entry.metric, entry.title) for entry in entries}
    found = [
        plots.curve(scores, metric, label, SETS.get(metric.removesuffix(f"_{OVER_FLOOR}"), "frame") != "frame")
        for metric, label in labels.items()
    ]
    return [image for image in found if image]


def _pictures(examples: Sequence[Example], fps: float) -> list[dict[str, Any]]:
    """Examples as pictures and movies, up to `MOST_PICTURE_BYTES`."""
    made, size = [], 0
    for example in examples:
        strips = [
            {"title": title, "image": plots.strip(example.videos[system])}
            for system, title in _TITLES.items()
            if system in example.videos
        ]
        movies = [
            {
                "title": _TITLES[system],
                "video": plots.movie(example.videos[system], fps),
                "poster": plots.poster(example.videos[system][0]),
            }
            for system in ("model", "truth", "counterfactual")
            if system in example.videos
        ]
        size += sum(len(one["image"]) for one in strips) + sum(len(one["video"]) for one in movies)
        if size > MOST_PICTURE_BYTES:
            break
        made.append(_captioned(example) | {"strips": strips, "movies": movies})
    return made


def _captioned(example: Example) -> dict[str, Any]:
    words = {entry.metric: entry.title for entry in headline()}
    measured = ""
    if example.measured:
        metric, value = example.measured
        measured = f"{example.kind} by {words[metric]}: {significant(value, 3)}"
    return {
        "caption": example.captions.get("model", ""),
        "other": example.captions.get("counterfactual"),
        "name": example.name,
        "kind": example.kind,
        "measured": measured,
    }
