"""What is left out of a sweep on every day: never a value, and never by chance."""

import itertools
from types import SimpleNamespace

import pytest
import sweeps


def items(*axes: int, **mark: int) -> list[SimpleNamespace]:
    """Cases of a test with so many values of each parameter."""
    found = SimpleNamespace(kwargs=mark)
    cases = itertools.product(*map(range, axes))
    return [
        SimpleNamespace(
            callspec=SimpleNamespace(params=dict(zip("abcde", case, strict=False))), get_closest_marker=lambda _: found
        )
        for case in cases
    ]


@pytest.mark.parametrize("axes", [(8, 4, 2), (1, 1), (3, 3), (2, 5, 5)])
def test_every_value_of_every_parameter_is_in_some_case_and_few_cases_are_kept(axes: tuple[int, ...]):
    every = items(*axes)
    kept = sweeps.sample(every)
    for name, size in zip("abcde", axes, strict=False):
        assert {item.callspec.params[name] for item in kept} == set(range(size))
    assert len(kept) <= sum(axes) - len(axes) + 1 and len(kept) >= max(axes)
    assert kept == sweeps.sample(every), "nothing is drawn"


def test_of_one_parameter_so_many_values_are_kept_as_the_mark_says():
    kept = sweeps.sample(items(9, most=3))
    assert [item.callspec.params["a"] for item in kept] == [0, 4, 8]
    assert len(sweeps.sample(items(9))) == 9 and len(sweeps.sample(items(2, most=5))) == 2


@pytest.mark.sweep
@pytest.mark.parametrize("of_three", [1.5, None, "x"])
@pytest.mark.parametrize("of_four", [(0,), [1], {"a": 2}, print])
def test_of_two_parameters_of_this_suite_few_pairs_are_kept(of_three, of_four, request: pytest.FixtureRequest):
    kept = [item.callspec.params for item in request.session.items if item.originalname == request.node.originalname]
    assert sweeps.IS_WHOLE or len(kept) <= 6


def test_examples_are_a_share_of_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweeps, "IS_WHOLE", False)
    assert sweeps.examples(300) == 50 and sweeps.examples(5) == 2
    monkeypatch.setattr(sweeps, "IS_WHOLE", True)
    assert sweeps.examples(300) == 300


def test_all_cases_are_run_where_it_is_asked_for(pytestconfig: pytest.Config, request: pytest.FixtureRequest):
    """And where it is not, those that are left out are told as deselected."""
    own = [item for item in request.session.items if item.get_closest_marker("sweep")]
    by_test = {}
    for item in own:
        by_test.setdefault(item.nodeid.split("[")[0], []).append(item)
    if pytestconfig.getoption("--all"):
        assert sweeps.IS_WHOLE
    else:
        assert all(set(sweeps.sample(kept)) == set(kept) for kept in by_test.values()), "a sample of a sample is itself"
