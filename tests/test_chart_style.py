"""Charts must be legible on light pages and on dark ones."""

import re
from pathlib import Path

import pytest

from cdcd_video.evaluation.report import latent_plots
from cdcd_video.pages import chart_style
from cdcd_video.tools.metric_validation import validation_page

LEAST = 3.0
"""Contrast of graphical objects with what is beside them (WCAG 2.2, success criterion 1.4.11)."""
STYLE = (Path(chart_style.__file__).parent / "style.css").read_text()
GROUNDS = sorted(set(re.findall(r"--(?:paper|card): (#[0-9a-f]{3,6})\b", STYLE)))
MARKS = sorted(
    {chart_style.INK, *chart_style.COLOURS.values(), *chart_style.SERIES}
    | {*latent_plots.COLOURS.values(), *validation_page.COLOURS.values()}
)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb or #rgb (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """(L1 + 0.05) / (L2 + 0.05), the lighter one above."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_is_that_of_the_standard():
    assert contrast("#fff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the often quoted grey just below 4.5


def test_the_pages_have_light_and_dark_grounds():
    assert len(GROUNDS) == 4, GROUNDS


@pytest.mark.parametrize("mark", MARKS)
def test_every_colour_of_a_chart_stands_out_on_every_ground(mark: str):
    assert {ground: contrast(mark, ground) for ground in GROUNDS if contrast(mark, ground) < LEAST} == {}
