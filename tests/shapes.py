"""Types and shapes are checked at every call while tests run, by beartype with jaxtyping; here is how, and where not.

They are left out in trainings and evaluations of whole models, a third of whose time they are. The tests of the parts check
them, and those of the whole line in `test_line`.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype

WHOLE_LINES = {
    *(
        "test_ablate",
        "test_batch",
        "test_bench",
        "test_bench_data",
        "test_build",
        "test_cache",
        "test_calls",
        "test_sampling_speed",
    ),
    *("test_encode", "test_evaluate", "test_evaluate_videos", "test_explain", "test_external_videos", "test_guidance"),
    *("test_i2v_configs", "test_inference", "test_kill_resume", "test_latents", "test_natural_calls"),
    *("test_networks", "test_ruler"),
    *("test_report_browser", "test_scaling", "test_step_encoder", "test_studio", "test_studio_browser", "test_tools"),
    "test_studio_calls",  # stand-ins and odd values, as they are outside the tests
    "test_watch",
}
"""Modules in which nothing else is done."""


def as_without_checks(patch: pytest.MonkeyPatch, owner: type, *methods: str) -> None:
    """Methods as they are outside the tests: a check is a call of its own, and warnings count calls up to the user's line."""
    for name in methods:
        patch.setattr(owner, name, inspect.unwrap(getattr(owner, name)))


@contextmanager
def unchecked() -> Iterator[None]:
    """Inside, shapes are not checked."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype, for which an int is a float too (PEP 484). Made at the first call: most functions see none in a test file.

    jaxtyping caches compiled modules under this name; also those outside its packages that a checked module imports, and
    these without checks. Whoever adds a package in pyproject.toml gives this function another name, or they stay so.
    """
    made: Callable[..., Any] | None = None

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        if made is None:
            made = beartype(conf=BeartypeConf(is_pep484_tower=True))(function)
        return made(*args, **kwargs)

    return call
