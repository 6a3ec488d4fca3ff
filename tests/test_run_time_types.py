"""Types and shapes are checked at every call of the package while tests run; `shapes` says how."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import jaxtyping
import pytest

import cdcd_video

NAMES = sorted(found.name for found in pkgutil.walk_packages(cdcd_video.__path__, "cdcd_video."))
UNCHECKED = {object, typing.Any, inspect.Parameter.empty}
"""Annotations that every value meets."""


class Wrong:
    """What no function of the package takes."""


def own_functions(module: ModuleType) -> Iterator[Callable[..., Any]]:
    """The functions and methods that a module defines."""
    for holder in (module, *filter(inspect.isclass, vars(module).values())):
        if holder is module or holder.__module__ == module.__name__:
            for value in vars(holder).values():
                if inspect.isfunction(value) and value.__module__ == module.__name__:
                    yield value


def wrong_call(functions: Iterator[Callable[..., Any]]) -> Callable[[], Any] | None:
    """A call of the first function with a parameter of a class of its own, none of whose arguments is right."""
    for function in functions:
        if inspect.iscoroutinefunction(function):  # its arguments are checked when it is awaited
            continue
        parameters = inspect.signature(function).parameters.values()
        named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        if any(inspect.isclass(one.annotation) and one.annotation not in UNCHECKED for one in named):
            by_name = {one.name: Wrong() for one in named if one.kind is one.KEYWORD_ONLY}
            return partial(function, *[Wrong()] * (len(named) - len(by_name)), **by_name)
    return None


def test_a_wrong_argument_is_refused_in_every_module():
    refused = []
    for name in NAMES:
        module = importlib.import_module(name)
        assert type(module.__spec__.loader).__module__.startswith("jaxtyping."), f"{name} is not checked"
        if call := wrong_call(own_functions(module)):
            with pytest.raises(jaxtyping.TypeCheckError):
                call()
            refused.append(name)
    assert len(refused) > 0.75 * len(NAMES), "hardly a module is without such a function"
