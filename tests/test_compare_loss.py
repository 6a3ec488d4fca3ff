"""Whether a change of the code changed a number: the command on two runs, and on what is neither run nor checkout."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_engine import go, lines

from cdcd_video.errors import UserError
from cdcd_video.tools.dev import loss_comparison


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    go(out)
    return out


def compare(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["compare_loss", *map(str, words)])
    return loss_comparison.main()


def test_two_equal_runs(run, tmp_path, monkeypatch, capsys):
    go(tmp_path / "again")
    assert compare(monkeypatch, run, tmp_path / "again") == 0
    assert capsys.readouterr().out == "toy: 9 lines compared\nsame: every loss and every weight, to the last bit\n"


def test_the_first_step_that_differs_is_named(run, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other"
    go(other, ema_decay=0.5)  # changes what is scored, and no loss
    assert compare(monkeypatch, run, other) == 1
    told = capsys.readouterr().out
    assert "not equal: toy, step 30: ema\n" in told
    assert "not equal: toy, step 30: model\n" not in told
    assert told.endswith("NOT the same\n")

    go(tmp_path / "third", warmup_steps=6)
    assert compare(monkeypatch, run, tmp_path / "third") == 1
    told = capsys.readouterr().out
    assert "toy: step 5 is the first that differs:\n  lr: " in told
    first, third = (next(line for line in lines(out)) for out in (run, tmp_path / "third"))
    assert f"  loss: {first['loss']!r} and {third['loss']!r}\n" in told


def test_values_of_one_side_only_are_no_difference_and_are_told(run, tmp_path, monkeypatch, capsys):
    other = Path(shutil.copytree(run, tmp_path / "other"))
    entries = [{**line, "terms": {**line.get("terms", {}), "new": 1.0}} for line in lines(other)]
    (other / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert compare(monkeypatch, run, other) == 0
    assert f"only in {other}: terms/new\n" in capsys.readouterr().out
    (other / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries[:-1]))
    assert compare(monkeypatch, run, other) == 1, "a step that is missing is a difference"


def test_a_commit_is_written_out_and_nothing_else_changes(tmp_path):
    if not (loss_comparison.ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    asked = ["git", "-C", loss_comparison.ROOT, "rev-parse", "--git-path", "index"]  # in a work tree it lies elsewhere
    index = loss_comparison.ROOT / subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    before = index.read_bytes()
    folder = loss_comparison._unpacked("HEAD", tmp_path / "checkout")
    assert (folder / "train.py").is_file()
    assert (folder / "cdcd_video" / "engine" / "loop.py").is_file()
    assert index.read_bytes() == before


@pytest.mark.parametrize("name", ["no-such-commit", "--upload-pack=x", "missing/folder"])
def test_what_is_nothing_is_told(name, tmp_path):
    with pytest.raises(UserError, match="is not a checkout .*not a run folder, and not a commit"):
        loss_comparison._unpacked(name, tmp_path / "checkout")
