"""Fixtures for the whole suite."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import shapes
import sweeps
from chromium import Chromium


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real clips and reference numbers beside the checkout; only tests marked `shared` may ask for it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        reason = f"{folder} is absent: real clips and reference numbers are not part of the project"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session", autouse=True)
def is_scheduled_as_before() -> Iterator[None]:
    """No test leaves this process in another class of scheduling, which what is measured later, and the machine, would feel."""
    before = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
    yield
    assert before is None or os.sched_getscheduler(0) == before


@pytest.fixture(scope="module", autouse=True)
def are_shapes_checked(request: pytest.FixtureRequest) -> None:
    jaxtyping.config.update("jaxtyping_disable", request.module.__name__ in shapes.WHOLE_LINES)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A headless Chromium; only tests that are skipped where there is none may ask for it."""
    opened = Chromium(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


# Models and runs that many tests look at. They are made here, and not in the tests' own files, so that each is made once:
# a fixture that a file imports is made anew for that file. What is harmed by a test is copied before.


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a whole model of `configs/tiny.yaml` with random weights."""
    from fixtures_model import write_model  # loads torch, which half of the tests do without

    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def restless_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `tiny_model`, but it samples codes almost evenly, so that every frame differs from the first."""
    from fixtures_model import write_model

    return write_model(tmp_path_factory.mktemp("model"), "sample.temperature=10")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of `fixtures_model.trained_config()`, trained through all its stages in one go."""
    from fixtures_model import trained_config

    from cdcd_video.training.training_run import TrainingRun

    out = tmp_path_factory.mktemp("trained") / "run"
    with shapes.unchecked():
        TrainingRun(trained_config(), out, ["test"]).train()
    return out


# A sweep is a test with many cases that differ little. `make test` runs some of them, always the same; `make test-all` all.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run every case of every sweep, not a sample of them")


def pytest_configure(config: pytest.Config) -> None:
    sweeps.IS_WHOLE = config.getoption("--all")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported now stays to the end: looking for garbage in it, again and again, takes a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what belongs to the whole of a sweep alone; and refuses a test that reads ../shared and does not say so."""
    for item in items:
        if "shared_dir" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("shared"):
            raise pytest.UsageError(f"{item.nodeid} reads ../shared; mark it with @pytest.mark.shared")
    if config.getoption("--all"):
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sweep"):
            cases.setdefault(item.nodeid.split("[")[0], []).append(item)
    left_out = {item for own in cases.values() for item in own} - {
        item for own in cases.values() for item in sweeps.sample(own)
    }
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
