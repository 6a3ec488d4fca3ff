"""The latent space on a page: tables with intervals, curves along the video, paths one can hover, frames between frames.

`fragment` is a self-contained piece of HTML for any page that has the colours of `page.html` as CSS variables; `page`
puts it on a page of its own.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cdcd_video.metrics.latent.frame_rate import Gap
from cdcd_video.metrics.latent.latents import LatentStudy, View
from cdcd_video.metrics.scores import Score
from cdcd_video.report import figures

COLOURS = {
    "model": "var(--accent, #2f6fed)",
    "real": "#2a9d6f",
    "shuffled": "#d9822b",
    "copy-first": "#d9822b",
    "other-sentence": "#b65fc4",
    "hold": "#8a8f98",
    "cross-fade": "#d9822b",
    "codes-lerp": "#b65fc4",
    "latents-lerp": "#c4456b",
    "latents-slerp": "#7d8f2a",
    "codec-ceiling": "#2a9d6f",
}
SPACES = {"space=embedding": "joint embedding", "space=codes": "code vectors"}
_IMAGE_LINES = {
    "purity": ("purity", "k-means clusters, as many as images: share of frames with their cluster's commonest image"),
    "silhouette": ("silhouette", "nearer to frames of the same image than to those of the next: 1 far apart, 0 not"),
    "retrieval@1": ("retrieval@1", "the nearest of all source images is the frame's own"),
    "retrieval@5": ("retrieval@5", "it is among the five nearest"),
    "alignment": ("alignment", "squared distance to the own source image"),
    "uniformity": ("uniformity", "log mean potential between images; lower is more spread out"),
}
_CAPTION_LINES = {
    "caption_silhouette": (
        "silhouette by sentence",
        "frames of one image, labelled by the sentence they were drawn from",
    ),
    "caption_retrieval@1": ("right true video", "the nearest of the image's true videos is that of the sentence given"),
    "caption_spread": ("spread", "distance between sentences of one image, over that between images"),
}
_PATH_LINES = {
    "step_length": ("step length", "distance from the frame before"),
    "curvature": ("curvature", "angle between step in and step out: 0 straight on, about 120 for jitter in one place"),
    "distance_to_real": ("to other real paths", "distance to the nearest real path of another image"),
    "distance_to_own": ("to the own true path", "at whatever time it passes nearest; who never sets off is at 0"),
    "distance_in_time": ("to the own true frame", "of the same time"),
}
_GAP_COLUMNS = {
    "inbetween_psnr": "PSNR",
    "inbetween_object_psnr": "PSNR on objects",
    "inbetween_position_error": "position error",
    "inbetween_identity_iou": "identity",
}
_PLANE_PX, _LEAST_TALL_PX, _MARGIN_PX = (460, 380), 150, 16
_CURVE_PX = (360, 200)
_INSET = (46, 10, 12, 30)
"""Left, top, right and bottom of a curve's frame."""
_MOST_GAPS = 4


def fragment(study: LatentStudy) -> str:
    """The study as a piece of HTML: no network, no outside style but colours."""
    groups = list(dict.fromkeys(score.group for score in study.scores))
    spaces = [group for group in groups if group.startswith("space=")]
    rates = [group for group in groups if group.startswith("fps=")]
    return _template("latents.html").render(
        words=_words(study.scores),
        spaces=[
            {
                "title": SPACES[group],
                "images": _table(study.scores, group, _IMAGE_LINES, ("model", "real", "shuffled")),
                "captions": _table(study.scores, group, _CAPTION_LINES, ("model", "real", "shuffled")),
                "paths": _table(study.scores, group, _PATH_LINES, ("model", "real", "copy-first", "other-sentence")),
                "image_curves": _curves(study.scores, group, _IMAGE_LINES),
                "caption_curves": _curves(study.scores, group, _CAPTION_LINES),
                "path_curves": _curves(study.scores, group, _PATH_LINES),
            }
            for group in spaces
        ],
        views=[_plane(view, study.captions) for view in study.views if view.image is None],
        close_ups=[_plane(view, study.captions) for view in study.views if view.image is not None],
        rates=[_rate(study, group) for group in rates],
        colours=COLOURS,
        num_images=len(study.captions),
        num_captions=len(study.captions[0]),
    )


def page(study: LatentStudy, facts: Mapping[str, Any]) -> str:
    """The study on a page of its own.

    Args:
      study: what was found.
      facts: what it rests on; `checkpoint`, `data`, `split` and `seed` among them.
    """
    settings = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in facts.items()]
    return _template("latents_page.html").render(facts=facts, settings=settings, fragment=fragment(study))


