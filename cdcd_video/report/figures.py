"""Pictures of a report as `data:` addresses, so that the page needs no other file."""

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from cdcd_video.metrics.scores import Score

COLOURS = {"model": "#2f6fed", "codec-ceiling": "#2a9d6f", "copy-first": "#d9822b", "truth": "#8a8f98"}
_DASHES = {"model": "-", "codec-ceiling": "--", "copy-first": "-.", "truth": ":"}
_INK = "#7d828c"  # reads on white and on black
_GAP_PX = 2
_MOST_PX = 96
"""Larger frames are shown at this size."""


def curve(scores: Sequence[Score], metric: str, label: str) -> str | None:
    """One score along time for every row, with the model's interval as a band; None where it has no curve."""
    with matplotlib.rc_context({"svg.hashsalt": "cdcd_video", "font.size": 9, "svg.fonttype": "path"}):
        figure = Figure(figsize=(4.2, 2.5), layout="constrained")
        axes = figure.subplots()
        for row, colour in reversed(COLOURS.items()):  # the model last, on top
            points = [s for s in scores if (s.row, s.metric, s.group) == (row, metric, "all") and s.frame is not None]
            points = sorted((s for s in points if s.value is not None), key=lambda s: s.frame)
            if not points:
                continue
            times, values = [s.frame for s in points], [s.value for s in points]
            axes.plot(times, values, _DASHES[row], color=colour, lw=2.4 if row == "model" else 1.4, label=row)
            if row == "model" and all(s.low is not None for s in points):
                axes.fill_between(
                    times, [s.low for s in points], [s.high for s in points], color=colour, alpha=0.18, lw=0
                )
        if not axes.lines:
            return None
        axes.set_xlabel("frame", color=_INK)
        axes.set_ylabel(label, color=_INK)
        axes.tick_params(colors=_INK)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color=_INK, alpha=0.18)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_INK)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _address(file.getvalue(), "image/svg+xml")


def strip(frames: UInt8[np.ndarray, "F H W 3"]) -> str:
    """A video's frames side by side, time to the right."""
    frames = _small(frames)
    num, height, width = frames.shape[:3]
    sheet = np.zeros((height, num * (width + _GAP_PX) - _GAP_PX, 4), np.uint8)
    for place, frame in enumerate(frames):
        left = place * (width + _GAP_PX)
        sheet[:, left : left + width, :3], sheet[:, left : left + width, 3] = frame, 255
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG", optimize=True)
    return _address(file.getvalue(), "image/png")


def moving(frames: UInt8[np.ndarray, "F H W 3"], fps: float) -> str:
    """A video as an animated PNG, exact pixels; the last frame stays a while before it begins again."""
    images = [Image.fromarray(frame) for frame in _small(frames)]
    durations = [1000 / fps] * (len(images) - 1) + [1000 / fps + 600]
    file = io.BytesIO()
    images[0].save(file, "PNG", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return _address(file.getvalue(), "image/png")


def _small(frames: np.ndarray) -> np.ndarray:
    side = max(frames.shape[1:3])
    if side <= _MOST_PX:
        return frames
    size = (round(frames.shape[2] * _MOST_PX / side), round(frames.shape[1] * _MOST_PX / side))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames])


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
