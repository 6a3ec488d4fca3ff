"""Drawing does no work twice, asks the device for nothing on the way, and hands frames on while later ones are drawn."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import as_without_checks
from torch.utils._python_dispatch import TorchDispatchMode

from cdcd_video import ImageToVideo, video
from cdcd_video.diffusion import process, sampler
from cdcd_video.errors import UserError
from cdcd_video.networks.transformer import Attention
from cdcd_video.sampling.latent_pipeline import DECODE_BATCH

TWO = [(0, "the red circle moves right"), (3, "the red circle moves left")]


@pytest.fixture(scope="module")
def pipe() -> ImageToVideo:
    return ImageToVideo.from_pretrained("sprites", device="cpu")


@pytest.fixture(scope="module")
def start() -> np.ndarray:
    return np.random.Generator(np.random.Philox(0)).integers(0, 256, (64, 64, 3), dtype=np.uint8)


# ------------------------------------------------------------------------------------------------------- nothing twice


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_a_sentence_is_read_once_while_it_holds_and_a_source_once_a_frame(
    pipe, start, guidance: float, monkeypatch: pytest.MonkeyPatch
):
    read, prepared, steps = [], [], []
    of_context = Attention.keys_values
    denoiser = pipe.model.denoiser
    words = pipe.model.clip.encode_text([TWO[0][1]]).tokens.shape[-1]

    def counted(self, context):
        if context.shape[-1] == words:
            read.append(len(context))
        return of_context(self, context)

    monkeypatch.setattr(Attention, "keys_values", counted)
    prepare, forward = denoiser.prepare, denoiser.forward
    monkeypatch.setattr(denoiser, "prepare", lambda *given: prepared.append(1) or prepare(*given))
    monkeypatch.setattr(denoiser, "forward", lambda *given: steps.append(len(given[0])) or forward(*given))
    params = pipe.defaults(num_frames=6, num_steps=4, guidance=guidance)
    pipe.roll_out(start[None], [TWO], params, [0])
    rows = 1 if guidance == 1 else 2
    assert read == [rows] * 2 * len(denoiser.blocks), "two sentences, each read once by each block"
    assert len(prepared) == 5 and steps == [rows] * 20, "five frames of four steps, guidance in one batch"


def test_what_is_remembered_of_a_sentence_changes_no_bit(pipe, start):
    params = pipe.defaults(num_frames=5, num_steps=2, guidance=1.5)
    kept = pipe.roll_out(start[None], [TWO], params, [0])
    sampler, next_frame = pipe.sampler, pipe.sampler.next_frame

    def forgetful(*given):
        sampler._caption_cache = None
        return next_frame(*given)

    sampler.next_frame = forgetful
    try:
        assert torch.equal(kept, pipe.roll_out(start[None], [TWO], params, [0]))
    finally:
        del sampler.next_frame


# ----------------------------------------------------------------------------------------------- nothing asked on the way


class NothingAsked(TorchDispatchMode):
    """Fails at whatever would make a processor wait for a GPU: reading a number, or a shape that depends on numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        asks = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique_dim", "_unique2", "equal"}
        name = func.overloadpacket.__name__
        assert name not in asks, f"{name} makes the processor wait"
        by_mask = name in {"index", "index_put", "index_put_"} and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        )
        assert not by_mask, f"{name} by a mask makes the processor wait"
        assert name != "repeat_interleave" or (kwargs or {}).get("output_size") is not None, "its size is asked for"
        return func(*args, **(kwargs or {}))


def test_the_alarm_rings():
    for asking in (lambda x: x.sum().item(), lambda x: bool((x > 0).all()), lambda x: x[x > 0], lambda x: x.nonzero()):
        with pytest.raises(AssertionError, match="wait"), NothingAsked():
            asking(torch.ones(3))