def shown(score: Score | None) -> tuple[str, str]:
    """A value with its unit and its interval, as words; empty where there is none."""
    if score is None or score.value is None:
        return "", ""
    value = _number(score.value, score.unit) + {"share": "%", "degrees": " deg", "dB": " dB", "px": " px"}.get(
        score.unit, ""
    )
    if score.low is None or score.high is None:
        return value, ""
    return value, f"{_number(score.low, score.unit)} to {_number(score.high, score.unit)}"


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.0f}"
    if unit in ("degrees", "dB"):
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 or unit in ("ratio", "px", "nats") else f"{value:.3f}"


def _template(name: str):
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _find(scores: Iterable[Score], group: str, row: str, metric: str, frame: int | None = None) -> Score | None:
    wanted = (group, row, metric, frame)
    return next((score for score in scores if (score.group, score.row, score.metric, score.frame) == wanted), None)


def _words(scores: Sequence[Score]) -> dict[str, str]:
    """What the page says in words, before each part."""
    group, words = "space=embedding", {}

    def said(row: str, metric: str) -> str:
        return shown(_find(scores, group, row, metric))[0] or "-"

    if _find(scores, group, "model", "retrieval@1"):
        words["images"] = (
            f"The nearest source image is the frame's own for {said('model', 'retrieval@1')} of drawn frames"
            f" ({said('real', 'retrieval@1')} of real ones, {said('shuffled', 'retrieval@1')} by chance)."
        )
    if _find(scores, group, "model", "caption_retrieval@1"):
        codes = shown(_find(scores, "space=codes", "model", "caption_retrieval@1"))[0]
        words["captions"] = (
            f"Of one image's true videos, the nearest is that of the sentence given for {codes} of drawn frames in the"
            f" code vectors and {said('model', 'caption_retrieval@1')} in the joint embedding"
            f" ({said('shuffled', 'caption_retrieval@1')} by chance)."
        )
    words["paths"] = (
        f"Steps are {said('model', 'step_length')} long (real: {said('real', 'step_length')}) and turn by"
        f" {said('model', 'curvature')} (real: {said('real', 'curvature')}), in the joint embedding."
    )
    return words


def _table(
    scores: Sequence[Score], group: str, lines: Mapping[str, tuple[str, str]], rows: Sequence[str]
) -> dict[str, Any]:
    found = {metric: {row: _find(scores, group, row, metric) for row in rows} for metric in lines}
    found = {metric: by_row for metric, by_row in found.items() if any(by_row.values())}
    columns = [row for row in rows if any(by_row[row] for by_row in found.values())]
    return {
        "columns": columns,
        "lines": [
            {
                "title": lines[metric][0],
                "meaning": lines[metric][1],
                "n": _counted(score for score in by_row.values() if score),
                "cells": [shown(by_row[row]) for row in columns],
            }
            for metric, by_row in found.items()
        ],
    }


def _counted(scores: Iterable[Score]) -> str:
    """How much stands behind some scores, as in "96 videos"."""
    most = max(scores, key=lambda score: score.n)
    return f"{most.n} {most.counted}"


def _rate(study: LatentStudy, group: str) -> dict[str, Any]:
    """One doubling of the frame rate: a line per way, all gaps and the first one alone."""
    rows = list(dict.fromkeys(score.row for score in study.scores if score.group == group))
    columns = [metric for metric in _GAP_COLUMNS if any((s.group, s.metric) == (group, metric) for s in study.scores)]
    first = [metric for metric in columns if metric not in ("inbetween_psnr", "inbetween_identity_iou")] or columns
    begin, end = group.removeprefix("fps=").split("->")
    cells = {
        row: [shown(_find(study.scores, group, row, metric)) for metric in columns]
        + [shown(_find(study.scores, group, row, metric, 0)) for metric in first]
        for row in rows
    }
    return {
        "title": f"{begin} to {end} frames per second",
        "columns": [_GAP_COLUMNS[metric] for metric in columns],
        "first": [_GAP_COLUMNS[metric] for metric in first],
        "rows": cells,
        "n": _counted(score for score in study.scores if score.group == group and score.frame is None),
        "note": study.notes.get(group, ""),
        "curves": _curves(study.scores, group, {name: (words, "") for name, words in _GAP_COLUMNS.items()}),
        "gaps": [_gap(gap, study) for gap in study.gaps if gap.group == group][:_MOST_GAPS],
    }


def _gap(gap: Gap, study: LatentStudy) -> dict[str, Any]:
    return {
        "caption": study.captions[gap.image][gap.caption],
        "frame": gap.frame,
        "images": [{"title": name, "image": figures.strip(frame[None])} for name, frame in gap.frames.items()],
    }


