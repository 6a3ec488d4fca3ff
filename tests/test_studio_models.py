"""Models in the studio: a run that is still training, and one of the Hub; what is offered, and what a recipe may ask for."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_hub
import numpy as np
import pytest
from chromium import Chromium, find
from huggingface_hub import constants

from cdcd_video import ImageToVideo, UserError
from cdcd_video.config.shipped_files import shipped_folder
from cdcd_video.studio.model_names import known_models
from cdcd_video.studio.model_shelf import ModelShelf

ROOT = Path(__file__).resolve().parent.parent
TEXT = "the red circle moves right"
PATIENCE_S = 600


def run_that_trains(place: Path, model: Path, name: str = "going", done: str = "diffusion: 20 of 40 steps") -> Path:
    """A run folder as it is after a checkpoint of its diffusion."""
    folder = place / "runs" / name
    shutil.copytree(model, folder / "model")
    shutil.copyfile(model / "config.yaml", folder / "config.yaml")
    set_state(folder, done)
    return folder


def set_state(run: Path, done: str) -> None:
    facts = run / "model" / "model.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"unfinished": done}))


# ------------------------------------------------------------------------------------------------------- without a page


def test_an_open_shelf_offers_what_is_on_this_machine(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_that_trains(tmp_path, tiny_model)
    run_that_trains(tmp_path, tiny_model, "many/one")
    run_that_trains(tmp_path, tiny_model, "ablations/contrast/base-8")  # where `ablate` puts it
    (tmp_path / "runs" / "empty").mkdir()
    cached = tmp_path / "hub" / "models--some--model--2" / "snapshots" / "0a1b"
    cached.mkdir(parents=True)
    (cached / "denoiser.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    known = known_models()
    assert (
        "sprites" in known
        and {"runs/going", "runs/many/one", "runs/ablations/contrast/base-8"} < {*known}
        and "runs/empty" not in known
    )
    assert known[-1] == "some/model--2"
    for run in ("going", "many/one"):  # copied together: equally new
        os.utime(tmp_path / "runs" / run / "model" / "model.json", (2e9, 2e9))
    newest = [name for name in known_models() if name.startswith("runs/")][:2]
    assert newest == ["runs/going", "runs/many/one"]
    assert ModelShelf(["sprites"]).offered() == ["sprites"]
    assert {*ModelShelf(["runs/going"], is_open=True).offered()} == {*known}


def test_a_run_that_trains_says_so_and_when_it_has_newer_weights(tiny_model: Path, tmp_path: Path):
    run = run_that_trains(tmp_path, tiny_model)
    loaded = ModelShelf([str(run)]).get("")
    (note,) = loaded.notes
    assert note.endswith("is still training, or was stopped; its weights are those of diffusion: 20 of 40 steps")
    set_state(run, "diffusion: 30 of 40 steps")
    assert loaded.notes[1] == (
        "newer weights are there, of diffusion: 30 of 40 steps; load the model again to sample with them"
    )
    set_state(run, "")
    assert "of its end" in loaded.notes[1]
    assert ModelShelf([str(tiny_model)]).get("").notes == []


def test_a_run_without_a_model_yet_is_told_apart(tiny_model: Path, tmp_path: Path):
    shutil.copyfile(tiny_model / "config.yaml", tmp_path / "config.yaml")
    with pytest.raises(UserError, match="contains no model yet: a run has one from the first checkpoint of its diff"):
        ModelShelf([str(tmp_path)]).get("")


def test_only_what_is_here_or_offered_may_be_asked_for_by_a_recipe(tiny_model: Path):
    shelf = ModelShelf(["some/model"], is_open=True)
    assert shelf.is_here("some/model") and shelf.is_here("sprites") and shelf.is_here(str(tiny_model))
    assert not shelf.is_here("somebody/else") and not shelf.is_here("/etc")
    assert not ModelShelf(["sprites"]).is_here(str(tiny_model))


# ------------------------------------------------------------------------------------------------------------- the page


@dataclass
class Place:
    """A studio in a process of its own, in a folder with a run that trains, and a Hub on this machine."""

    address: str
    run: Path
    hub: fake_hub.FakeHub

    def visitor(self) -> Any:
        from gradio_client import Client

        client = Client(self.address, verbose=False, analytics_enabled=False, httpx_kwargs={"timeout": PATIENCE_S})
        client.predict("red-circle", TEXT, "sprites", api_name="/example")
        return client


@pytest.fixture(scope="module")
def place(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    pytest.importorskip("gradio", reason="the extra studio is not installed")
    folder = tmp_path_factory.mktemp("place")
    run = run_that_trains(folder, tiny_model)
    hub = fake_hub.FakeHub()
    hub.add_folder("some/model", tiny_model)
    with fake_hub.running(hub):
        known = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(folder / "cache")}
        known |= {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-m", "cdcd_video.studio", "--port", "0"]
        process = subprocess.Popen(command, cwd=folder, env=known, stdout=subprocess.PIPE, text=True)
        try:
            yield Place(process.stdout.readline().strip(), run, hub)
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()


def sampled(visitor: Any, model: str) -> tuple[np.ndarray, str]:
    """The frames of a short video, and the status."""
    from studio_server import videos_in

    settings = [3, 8, 2, 1.0, 0.3, 0.0, "0", 1.0, 0, "ancestral", 0, 0, "sampled", "decoded", "euler"]
    view, _, status, *_ = visitor.predict(TEXT, "", 1, "", model, "as trained", *settings, api_name="/sample")
    (video,) = videos_in(view)
    return video, status


def test_a_run_that_trains_is_chosen_and_its_newer_weights_are_told_of(place: Place):
    visitor = place.visitor()
    _, status, *_ = visitor.predict(TEXT, "runs/going", "as trained", api_name="/load_model")
    assert "runs/going is loaded" in status and "those of diffusion: 20 of 40 steps" in status
    set_state(place.run, "diffusion: 40 of 40 steps")
    video, status = sampled(visitor, "runs/going")
    assert len(video) == 3 and "newer weights are there, of diffusion: 40 of 40 steps" in status
    _, status, *_ = visitor.predict(TEXT, "runs/going", "as trained", api_name="/load_model")
    assert "those of diffusion: 40 of 40 steps" in status and "newer" not in status


def test_the_starting_frame_is_shown_as_the_model_that_is_loaded_gets_it(place: Place, tiny_model: Path):
    from studio_server import pictures_in

    visitor, tiny_px = place.visitor(), ImageToVideo.from_pretrained(tiny_model, "cpu").size_px
    sizes = {}
    for model in ("runs/going", "sprites"):
        view, *_ = visitor.predict(TEXT, model, "as trained", api_name="/load_model")
        (shown,) = pictures_in(view)
        sizes[model] = shown.shape[:2]
    assert sizes == {"runs/going": (tiny_px, tiny_px), "sprites": (64, 64)} and tiny_px != 64


def test_a_model_of_the_hub_is_chosen_by_its_id(place: Place, tiny_model: Path):
    from gradio_client.exceptions import AppError

    visitor, pipe = place.visitor(), ImageToVideo.from_pretrained(tiny_model, "cpu")
    _, status, *_ = visitor.predict(TEXT, "some/model", "as trained", api_name="/load_model")
    assert f"some/model is loaded: sha256 {pipe.model.digest[:12]}" in status
    video, _ = sampled(visitor, "some/model")
    start = shipped_folder("examples") / "red-circle.png"
    same = pipe(start, TEXT, num_frames=3, num_steps=2, decoded="sampled", unchanged="decoded", lookback_s=0)
    assert (video == same.frames).all()
    with pytest.raises(AppError, match="there is no model &#x27;no/body&#x27; on the Hub"):
        visitor.predict(TEXT, "no/body", "as trained", api_name="/load_model")


def test_a_recipe_of_a_stranger_downloads_nothing(place: Place, tiny_model: Path, tmp_path: Path):
    from gradio_client import handle_file

    pipe = ImageToVideo.from_pretrained(tiny_model, "cpu")
    pipe.checkpoint = "somebody/else"
    video = pipe(shipped_folder("examples") / "red-circle.png", TEXT, num_frames=3)
    asked = len(place.hub.asked)
    held = place.visitor().predict(handle_file(video.save(tmp_path / "x.webp")), "sprites", api_name="/open_recipe")
    status = held[8]
    assert "is of another model (somebody/else, sha256" in status and held[5] == "sprites"
    assert len(place.hub.asked) == asked


@pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine")
def test_both_are_chosen_in_a_browser(place: Place, tmp_path: Path):
    from test_studio_browser import FINISHED, HELPERS, READY, pressed

    browser = Chromium(tmp_path / "profile", PATIENCE_S)
    try:
        tab = browser.tab(place.address, 1280, 900)
        tab.wait("document.querySelector('.studio img.start')", PATIENCE_S)
        tab.value(HELPERS)
        tab.wait(READY, PATIENCE_S)
        pressed(tab, "Model")
        tab.wait("text('Model')", PATIENCE_S)
        for name, words in (("runs/going", "of 40 steps"), ("some/model", "some/model is loaded")):
            tab.value("text('Model').focus(), text('Model').select()")
            tab.type(name)
            tab.press("Enter")
            pressed(tab, "Load the model")
            tab.wait(f"document.body.innerText.includes({json.dumps(words)})", PATIENCE_S)
        pressed(tab, "Sample")
        tab.wait(FINISHED, PATIENCE_S)
        tab.picture(tmp_path / "models.png")
        assert tab.complaints() == []
    finally:
        browser.close()
