"""Numbers as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcd_video.storage.numerals import significant


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (100.0, 2, "100"),
        (99.5, 2, "100"),
        (99.4, 2, "99"),
        (1023.0, 3, "1023"),
        (999.6, 3, "1000"),
        (-1234.5, 3, "-1234"),
        (0.0, 3, "0"),
        (0.01234, 3, "0.0123"),
        (float("inf"), 3, "inf"),
        (float("nan"), 3, "nan"),
    ],
)
def test_a_number_has_no_positive_exponent(value: float, digits: int, written: str):
    assert significant(value, digits) == written


@given(st.floats(-1e15, 1e15), st.integers(1, 6))
def test_it_is_the_number_to_so_many_digits(value: float, digits: int):
    text = significant(value, digits)
    assert "e+" not in text
    assert float(text) == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits) * (1 + 1e-9))