# Curves -----------------------------------------------------------------------------------------------------------


def _curves(scores: Sequence[Score], group: str, lines: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    found = (_curve(scores, group, metric, words[0]) for metric, words in lines.items())
    return [curve for curve in found if curve]


def _curve(scores: Sequence[Score], group: str, metric: str, title: str) -> dict[str, Any] | None:
    """Geometry of one score along the video; None where it has no curve."""
    chosen = [s for s in scores if (s.group, s.metric) == (group, metric) and s.frame is not None]
    chosen = [score for score in chosen if score.value is not None]
    if len({score.frame for score in chosen}) < 2:
        return None
    ends = [end for score in chosen for end in (score.value, score.low, score.high) if end is not None]
    low, high = min(ends), max(ends)
    pad = 0.05 * (high - low) or 0.5
    low, high = low - pad, high + pad
    first, last = min(score.frame for score in chosen), max(score.frame for score in chosen)
    left, top, right, bottom = _INSET
    wide, tall = _CURVE_PX[0] - left - right, _CURVE_PX[1] - top - bottom

    def place(frame: float, value: float) -> tuple[float, float]:
        return (
            round(left + wide * (frame - first) / (last - first), 1),
            round(top + tall * (high - value) / (high - low), 1),
        )

    rows = []
    for row in sorted({score.row for score in chosen}, key=lambda row: row == "model"):  # the model last, on top
        points = sorted((score for score in chosen if score.row == row), key=lambda score: score.frame)
        spots = [
            {"at": place(s.frame, s.value), "tip": f"{row}, frame {s.frame}: {' | '.join(shown(s))}"} for s in points
        ]
        band = []
        if row == "model" and all(s.low is not None and s.high is not None for s in points):
            band = [place(s.frame, s.high) for s in points] + [place(s.frame, s.low) for s in reversed(points)]
        rows.append(
            {
                "row": row,
                "colour": COLOURS[row],
                "line": _joined(spot["at"] for spot in spots),
                "band": _joined(band),
                "spots": spots,
            }
        )
    unit = chosen[0].unit
    ticks = [tick for tick in _ticks(low, high) if low <= tick <= high]
    return {
        "title": title,
        "unit": "%" if unit == "share" else "" if unit == "ratio" else unit,
        "size": _CURVE_PX,
        "rows": rows,
        "y_ticks": [(place(first, tick)[1], f"{100 * tick:.0f}" if unit == "share" else f"{tick:g}") for tick in ticks],
        "x_ticks": [(place(frame, low)[0], frame) for frame in range(first, last + 1, max(1, (last - first) // 5))],
        "left": left,
        "floor": _CURVE_PX[1] - bottom,
    }


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers in a range."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 5)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


# Planes -----------------------------------------------------------------------------------------------------------


def _plane(view: View, captions: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Geometry of paths in a plane, at one scale along both axes; colours part images, or sentences of one image."""
    corners = [point for path in view.paths for point in path.points]
    lows, highs = ([end(side) for side in zip(*corners, strict=True)] for end in (min, max))
    room = [size - 2 * _MARGIN_PX for size in _PLANE_PX]
    scale = min(size / max(high - low, 1e-9) for size, low, high in zip(room, lows, highs, strict=True))
    middle = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    tall = max(_LEAST_TALL_PX, round((highs[1] - lows[1]) * scale) + 2 * _MARGIN_PX)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = ((value - centre) * scale for value, centre in zip(point, middle, strict=True))
        return round(_PLANE_PX[0] / 2 + x, 1), round(tall / 2 - y, 1)

    parts: dict[int, list[dict[str, Any]]] = {}
    for path in view.paths:
        part = path.image if view.image is None else path.caption
        spots = [place(point) for point in path.points]
        tip = f"{'drawn' if path.row == 'model' else 'real'}: {captions[path.image][path.caption]}"
        parts.setdefault(part, []).append({"row": path.row, "line": _joined(spots), "spots": spots, "tip": tip})
    space = SPACES[f"space={view.space}"]
    shares = " and ".join(f"{100 * share:.0f}%" for share in view.explained)
    return {
        "title": space if view.image is None else captions[view.image][0],
        "note": f"{view.method.upper()}, {space}"
        + (f": the axes hold {shares} of the real frames' variance" if shares else ""),
        "size": (_PLANE_PX[0], tall),
        "parts": [
            {"colour": f"hsl({360 * place_in / len(parts):.0f} 62% 50%)", "paths": paths}
            for place_in, paths in enumerate(parts.values())
        ],
    }
