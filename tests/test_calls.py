"""What a call from Python leaves as it was, and what it tells: threads, warnings, and what other libraries would say."""

import dataclasses
import logging.handlers
import queue
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import as_without_checks

import inference
from cdcd_video import ImageToVideo, SamplingWarning
from cdcd_video.errors import UserError, exit_code
from cdcd_video.kernels.threads import threads
from cdcd_video.networks.clip import plain_towers
from cdcd_video.sampling import latent_pipeline
from cdcd_video.sampling.notes import threads_of

CAPTION = "the red circle moves right"
START = np.full((32, 32, 3), 60, np.uint8)
OWN = 3
"""Threads that the caller has set: neither the model's number nor, on most machines, torch's own."""


@pytest.fixture(scope="module")
def pipe(tiny_model: Path) -> ImageToVideo:
    return ImageToVideo.from_pretrained(tiny_model, device="cpu")


@pytest.fixture
def own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(OWN)
    yield
    torch.set_num_threads(before)


def fresh() -> int:
    """Threads that a Python thread begins with."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


# --------------------------------------------------------------------------------------------------------- threads


@pytest.mark.usefixtures("own_threads")
def test_a_call_samples_with_the_models_threads_and_restores_the_callers(pipe: ImageToVideo):
    inside: list[tuple[int, int]] = []
    pipe(START, CAPTION, num_frames=2, progress=lambda _: inside.append((torch.get_num_threads(), fresh())))
    assert inside == [(1, OWN)]  # other threads that begin meanwhile do not notice
    assert (torch.get_num_threads(), fresh()) == (OWN, OWN)

    def fails(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(START, CAPTION, num_frames=2, progress=fails)
    with pytest.raises(UserError):
        pipe(START, "", num_frames=2)
    assert (torch.get_num_threads(), fresh()) == (OWN, OWN)


@pytest.mark.usefixtures("own_threads")
def test_all_sampling_restores_the_callers_threads(pipe: ImageToVideo):
    params, inside = pipe.defaults(num_frames=2), []

    def look(_: int) -> None:
        inside.append(torch.get_num_threads())

    codes = pipe.roll_out(START[None], [CAPTION], params, [0], look)
    pipe.sample(START[None], [CAPTION], params, [0], look)
    pipe.decode(codes, START[None])
    pipe.encode(START[None])
    assert inside == [1, 1] and torch.get_num_threads() == OWN


@pytest.mark.usefixtures("own_threads")
def test_a_stream_left_half_way_holds_nothing(pipe: ImageToVideo, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latent_pipeline, "DECODE_BATCH", 2)
    parts = pipe.stream(START, CAPTION, pipe.defaults(num_frames=3))
    assert torch.get_num_threads() == OWN
    assert len(next(parts)) == 2
    assert torch.get_num_threads() == OWN
    torch.set_num_threads(OWN + 1)  # what is set between two parts is kept as well
    assert len(next(parts)) == 1
    assert torch.get_num_threads() == OWN + 1
    assert next(parts, None) is None
    del parts
    assert torch.get_num_threads() == OWN + 1


@pytest.mark.usefixtures("own_threads")
def test_python_threads_that_sample_at_once_get_back_what_each_had(pipe: ImageToVideo):
    own, found = {0: None, 1: 2, 2: 5}, {}
    begin = threading.Barrier(len(own))

    def draw(number: int, mine: int | None) -> None:
        torch.get_num_threads()  # what a new thread sets before its first question, torch forgets
        if mine is not None:
            torch.set_num_threads(mine)
        begin.wait()
        frames = [pipe(START, CAPTION, num_frames=2, seed=7).frames for _ in range(2)]
        found[number] = torch.get_num_threads(), frames

    workers = [threading.Thread(target=draw, args=each) for each in own.items()]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    # The first has set nothing and began with what was set last: by the test, or by one of the two others.
    assert found[0][0] in (OWN, 2, 5)
    assert (found[1][0], found[2][0], torch.get_num_threads()) == (2, 5, OWN)
    frames = [drawn for _, each in found.values() for drawn in each]
    assert all(np.array_equal(frames[0], other) for other in frames)


@pytest.mark.usefixtures("own_threads")
def test_threads_nest_and_none_leaves_them():
    with threads(1):
        with threads(2):
            assert torch.get_num_threads() == 2
        with threads(None):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == OWN


@pytest.mark.parametrize(
    ("named", "width", "number"),
    [(0, 128, 1), (0, 4096, None), (3, 128, 3), (3, 4096, 3)],
)
def test_threads_follow_from_the_model_alone(pipe: ImageToVideo, named: int, width: int, number: int | None):
    config = pipe.model.config
    denoiser = config.denoiser.model_copy(update={"width": width})
    config = config.model_copy(update={"num_threads": named, "denoiser": denoiser})
    assert threads_of(dataclasses.replace(pipe.model, config=config)) == number


# -------------------------------------------------------------------------------------------------------- warnings

TOLD = {
    "a word that was never seen": (f"{CAPTION} majestically", {}, "never saw the words 'majestically'"),
    "a sentence that is cut": (" ".join([CAPTION] * 12), {}, "and the model reads the first 32"),
    "a sentence that is never used": ([(0, CAPTION), (9, CAPTION)], {}, "begins at frame 9 is never used"),
    "a rate that was never seen": (CAPTION, {"fps": 60.0}, "outside what the model was trained on"),
}


@pytest.mark.parametrize("case", TOLD)
def test_a_call_warns_once_and_names_the_users_line(pipe: ImageToVideo, case: str, monkeypatch: pytest.MonkeyPatch):
    as_without_checks(monkeypatch, ImageToVideo, "__call__", "stream", "_begin")
    caption, changes, words = TOLD[case]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pipe(START, caption, num_frames=2, **changes)
        pipe.stream(START, caption, pipe.defaults(num_frames=2, **changes))
    assert [one.category for one in told] == [SamplingWarning] * 2
    assert all(words in str(one.message) and one.filename == __file__ for one in told)
    assert len({one.lineno for one in told}) == 2


def test_sampling_for_many_does_not_warn(pipe: ImageToVideo):
    caption, changes, _ = TOLD["a rate that was never seen"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.sample(START[None], [caption], pipe.defaults(num_frames=1, **changes), [0])
        pipe(START, CAPTION, num_frames=1)


def test_a_warning_made_an_error_comes_before_anything_is_sampled(pipe: ImageToVideo):
    drawn: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", SamplingWarning)
        with pytest.raises(SamplingWarning):
            pipe(START, CAPTION, fps=60.0, progress=drawn.append)
    assert not drawn


def test_the_command_line_prints_the_same_notes_once(
    tmp_path: Path,
    tiny_model: Path,
    pipe: ImageToVideo,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    from PIL import Image

    Image.fromarray(START).save(tmp_path / "x.png")
    sentence = f"{CAPTION} majestically"
    asked = ["--frame", "x.png", "--text", sentence, "--num-frames", "2", "--fps", "60", "--out", "x.gif"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["inference.py", *asked, "--checkpoint", str(tiny_model)])
    assert exit_code(inference.main) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes == [f"note: {told}" for told in pipe.warnings(sentence, pipe.defaults(num_frames=2, fps=60.0))]


def test_no_other_library_talks_of_a_caption_that_is_cut(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plain_towers, "config_of", lambda files: None)  # as a published CLIP is read
    pipe = ImageToVideo.from_pretrained(tiny_model, device="cpu")
    long = TOLD["a sentence that is cut"][0]
    pipe.model.clip.tokenizer.deprecation_warnings.clear()  # transformers says it once in a tokenizer's life
    said = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(said)
    logging.getLogger("transformers").addHandler(handler)
    try:
        assert len(pipe.warnings(long, pipe.defaults())) == 1
        pipe.model.clip.encode_text([long])
        assert said.empty()
        pipe.model.clip.tokenizer([long])  # what would be heard otherwise
        assert "maximum sequence length" in said.get_nowait().getMessage()
    finally:
        logging.getLogger("transformers").removeHandler(handler)
