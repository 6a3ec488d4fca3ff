"""What `make test` runs of a sweep, and `make test-all` the whole of.

A sweep is a test whose cases differ little: all processes with all orders, all dials, all kinds of damage. It is marked
`@pytest.mark.sweep`, with `most=` where it has one parameter, or says `examples(...)` where it draws its cases itself.
What is left out hangs on nothing but the list of cases, so that two runs test the same.
"""

from collections.abc import Sequence

import pytest

IS_WHOLE = True
"""Whether every case is run; tests/conftest.py sets it."""
SHARE = 6
"""Of examples that are drawn, one in so many is enough for every day."""


def examples(whole: int) -> int:
    """How many examples to draw where all would be `whole`."""
    return whole if IS_WHOLE else max(2, whole // SHARE)


def sample(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """So many cases of one test that every value of each parameter is in one of them; or as many as the mark says, evenly
    from the first to the last.
    """
    most = items[0].get_closest_marker("sweep").kwargs.get("most")
    if most:
        places = {round(place * (len(items) - 1) / max(1, most - 1)) for place in range(most)}
        return [item for place, item in enumerate(items) if place in places]
    if len(items) == 1:
        return list(items)
    # By the values themselves: what pytest calls `indices` numbers the cases, and not the values.
    values = [{(name, repr(value)) for name, value in item.callspec.params.items()} for item in items]
    kept, seen = [], set()
    while unseen := max(len(own - seen) for own in values):
        place = next(place for place, own in enumerate(values) if len(own - seen) == unseen)
        kept.append(items[place])
        seen |= values[place]
    return kept
