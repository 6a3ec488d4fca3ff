"""Geometry of the plots of a study (curves along the video, paths in a plane), which the template renders."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cdcd_video.evaluation.report.latent_tables import SPACES, formatted
from cdcd_video.metrics.latent.latent_study import View
from cdcd_video.metrics.scores import Score
from cdcd_video.pages import chart_style

COLOURS = {
    **chart_style.COLOURS,
    "real": chart_style.COLOURS["truth"],
    "shuffled": chart_style.SERIES[4],
    "other-sentence": chart_style.SERIES[3],
    "hold": chart_style.SERIES[5],
    "cross-fade": chart_style.COLOURS["copy-first"],
    "codes-lerp": chart_style.SERIES[3],
    "latents-lerp": chart_style.SERIES[4],
    "latents-slerp": "#7d8f2a",
}
_PLANE_PX, _LEAST_TALL_PX, _MARGIN_PX = (460, 380), 150, 16
_CURVE_PX = (360, 200)
_INSET = (46, 10, 12, 30)
"""Left, top, right and bottom margin of a curve."""


def curves(scores: Sequence[Score], group: str, lines: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """The curves of some scores along the video, where they have one."""
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

    systems = []
    for system in sorted(
        {score.row for score in chosen}, key=lambda system: system == "model"
    ):  # the model last, on top
        points = sorted((score for score in chosen if score.row == system), key=lambda score: score.frame)
        spots = [
            {"at": place(s.frame, s.value), "tip": f"{system}, frame {s.frame}: {' | '.join(formatted(s))}"}
            for s in points
        ]
        band = []
        if system == "model" and all(s.low is not None and s.high is not None for s in points):
            band = [place(s.frame, s.high) for s in points] + [place(s.frame, s.low) for s in reversed(points)]
        systems.append(
            {
                "system": system,
                "colour": COLOURS[system],
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
        "systems": systems,
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


def plane(view: View, captions: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Geometry of paths in a plane, at one scale along both axes; colours are images, or captions of one image."""
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
        tip = f"{'sampled' if path.row == 'model' else 'real'}: {captions[path.image][path.caption]}"
        parts.setdefault(part, []).append({"row": path.row, "line": _joined(spots), "spots": spots, "tip": tip})
    space = SPACES[f"space={view.space}"]
    shares = " and ".join(f"{100 * share:.0f}%" for share in view.explained)
    return {
        "title": space if view.image is None else captions[view.image][0],
        "note": f"{view.method.upper()}, {space}"
        + (f": the axes explain {shares} of the variance of real frames" if shares else ""),
        "size": (_PLANE_PX[0], tall),
        "parts": [
            {"hue": round(360 * place_in / len(parts)), "paths": paths} for place_in, paths in enumerate(parts.values())
        ],
    }
