"""Pictures of a report as `data:` URLs, so that the page needs no other file."""

import base64
import io
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cdcd_video import video
from cdcd_video.metrics.scores import Score
from cdcd_video.pages.chart_style import BAND, COLOURS, INK, THICK, THIN, style_axes

_DASHES = {"model": "-", "codec-ceiling": "--", "copy-first": "-.", "truth": ":", "oracle-cross-fade": "--"}
_PLACE = (0.13, 0.19, 0.85, 0.66)
"""Position of the axes in a chart: left, bottom, width, height. It is fixed, because a layout engine of matplotlib renders
each chart twice, and charts take most of the time of a report."""
_GAP_PX = 2
_STRIP_PX, _MOVIE_PX = 96, 192
"""Largest size of a frame in a strip and in a movie."""
PREVIEW_PX = 128
"""Largest side of a frame in a preview."""
MOST_IN_PREVIEW = 96
"""Frames of a preview; the widest picture of WebP has 16,383 pixels."""
_EXACT_PX = 64
_MOST_IN_STRIP = 16


def curve(scores: Sequence[Score], metric: str, label: str, of_windows: bool = False) -> str | None:
    """One score along the video for every system, with the interval of the model as a band; None without a curve.

    Args:
      scores: all scores.
      metric: the score to plot.
      label: of the axis.
      of_windows: whether the curve is over windows, each at its middle, instead of frames.
    """
    lines, lengths = {}, set()
    for system in reversed(COLOURS):  # the model last, on top
        own = [s for s in scores if (s.metric, s.row, s.group) == (metric, system, "all") and s.value is not None]
        points = sorted((_place(s), s.value, s.low, s.high) for s in own if _place(s) is not None)
        lengths |= {s.window[1] - s.window[0] + 1 for s in own if s.window}
        if len(points) > 1:
            lines[system] = points
    if not lines:
        return None

    def plot(axes: Axes) -> None:
        for system, points in lines.items():
            colour = COLOURS[system]
            times, values, lows, highs = zip(*points, strict=True)
            style = {"color": colour, "lw": THICK if system == "model" else THIN, "marker": "o" if of_windows else ""}
            axes.plot(times, values, _DASHES[system], markersize=3, label=system, **style)
            if system == "model" and None not in lows:
                axes.fill_between(times, lows, highs, color=colour, alpha=BAND, lw=0)
        axes.xaxis.get_major_locator().set_params(integer=True)

    return chart(plot, f"middle of a window of {min(lengths)} frames" if lengths else "frame", label)


def chart(plot: Callable[[Axes], None], along: str, up: str) -> str:
    """A small chart with thin grey axes, for light pages and dark ones.

    Args:
      plot: adds the lines to the axes.
      along, up: labels of the axes.
    """
    with matplotlib.rc_context({"svg.hashsalt": "cdcd_video", "font.size": 9, "svg.fonttype": "path"}):
        figure = Figure(figsize=(4.2, 2.5))
        axes = figure.add_axes(_PLACE)
        plot(axes)
        axes.set_xlabel(along, color=INK)
        axes.set_title(up, loc="left", pad=7, color=INK, fontsize=9)
        style_axes(axes)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _address(file.getvalue(), "image/svg+xml")


def _place(score: Score) -> float | None:
    return score.frame if score.window is None else sum(score.window) / 2


def strip(frames: UInt8[np.ndarray, "F H W 3"]) -> str:
    """The frames of a video side by side; every k-th where there are many. Small frames keep their exact pixels."""
    frames = frames[:: math.ceil(len(frames) / _MOST_IN_STRIP)]
    is_exact = max(frames.shape[1:3]) <= _EXACT_PX
    frames = _small(frames, _STRIP_PX)
    num, height, width = frames.shape[:3]
    sheet = np.zeros((height, num * (width + _GAP_PX) - _GAP_PX, 4), np.uint8)
    for place, frame in enumerate(frames):
        left = place * (width + _GAP_PX)
        sheet[:, left : left + width, :3], sheet[:, left : left + width, 3] = frame, 255
    file = io.BytesIO()
    if is_exact:
        Image.fromarray(sheet).save(file, "PNG", optimize=True)
    else:
        Image.fromarray(sheet).save(file, "WEBP", quality=85)
    return _address(file.getvalue(), "image/png" if is_exact else "image/webp")


def movie(frames: UInt8[np.ndarray, "F H W 3"], fps: float) -> str:
    """A video that every browser plays (H.264); tiny frames are enlarged."""
    frames = _small(frames, _MOVIE_PX)
    scale = max(1, _MOVIE_PX // max(frames.shape[1:3]))
    with tempfile.TemporaryDirectory() as folder:
        path = video.save(frames, Path(folder, "video.mp4"), fps, scale=scale)
        return _address(path.read_bytes(), "video/mp4")


def poster(frame: UInt8[np.ndarray, "H W 3"]) -> str:
    """One frame of a video as a small picture, to be seen before the video plays."""
    file = io.BytesIO()
    Image.fromarray(_small(frame[None], _MOVIE_PX)[0]).save(file, "WEBP", quality=85)
    return _address(file.getvalue(), "image/webp")


def preview(frames: UInt8[np.ndarray, "F H W 3"]) -> str:
    """All frames of a video side by side in one picture, without gaps, for a page that shows one of them at a time."""
    frames = _small(frames, PREVIEW_PX)
    sheet = np.concatenate(list(frames), axis=1)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "WEBP", quality=85)
    return _address(file.getvalue(), "image/webp")


def _small(frames: np.ndarray, most_px: int) -> np.ndarray:
    side = max(frames.shape[1:3])
    if side <= most_px:
        return frames
    size = (round(frames.shape[2] * most_px / side), round(frames.shape[1] * most_px / side))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames])


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