@pytest.mark.parametrize("order", sampler.SAMPLERS)
def test_no_number_is_read_inside_a_sampler(pipe, start, order: str, monkeypatch: pytest.MonkeyPatch):
    # These two look at numbers on the CPU only: the times, which always are there, and times of a walk on a CPU.
    monkeypatch.setattr(process, "check_order", lambda s, t: None)
    monkeypatch.setattr(sampler, "_checked", lambda num_steps, *_: sampler.even_times(num_steps))
    text = pipe.model.clip.encode_text([TWO[0][1]])
    source = pipe.sampler.begin(pipe.encode(start[None]))
    seconds = torch.full((1,), 0.125)
    condition = sampler_condition(source, seconds, text)
    params = pipe.defaults(num_steps=3, guidance=1.5, temperature=0.7, top_p=0.9, order=order)
    streams = [torch.Generator().manual_seed(0)]
    with NothingAsked(), torch.no_grad():
        drawn = pipe.sampler.next_frame(condition, params, streams)
    assert drawn.shape == source.shape


def sampler_condition(source, seconds, text):
    from cdcd_video.networks.denoiser import Condition

    return Condition(source, source, torch.ones(1, dtype=torch.bool), seconds, seconds, text)


# ------------------------------------------------------------------------------------------------------ handed on in parts


def test_a_stream_is_the_video_in_parts(pipe, start, monkeypatch):
    as_without_checks(
        monkeypatch, ImageToVideo, "stream", "_begin"
    )  # warnings are of this line, where they are no errors
    params = pipe.defaults(num_frames=DECODE_BATCH + 3)
    drawn = []
    parts = pipe.stream(start, TWO[0][1], params, drawn.append)
    first = next(parts)
    assert len(first) == DECODE_BATCH and len(drawn) == DECODE_BATCH - 1, "no frame ahead of what is asked for"
    frames = np.concatenate([first, *parts])
    assert np.array_equal(frames[0], start)
    assert np.array_equal(frames, pipe.sample(start[None], [TWO[0][1]], params, [params.seed])[0])


def some_frames(count: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(1)).integers(0, 256, (count, 17, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x.webp", "x"])
def test_parts_give_the_same_bytes(name: str, tmp_path: Path):
    frames = some_frames(9)
    whole = video.save(frames, tmp_path / "whole" / name, 8, scale=2)
    (again,) = video.save_while_sampled(iter([frames[:4], frames[4:]]), [(tmp_path / "parts" / name, 2)], 8)
    files = sorted(whole.iterdir()) if whole.is_dir() else [whole]
    others = sorted(again.iterdir()) if again.is_dir() else [again]
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in others]


def test_parts_are_written_while_later_ones_are_made_and_few_wait(tmp_path: Path):
    frames, written, made = some_frames(20), threading.Event(), []
    write = video._WRITERS[".mp4"]

    def watched(given, path, fps, recipe):
        def seen():
            for number, frame in enumerate(given):
                if number == 2:
                    written.set()
                yield frame

        write(seen(), path, fps, recipe)

    def parts():
        for number in range(20):
            made.append(number)
            if number == 10:
                assert written.wait(30), "nothing is written before all is drawn"
            yield frames[number : number + 1]

    video._WRITERS[".mp4"] = watched
    try:
        video.save_while_sampled(parts(), [(tmp_path / "x.mp4", 1), (tmp_path / "folder", 1)], 8)
    finally:
        video._WRITERS[".mp4"] = write
    assert len(list((tmp_path / "folder").iterdir())) == 20 and (tmp_path / "x.mp4").stat().st_size > 0


def test_failed_sampling_leaves_nothing_behind(tmp_path: Path):
    def parts():
        yield some_frames(2)
        raise UserError("out of paint")

    with pytest.raises(UserError, match="out of paint"):
        video.save_while_sampled(parts(), [(tmp_path / "x.mp4", 1), (tmp_path / "folder", 1)], 8)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_writer_stops_the_sampling(tmp_path: Path):
    made = []

    def parts():
        for _ in range(1000):
            made.append(1)
            yield some_frames(1)

    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="is a file"):
        video.save_while_sampled(parts(), [(tmp_path / "taken", 1), (tmp_path / "x.mp4", 1)], 8)
    assert len(made) < 1000 and [file.name for file in tmp_path.iterdir()] == ["taken"]
