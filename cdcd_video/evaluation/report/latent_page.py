"""The study of the latent space as HTML: tables, curves along the video, paths in a plane, frames between frames.

`fragment` is a part of a page that includes the shared style; `page` makes a page of its own.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdcd_video.evaluation.report import plots
from cdcd_video.evaluation.report.latent_plots import COLOURS, curves, plane
from cdcd_video.evaluation.report.latent_tables import (
    GAP_COLUMNS,
    OF_SPACE,
    SPACES,
    TITLES,
    counted,
    of_rate,
    of_space,
    words,
)
from cdcd_video.metrics.latent.frame_rate import Gap
from cdcd_video.metrics.latent.latent_study import LatentStudy
from cdcd_video.pages.templates import render

_HERE = Path(__file__).parent
_MOST_GAPS = 4


def fragment(study: LatentStudy, level: int = 2) -> str:
    """The study as a part of a page that includes `style.css`, with headings from `level` on."""
    groups = list(dict.fromkeys(score.group for score in study.scores))
    values = {
        "level": level,
        "words": words(study.scores),
        "titles": TITLES,
        "spaces": [_space(study, group) for group in groups if group.startswith("space=")],
        "views": [plane(view, study.captions) for view in study.views if view.image is None],
        "close_ups": [plane(view, study.captions) for view in study.views if view.image is not None],
        "rates": [_rate(study, group) for group in groups if group.startswith("fps=")],
        "colours": COLOURS,
        "num_images": len(study.captions),
        "num_captions": len(study.captions[0]),
    }
    return render(_HERE / "latents.html", values)


def page(study: LatentStudy, facts: Mapping[str, Any]) -> str:
    """The study on a page of its own.

    Args:
      study: the result.
      facts: common to all scores; `checkpoint`, `data`, `split` and `seed` among them.
    """
    settings = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in facts.items()]
    return render(_HERE / "latents_page.html", {"facts": facts, "settings": settings, "fragment": fragment(study)})


def _space(study: LatentStudy, group: str) -> dict[str, Any]:
    """A table and curves for every part of a space."""
    parts = {
        part: {"table": of_space(study.scores, group, part), "curves": curves(study.scores, group, lines)}
        for part, (lines, _) in OF_SPACE.items()
    }
    return {"title": SPACES[group], **parts}


def _rate(study: LatentStudy, group: str) -> dict[str, Any]:
    """One doubling of the frame rate."""
    begin, end = group.removeprefix("fps=").split("->")
    return {
        "title": f"From {begin} to {end} frames per second",
        "n": counted(score for score in study.scores if score.group == group and score.frame is None),
        "table": of_rate(study.scores, group),
        "note": study.notes.get(group, ""),
        "curves": curves(study.scores, group, {name: (title, "") for name, title in GAP_COLUMNS.items()}),
        "gaps": [_gap(gap, study) for gap in study.gaps if gap.group == group][:_MOST_GAPS],
    }


def _gap(gap: Gap, study: LatentStudy) -> dict[str, Any]:
    return {
        "caption": study.captions[gap.image][gap.caption],
        "frame": gap.frame,
        "images": [{"title": name, "image": plots.strip(frame[None])} for name, frame in gap.frames.items()],
    }
