"""The numbers that a video is made, saved and shown with, checked as they are given in Python. Imports no torch."""

import numbers
import sys
from fractions import Fraction
from typing import Any

from cdcd_video.config.ranges import plain_number
from cdcd_video.errors import UserError

_SLOWEST, _FASTEST = Fraction(1, 1001), 100_000
"""Rates of files, in frames per second: the denominators of their fractions end at 1001, and their ticks are not finer."""


def count_of(name: str, value: Any) -> int:
    """A whole number above 0 as Python's own.

    Args:
      name: of the argument.
      value: as it was given.

    Raises:
      UserError: it is something else.
    """
    found = plain_number(value, is_whole=True)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise UserError(f"{name} is {_quoted(value)}; it must be a whole number above 0")
    return found


def positive_rate(fps: Any) -> float:
    """A frame rate as Python's own number.

    Raises:
      UserError: it is no finite number above 0.
    """
    found = plain_number(fps)
    is_number = isinstance(found, numbers.Real) and not isinstance(found, bool)
    if not is_number or not 0 < found <= sys.float_info.max:
        raise UserError(f"fps is {_quoted(fps)}; it must be {'' if is_number else 'a number '}above 0")
    return found if isinstance(found, int) else float(found)


def rate_of_file(fps: Any) -> Fraction:
    """A frame rate as files have it.

    Raises:
      UserError: see `positive_rate`; or no file is so slow or so fast.
    """
    given = positive_rate(fps)
    rate = Fraction(given).limit_denominator(_SLOWEST.denominator)
    if not _SLOWEST <= rate <= _FASTEST:
        raise UserError(f"fps is {given:g}; a video that is saved has from 0.001 to {_FASTEST:,} frames per second")
    return rate


def _quoted(value: Any) -> str:
    return f"the text {value}" if isinstance(value, str) else f"{value}"
