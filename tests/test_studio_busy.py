"""What is chosen in the studio while its page is still at work: nothing is dropped, and nothing is put back."""

import json
import shutil
import threading
from pathlib import Path

import pytest
from chromium import Chromium, Tab, find

pytest.importorskip("gradio", reason="the extra studio is not installed")
from studio_server import Studio, served
from test_studio_browser import PATIENCE_S, opened, pressed

from cdcd_video.studio.model_shelf import ModelShelf
from cdcd_video.studio.studio_limits import Limits

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine")


@pytest.fixture
def names(tiny_model: Path, tmp_path: Path) -> list[str]:
    """Of three models."""
    places = [tmp_path / name for name in ("one", "two", "three")]
    for place in places:
        shutil.copytree(tiny_model, place)
    return [str(place) for place in places]


@pytest.fixture
def studio(names: list[str]):
    with served(names[:1], Limits(), is_open=True) as running:
        yield running


@pytest.fixture
def browser(tmp_path: Path):
    opened_browser = Chromium(tmp_path / "profile", PATIENCE_S)
    yield opened_browser
    opened_browser.close()


def type_model(tab: Tab, name: str) -> None:
    tab.wait("text('Model')", PATIENCE_S)
    tab.value("text('Model').focus(), text('Model').select()")
    tab.type(name)
    tab.press("Enter")


def test_a_model_that_is_typed_while_another_loads_is_loaded_next(
    studio: Studio, browser: Chromium, names: list[str], monkeypatch: pytest.MonkeyPatch
):
    inner, may_go_on, begun = ModelShelf.get, threading.Event(), threading.Event()

    def get(self: ModelShelf, name: str, *, is_anew: bool = False):
        if is_anew and name == names[1]:
            begun.set()
            assert may_go_on.wait(PATIENCE_S)
        return inner(self, name, is_anew=is_anew)

    monkeypatch.setattr(ModelShelf, "get", get)
    tab = opened(browser, studio)
    pressed(tab, "Model")
    type_model(tab, names[1])
    pressed(tab, "Load the model")
    assert begun.wait(PATIENCE_S)
    type_model(tab, names[2])
    pressed(tab, "Load the model")
    may_go_on.set()
    tab.wait(f"document.body.innerText.includes({json.dumps(f'{names[2]} is loaded')})", 60)


def test_a_name_that_is_typed_before_the_offered_models_come_stays(
    studio: Studio, browser: Chromium, names: list[str], monkeypatch: pytest.MonkeyPatch
):
    may_go_on, new = threading.Event(), "a new run"

    def offered(self: ModelShelf) -> list[str]:
        assert may_go_on.wait(PATIENCE_S)
        return [names[0], new]

    monkeypatch.setattr(ModelShelf, "offered", offered)
    tab = opened(browser, studio)
    pressed(tab, "Model")
    type_model(tab, names[2])
    may_go_on.set()
    tab.value("text('Model').focus()")
    tab.wait(f"document.querySelector('[role=option][aria-label={json.dumps(new)}]')", PATIENCE_S)
    assert tab.value("text('Model').value") == names[2]
    pressed(tab, "Load the model")
    tab.wait(f"document.body.innerText.includes({json.dumps(f'{names[2]} is loaded')})", 60)
