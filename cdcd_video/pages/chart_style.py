"""The one style of all charts: colours of systems and series, and axes that are legible on light pages and on dark ones."""

from collections.abc import Sequence
from typing import Any

INK = "#7d828c"
"""Of axes, ticks and titles; legible on white and on black."""
COLOURS = {
    "model": "#2f6fed",
    "codec-ceiling": "#2a9d6f",
    "copy-first": "#c8741f",
    "truth": "#8a8f98",
    "oracle-cross-fade": "#b04aa8",
}
"""Of the systems of an evaluation."""
SERIES = ("#2f6fed", "#c8741f", "#2a9d6f", "#b04aa8", "#c0392b", "#6b7a8f")
"""Of series without a fixed meaning, such as compared models, in this order."""
THIN, THICK, BAND = 1.4, 2.4, 0.18
"""Widths of lines, the second for the one that a chart is about; opacity of intervals."""


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each of some series; after the last one they begin again."""
    return {name: SERIES[place % len(SERIES)] for place, name in enumerate(names)}


def style_axes(axes: Any) -> None:
    """Gives matplotlib axes thin grey lines on two sides, and a faint grid."""
    axes.tick_params(colors=INK)
    axes.grid(color=INK, alpha=BAND)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
