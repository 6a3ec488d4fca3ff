"""Every bad end of a training is one sentence: what happened, what is saved, how to go on. And the same command goes on."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_engine import Toy, assert_same_bits, go, lines, tensors

from cdcd_video.data.store import StoredClips
from cdcd_video.engine import checkpoint, failures
from cdcd_video.engine import log as engine_log
from cdcd_video.engine.checkpoint import latest
from cdcd_video.engine.log import Console
from cdcd_video.errors import UserError, exit_code


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    go(out)
    return out


class Vanishing(Toy):
    """Its data are gone from some step on."""

    def __init__(self, gone_at: int, error: Exception):
        super().__init__()
        self.gone_at, self.error = gone_at, error

    def batch(self, step):
        if step == self.gone_at:
            raise self.error
        return super().batch(step)


def sentence_of(out: Path, task: Toy, **changes) -> str:
    with pytest.raises(UserError) as caught:
        go(out, task, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "data/clips"), "cannot read or write data/clips"),
        (OSError(errno.EIO, "Input/output error"), "cannot read or write (input/output error)"),
        (
            UserError("data/clips/frames-00000.npy is missing; prepare the folder again."),
            "data/clips/frames-00000.npy is missing",
        ),
    ],
    ids=["vanished", "broken disk", "user's"],
)
def test_vanished_data_lose_no_step(whole, tmp_path, error, words):
    said = sentence_of(tmp_path, Vanishing(17, error))
    assert said.startswith(f"training toy stopped at step 18: {words}")
    assert said.endswith("step-00000017. Fix the cause, then run the same command again to resume.")
    assert latest(tmp_path, "toy").step == 17, "the steps before it are saved, not only those of the last checkpoint"
    go(tmp_path)
    assert_same_bits(latest(whole, "toy").folder, latest(tmp_path, "toy").folder)
    assert log(tmp_path) == log(whole)


def log(out: Path) -> list[dict]:
    """What was logged, without what the clock and the machine say."""
    of_the_machine = ("time_s", "samples_per_s", "idle_share", "memory_gib")
    return [{key: value for key, value in line.items() if key not in of_the_machine} for line in lines(out)]


def test_data_that_were_never_there(tmp_path):
    said = sentence_of(tmp_path, Vanishing(0, FileNotFoundError(errno.ENOENT, "No such file or directory", "x")))
    assert "no checkpoint had been saved yet" in said
    assert not (tmp_path / "checkpoints").exists()


def test_a_prepared_folder_that_vanishes_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"the prepared folder .* does not exist; make it with `python -m data_prep`"):
        StoredClips(tmp_path / "gone")


def allocators_own() -> Exception:
    """What torch's CPU allocator really raises."""
    try:
        torch.empty(2**58, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("this machine has a quarter of an exabyte")


def numpys_own() -> Exception:
    try:
        np.empty(2**58, dtype=np.uint8)
    except MemoryError as error:
        return error
    raise AssertionError("this machine has a quarter of an exabyte")


@pytest.mark.sweep
@pytest.mark.parametrize("place", ["batch", "objective"])
@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), allocators_own(), numpys_own()]
    + [OSError(errno.ENOMEM, "Cannot allocate memory")],
    ids=["python", "gpu", "cpu allocator", "numpy", "system"],
)
def test_no_memory_is_a_sentence(tmp_path, place, error):
    def short(step, loss):
        if step == 10:
            raise error
        return loss

    said = sentence_of(tmp_path, Vanishing(10, error) if place == "batch" else Toy(short))
    assert said.startswith("training toy ran out of memory at step 11; the last good checkpoint is ")
    assert said.endswith("run the same command again to resume, or use a smaller batch_size with a new --out.")
    assert go(tmp_path).is_finished


def test_what_is_a_fault_of_the_code_stays_one(tmp_path):
    def faulty(step, loss):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        go(tmp_path, Toy(faulty))
    assert not failures.is_out_of_memory(RuntimeError("shapes do not fit"))


