"""Memory that there is not: told before anything is begun where it can be known, and in a sentence where it runs out."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_model import ROOT
from pydantic import ValidationError

from cdcd_video import ImageToVideo
from cdcd_video.config import Config, config_file
from cdcd_video.errors import UserError, exit_code, is_out_of_memory
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.request import Request, Target, write
from cdcd_video.sampling.captions import CaptionSchedule
from cdcd_video.storage import memory
from cdcd_video.training import preflight, training_run
from cdcd_video.training.stage_order import STAGES

SHORT = (
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    RuntimeError("not enough memory: you tried to allocate 4000000000000 bytes"),
    RuntimeError("Storage size calculation overflowed with sizes=[1000000000, 1000000000, 1000000000]"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory"),
)


def tiny(*changes: str) -> Config:
    return config_file.load(ROOT / "configs" / "tiny.yaml", Config, changes)


@pytest.mark.parametrize("error", SHORT, ids=lambda error: type(error).__name__)
def test_lack_of_memory_is_one_sentence_wherever_it_is_met(error, tiny_model: Path, monkeypatch, capsys):
    def short(*_: object, **__: object) -> None:
        raise error

    assert exit_code(short) == 2
    assert capsys.readouterr().err.startswith("error: out of memory; free some, or")
    pipe = ImageToVideo.from_pretrained(tiny_model, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(pipe.sampler, "next_frame", short)
        start = np.zeros((32, 32, 3), np.uint8)
        for asked in (
            lambda: pipe(start, "the red circle moves right"),
            lambda: list(pipe.stream(start, "the red circle moves right", pipe.defaults())),
            lambda: pipe.sample(start[None], ["the red circle moves right"], pipe.defaults(), [0]),
        ):
            with pytest.raises(UserError, match="sampling a video ran out of memory; free some memory, or use fewer"):
                asked()
    for place in ("cdcd_video.networks.clip.plain_towers.config_of", "cdcd_video.storage.tensor_file.load_file"):
        with monkeypatch.context() as patch:
            patch.setattr(place, short)
            with pytest.raises(UserError, match=f"loading the model {tiny_model} ran out of memory; free some memory"):
                ImageToVideo.from_pretrained(tiny_model, "cpu")


def test_messages_of_torch_about_memory_are_known():
    for ask in (lambda: torch.empty(10**15), lambda: torch.empty(10**9, 10**9, 10**9), lambda: np.zeros(10**15)):
        with pytest.raises((RuntimeError, MemoryError)) as told:
            ask()
        assert is_out_of_memory(told.value)
    assert not is_out_of_memory(ValueError("x")) and not is_out_of_memory(OSError(errno.ENOENT, "x"))


def test_other_faults_stay_what_they_are():
    def faulty() -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        exit_code(faulty)
    with pytest.raises(RuntimeError, match="shapes do not fit"), memory.user_error_when_out("x", "y"):
        faulty()


@pytest.mark.parametrize("stage", STAGES)
def test_a_batch_or_a_width_beyond_all_memory_is_refused_before_anything_is_made(
    stage: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(memory, "total_bytes", lambda: 16 * 10**9)
    cpu = torch.device("cpu")
    preflight.check_training(tiny(), stage, cpu)
    config = tiny(f"train.{stage}.batch_size=1000000000")
    with pytest.raises(
        UserError, match=rf"a step of the stage {stage} with a batch of 1,000,000,000 needs at least .*B of memory"
    ):
        preflight.check_training(config, stage, cpu)
    if stage != "eye":
        wide = {"clip": "clip.vision_width", "codec": "codec.decoder_width", "decoder": "codec.decoder_width"}
        config = tiny(f"{wide.get(stage, 'denoiser.width')}=1000000")
        with pytest.raises(UserError, match=f"stage {stage} .* lower train.{stage}.batch_size, or the sizes"):
            preflight.check_training(config, stage, cpu)


def test_a_run_is_refused_before_its_first_stage_for_what_the_last_needs(tmp_path: Path, monkeypatch):
    run = training_run.TrainingRun(
        tiny("train.refine.batch_size=1000000000", "data.num_clips=2"), tmp_path / "run", ["test"]
    )
    monkeypatch.setattr(run, "_train_clip", lambda: pytest.fail("it was begun"))
    with pytest.raises(UserError, match="a step of the stage refine with a batch of 1,000,000,000 needs at least"):
        run.train()


def test_the_shipped_recipes_fit_into_small_machines():
    for name in ("tiny", "sprites", "gate", "clips_64"):
        config = config_file.load(ROOT / "configs" / f"{name}.yaml", Config)
        assert all(preflight.least_bytes(config, stage) < 2e9 for stage in STAGES)


@pytest.mark.parametrize(
    "change",
    [
        "data.num_frames=1000000000",
        "data.size_px=1000000000",
        "data.num_clips=1000000000000",
        "codec.decoder_layers=100000",
    ],
)
def test_counts_that_would_go_on_for_ever_are_out_of_range(change: str):
    with pytest.raises(UserError, match=f"`{change.split('=')[0]}` is .* at most"):
        tiny(change)


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, 10**9) for name in ("num_videos", "num_frames", "size_px", "num_real", "fps")), ("fps", 1e-7)],
)
def test_so_are_those_of_a_protocol(name: str, value: float):
    with pytest.raises(ValidationError, match=name):
        Protocol(**{name: value})


def test_a_gif_that_does_not_fit_into_memory_is_refused_and_an_mp4_is_not_asked(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(memory, "total_bytes", lambda: 10**9)
    request = Request(np.zeros((8, 8, 3), np.uint8), "x", "0", CaptionSchedule.of("x"), "x", "cpu", {}, 32, None)
    parts = iter([np.zeros((1, 64, 64, 3), np.uint8)])
    target = Target(tmp_path / "x.gif", tmp_path / "x.json", None)
    with pytest.raises(UserError, match=r"a .gif of this length and scale needs at least 126 GB .* lower --scale"):
        write(parts, {"num_frames": 10_000}, target, request)
    assert not list(tmp_path.iterdir())


def test_the_memory_in_the_message_is_the_containers(tmp_path: Path, monkeypatch):
    (tmp_path / "max").write_text("1234\n")
    monkeypatch.setattr(memory, "_CGROUPS", (str(tmp_path / "max"),))
    assert memory.total_bytes() == 1234
    (tmp_path / "max").write_text("max\n")
    assert memory.total_bytes() > 10**8
    assert memory.size(1.5e9) == "1.5 GB"
    memory.check_fits(100, "x", "y", has=100)
    with pytest.raises(UserError, match="x needs at least 101 B of memory, but this machine has 100 B; y"):
        memory.check_fits(101, "x", "y", has=100)
