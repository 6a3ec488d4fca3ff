"""The page: one self-contained file, readable on a phone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cdcd_video.metrics.intervals import CONFIDENCE, RESAMPLES
from cdcd_video.metrics.scores import Score
from cdcd_video.metrics.suite import Example
from cdcd_video.report import figures
from cdcd_video.report.table import HEADLINE, ROWS, find, interval, shown
from cdcd_video.video import whole_file

_CURVES = {
    "position_error": "position error, px",
    "identity_iou": "identity, IoU",
    "background_psnr": "background PSNR, dB",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "motion_ratio": "motion over the truth's",
}
_BY_GROUP = ("does_right_thing", "direction_right", "position_error", "identity_iou", "lost_share")
_GROUP_WORDS = {"objects=1": "one object", "objects=2": "two objects"}


def write_report(scores: Sequence[Score], examples: Sequence[Example], facts: Mapping[str, Any], path: Path) -> Path:
    """Writes the report of an evaluation, whole or not at all.

    Args:
      scores: what was found.
      examples: videos to look at.
      facts: what the scores rest on, as in `scores.jsonl`.
      path: an .html file.

    Returns:
      The path.

    Raises:
      UserError: the place cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        facts=facts,
        verdict=_verdict(scores),
        num_videos=max((score.n for score in scores if score.counted == "videos"), default=0),
        rows={row: words for row, words in ROWS.items() if any(score.row == row for score in scores)},
        headline=_headline(scores),
        sentences=_sentences(scores),
        groups=_groups(scores),
        curves=[image for metric, label in _CURVES.items() if (image := figures.curve(scores, metric, label))],
        colours=figures.COLOURS,
        examples=[_pictures(example, facts["drawing"]["fps"]) for example in examples],
        settings=_settings(facts),
        confidence=f"{100 * CONFIDENCE:.0f}%",
        resamples=RESAMPLES,
    )
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def _cell(score: Score | None) -> dict[str, Any]:
    share = score.value if score and score.unit in ("share", "ratio") and score.value is not None else None
    return {"value": shown(score), "interval": interval(score), "share": share, "n": score.n if score else None}


def _verdict(scores: Sequence[Score]) -> list[str]:
    """What the page says in words: the model's first score between its floor and its ceiling."""
    line = next((line for line in HEADLINE if find(scores, "model", line.metric, line.group)), None)
    if line is None:
        return []
    found = {row: find(scores, row, line.metric, line.group) for row in ROWS}
    words = []
    if line.metric == "does_right_thing":
        words.append(f"{shown(found['model'])} of {found['model'].n} objects do what the sentence says.")
        references = {"codec-ceiling": "The codec alone would show {}", "copy-first": "a frozen first frame earns {}"}
    else:
        words.append(f"{line.title} {shown(found['model'])} over {found['model'].n} {found['model'].counted}.")
        references = {"codec-ceiling": "The codec alone reaches {}", "copy-first": "a frozen first frame {}"}
    told = [text.format(shown(found[row])) for row, text in references.items() if found[row]]
    if told:
        words.append(", ".join(told) + ".")
    other, deaf = (
        find(scores, row, "does_right_thing", "sentence=changed") for row in ("counterfactual", "sentence-ignored")
    )
    if other:
        ignored = f", against {shown(deaf)} if it did not read it" if deaf else ""
        words.append(f"With another sentence for the same image it obeys in {shown(other)}{ignored}.")
    return words


def _headline(scores: Sequence[Score]) -> list[dict[str, Any]]:
    lines = []
    for line in HEADLINE:
        found = {row: find(scores, row, line.metric, line.group) for row in ROWS}
        if any(found.values()):
            first = next(score for score in found.values() if score)
            cells = {row: _cell(score) for row, score in found.items()}
            facts = {"n": first.n, "counted": first.counted, "better": first.better}
            lines.append({"title": line.title, "meaning": line.meaning, "cells": cells, **facts})
    return lines


def _sentences(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The two rows that ask whether the sentence is read, for the object it changes and for the one it does not."""
    names = {"counterfactual": "another sentence was given", "sentence-ignored": "the sentence was not changed"}
    columns = (
        ("does_right_thing", "sentence=changed"),
        ("direction_right", "sentence=changed"),
        ("does_right_thing", "sentence=kept"),
    )
    lines = []
    for row, title in names.items():
        found = [find(scores, row, *column) for column in columns]
        if any(found):
            lines.append({"title": title, "cells": [_cell(score) for score in found]})
    return lines


def _groups(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The model's scores by number of objects, held-out kind and motion, beside what the references get right."""
    names = sorted({s.group for s in scores if s.metric == "does_right_thing" and s.row == "model"})
    order = ("all", "objects=", "heldout=", "motion=")
    lines = []
    for prefix in order:
        for group in (name for name in names if name.startswith(prefix)):
            kind, _, name = group.partition("=")
            title = _GROUP_WORDS.get(group) or (f"held-out {name}" if kind == "heldout" else name or "all objects")
            cells = [_cell(find(scores, "model", metric, group)) for metric in _BY_GROUP]
            floor, ceiling = (find(scores, row, "does_right_thing", group) for row in ("copy-first", "codec-ceiling"))
            lines.append(
                {"title": title, "kind": kind, "cells": cells, "floor": shown(floor), "ceiling": shown(ceiling)}
            )
    return lines


def _pictures(example: Example, fps: float) -> dict[str, Any]:
    titles = {"model": "drawn", "truth": "truth", "codec-ceiling": "codec", "counterfactual": "other sentence"}
    strips = [
        {"row": row, "title": title, "image": figures.strip(example.videos[row])}
        for row, title in titles.items()
        if row in example.videos
    ]
    movies = [
        {"title": titles[row], "image": figures.moving(example.videos[row], fps)}
        for row in ("model", "truth", "counterfactual")
        if row in example.videos
    ]
    captions = example.captions
    return {
        "caption": captions.get("model", ""),
        "other": captions.get("counterfactual"),
        "strips": strips,
        "movies": movies,
    }


def _settings(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts as pairs of words, nested ones one level deep."""
    pairs = []
    for name, value in facts.items():
        inner = value.items() if isinstance(value, Mapping) else [(None, value)]
        for key, entry in inner:
            text = entry if isinstance(entry, str) else json.dumps(entry)
            pairs.append((name if key is None else f"{name}: {key}", text))
    return pairs