@pytest.mark.parametrize("victim", ["log.jsonl", "checkpoint"])
def test_a_full_disk_names_what_is_safe(whole, tmp_path, monkeypatch, victim):
    """The disk fills up after the first checkpoint, at step 7."""
    out = tmp_path / "run"
    written = engine_log.append_plain
    synced = os.fsync

    def is_full() -> bool:
        return (out / "checkpoints" / "toy" / "step-00000007").exists()

    def no_log(path, *args):
        if victim == "log.jsonl" and is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(path, *args)

    def no_sync(descriptor):
        if victim == "checkpoint" and is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return synced(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(engine_log, "append_plain", no_log)
        patch.setattr(checkpoint.os, "fsync", no_sync)
        said = sentence_of(out, Toy())
    assert "no space left on device; free some space and run again" in said
    assert "step-00000007" in said
    assert said.endswith("run the same command again to resume.")
    go(out)
    assert_same_bits(latest(whole, "toy").folder, latest(out, "toy").folder)


def test_a_disk_that_is_really_full(tmp_path):
    """A file system of one page: the operating system itself says no."""
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can make a small file system, and not everywhere")
    try:
        said = sentence_of(small / "run", Toy(), checkpoint_every=1, keep_checkpoints=30)
        assert "no space left on device" in said
        saved = latest(small / "run", "toy")
        assert str(saved.folder) in said
        assert all(torch.isfinite(value).all() for value in tensors(saved.folder).values())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_signal_in_the_last_step_is_answered_too(tmp_path, capsys):
    def strike(step, loss):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    with pytest.raises(SystemExit) as caught:
        go(tmp_path, Toy(strike), num_steps=3)
    assert caught.value.code == 143
    assert "toy: stopped at step 3; saved " in capsys.readouterr().err
    assert latest(tmp_path, "toy").step == 3


def test_a_resumed_run_logs_what_it_would_have_logged(whole, tmp_path):
    """Averages over an interval that a kill cut in two are over all of it; only clocks differ."""

    def crash(step, loss):
        if step == 23:
            raise RuntimeError("the plug was pulled")
        return loss

    with pytest.raises(RuntimeError):
        go(tmp_path, Toy(crash))
    assert latest(tmp_path, "toy").step == 21, "one step into an interval of five"
    go(tmp_path)
    assert log(tmp_path) == log(whole)


def test_checkpoints_from_before_averages_were_kept_still_load(whole, tmp_path):
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(latest(out, "toy").folder)
    old = latest(out, "toy")
    facts = {key: value for key, value in old.facts.items() if key != "averages"}
    parts = {part: old.tensors(part) for part in ("model", "ema", "optimizer")}
    checkpoint.save(out, "toy", old.step, parts, identity=old.identity, facts=facts)
    go(out)
    assert_same_bits(latest(whole, "toy").folder, latest(out, "toy").folder)


class Terminal:
    """A stderr that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return True

    def fileno(self):
        raise OSError("no real terminal")


def test_the_bar_of_a_resumed_run_begins_where_the_run_stands(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    console = Console("toy", num_steps=1000, start=400)
    for _ in range(3):
        console.advance()
    console.close()
    shown = console.bar.format_dict
    assert (shown["initial"], shown["n"], shown["total"]) == (400, 403, 1000)
    assert " 40%" in terminal.text
    assert "400/1000" in terminal.text
    # The rate is over the steps of this start: 3 of them, not 403.
    line = type(console.bar).format_meter(**{**shown, "elapsed": 1.5, "rate": None})
    assert "2.00step/s" in line
    assert "04:58" in line, "597 steps are left, at two a second"


def test_lines_of_a_resumed_run_count_from_where_it_stands(whole, tmp_path, capsys):
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(latest(out, "toy").folder)
    go(out)
    said = capsys.readouterr().err
    assert "toy: resuming from step 28 (" in said
    assert "step 30/30" in said


def test_what_a_broken_file_holds_cannot_steer_the_terminal(capsys):
    def main():
        raise UserError(f"the key \x1b[31m{'x' * 10_000}\ud800\u202e is not known; leave it out")

    assert exit_code(main) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the key \\x1b[31mxxx")
    assert said.endswith("\\ud800\\u202e is not known; leave it out\n")
    assert len(said) < 3200
