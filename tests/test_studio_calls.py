"""The studio's handlers as a program calls them: empty fields and odd values are sentences, as everything else is."""

import math
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cdcd_video.errors import UserError
from cdcd_video.studio import start_frame
from cdcd_video.studio.model_shelf import LoadedModel
from cdcd_video.studio.page_events import PageEvents
from cdcd_video.studio.sampling_session import SamplingSession
from cdcd_video.studio.setting_fields import FURTHER, MAIN
from cdcd_video.studio.start_frame import StartFrame
from cdcd_video.studio.studio_limits import Limits

START = StartFrame(np.zeros((8, 8, 3), np.uint8))


class OnPage(Exception):
    """What Gradio shows as a message."""

    def __init__(self, message: str, **_: Any):
        super().__init__(message)


@pytest.fixture(autouse=True)
def gradio(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for what the handlers use of Gradio, which is not installed everywhere; returns its warnings."""
    module, warnings = ModuleType("gradio"), []
    module.Error, module.Warning = OnPage, lambda message, **_: warnings.append(message)
    module.skip, module.Dropdown, module.Slider = (lambda **given: given,) * 3
    monkeypatch.setitem(sys.modules, "gradio", module)
    return warnings


def events() -> PageEvents:
    loaded = SimpleNamespace(pipe=None, name="x", notes=[], turn=threading.Lock())
    return PageEvents(SimpleNamespace(get=lambda *_, **__: loaded), Limits())


def sample(num_seeds: Any = 1) -> list[Any]:
    settings = [None] * len((*MAIN, *FURTHER))
    return list(events().sample(START, "it moves", "", num_seeds, "", "x", "as trained", *settings))


@pytest.mark.parametrize("count", [None, 1.5, 0, -1, math.nan, math.inf, True])
def test_a_number_of_seeds_that_is_none_is_a_sentence(count: Any):
    with pytest.raises(OnPage, match=rf"^the number of seeds is {count}; it must be a whole number from 1 on$"):
        sample(count)


@pytest.mark.parametrize("num_frames", [0, 1])
def test_what_stops_the_first_frame_is_what_is_said(
    num_frames: int, gradio: list[str], monkeypatch: pytest.MonkeyPatch
):
    def run() -> Any:
        raise UserError("sampling a video needs more memory than there is")
        yield

    params = SimpleNamespace(num_frames=4)
    session = SimpleNamespace(num_frames=num_frames, params=[params], labels=["1: seed 0"], run=run, notes=[])
    monkeypatch.setattr(SamplingSession, "of", lambda *_: session)
    monkeypatch.setattr(PageEvents, "_result", lambda *_: ("videos",))
    if num_frames:  # and what was sampled before is shown
        assert sample() == [(session, "videos")] and "more memory" in gradio[0]
    else:
        with pytest.raises(OnPage, match="more memory"):
            sample()


def test_an_empty_field_for_the_frame_is_a_sentence():
    session = SimpleNamespace(params=[None], videos=[np.zeros((3, 8, 8, 3), np.uint8)])
    for frame in (None, 3, -1, math.nan):
        with pytest.raises(OnPage, match=f"^the video has no frame {frame}; choose one from 0 to 2$"):
            events().go_on(session, 0, frame, "it moves", "x", "as trained")


def test_shapes_need_a_place_and_a_square():
    square, wide = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 12, 3), np.uint8)
    for x, y in ((None, 0.5), (0.5, None), (math.nan, 0.5), (2, 0.5)):
        with pytest.raises(UserError, match=f"^the place is {x}, {y}; both go from 0 to 1"):
            start_frame.with_shape(square, "circle", "red", "large", x, y)
    with pytest.raises(UserError, match="the canvas has 12 x 8 px, and shapes are put on square ones; clear it"):
        start_frame.with_shape(wide, "circle", "red", "large", 0.5, 0.5)


def test_a_run_that_was_moved_is_sampled_from_memory(tmp_path: Path):
    model = SimpleNamespace(unfinished="step 20", folder=tmp_path / "gone")
    loaded = LoadedModel("x", SimpleNamespace(model=model), None)
    assert loaded.notes == ["x is still training, or was stopped; its weights are those of step 20"]
