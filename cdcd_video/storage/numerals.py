"""Numbers as people write them."""

import math


def significant(value: float, digits: int) -> str:
    """A number in so many significant digits, never with a positive exponent: 1023 in three is "1023", not "1.02e+03".

    Args:
      value: rounded as Python's `g` does, unless its whole part has more digits than that.
      digits: at least 1.
    """
    rounded = float(f"{value:.{digits}g}")
    is_long = math.isfinite(rounded) and abs(rounded) >= 10**digits
    return f"{value:.0f}" if is_long else f"{value:.{digits}g}"
