"""Files of a run, of a model and of an evaluation that are no plain files: told at once, never waited for or passed over."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_model import trained_config
from test_engine import Toy, go

from cdcd_video.config import Config, config_file
from cdcd_video.engine import checkpoint, runtime, watch
from cdcd_video.engine.log import Journal
from cdcd_video.errors import UserError
from cdcd_video.metrics.statistics.saved_evaluation import read
from cdcd_video.training import model_card
from cdcd_video.training.training_run import TrainingRun

Make = Callable[[Path], object]
ODD = {
    "folder": (os.mkdir, "is a folder, not a file"),
    "pipe": (os.mkfifo, "is a named pipe, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
}


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest) -> tuple[Make, str]:
    """Makes what is no file, and what is said of it."""
    return ODD[request.param]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    go(out)
    return out


def test_a_log_that_is_no_file_stops_a_run_before_its_first_step(odd, tmp_path: Path):
    make, why = odd
    make(tmp_path / "log.jsonl")
    task = Toy()
    task.batch = lambda step: pytest.fail("a step was taken")
    with pytest.raises(UserError, match=f"the run's log .*log.jsonl {why}"):
        go(tmp_path, task)
    assert os.listdir(tmp_path) == ["log.jsonl"]


def test_a_log_that_becomes_something_else_on_the_way_is_reported(odd, tmp_path: Path):
    make, why = odd
    journal = Journal(tmp_path / "log.jsonl", "toy")
    journal.write(1, 0.1, loss=1.0)
    (tmp_path / "log.jsonl").unlink()
    make(tmp_path / "log.jsonl")
    with pytest.raises(UserError, match=why if "pipe" not in why else "is a named pipe"):
        journal.write(2, 0.2, loss=1.0)


def test_a_state_that_is_no_file_is_a_damaged_checkpoint(odd, finished: Path, tmp_path: Path):
    make, _ = odd
    for name in ("state.json", "model.safetensors"):
        run = Path(shutil.copytree(finished, tmp_path / name))
        newest = checkpoint.latest(run, "toy").folder
        (newest / name).unlink()
        make(newest / name)
        assert checkpoint.latest(run, "toy").folder.name < newest.name


def test_what_is_kept_beside_a_run_must_be_files(odd, tmp_path: Path):
    make, why = odd
    for name, asked in (
        ("run.json", lambda: runtime.write_run_json(tmp_path, ["train.py"])),
        ("watch.json", lambda: watch._token(tmp_path)),
        ("config.yaml", lambda: config_file.load(tmp_path / "config.yaml", Config)),
    ):
        make(tmp_path / name)
        with pytest.raises(UserError, match=f"{name}.* {why}"):
            asked()
    (tmp_path / "log").mkdir()
    make(tmp_path / "log" / "log.jsonl")
    with pytest.raises(UserError, match=f"log.jsonl {why}"):
        model_card.stages(tmp_path / "log" / "log.jsonl")


def test_a_run_json_that_holds_no_facts_is_reported_and_kept(tmp_path: Path):
    for content in ("[1]", "{", '{"a":' * 100_000):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(UserError, match=r"run.json is damaged .*; copy it again"):
            runtime.write_run_json(tmp_path, ["train.py"])
        assert (tmp_path / "run.json").read_text() == content


def test_an_evaluation_without_files_is_reported(odd, tmp_path: Path):
    make, why = odd
    line = json.dumps({"metric": "psnr", "row": "model", "video": 0, "total": 1.0, "weight": 1.0, "value": 1.0})
    for name in ("scores.jsonl", "per_video.jsonl", "protocol.yaml"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        for other in ("scores.jsonl", "per_video.jsonl"):
            (folder / other).write_text(line + "\n")
        make_here = folder / name
        make_here.unlink(missing_ok=True)
        make(make_here)
        with pytest.raises(UserError, match=f"{name} {why}"):
            read(folder)


def test_a_protocol_of_aliases_is_refused_and_not_unfolded(tmp_path: Path):
    (tmp_path / "scores.jsonl").write_text(json.dumps({"metric": "psnr", "row": "model"}) + "\n")
    (tmp_path / "protocol.yaml").write_text("a: &a [x, x]\nb: [*a, *a]\n")
    with pytest.raises(UserError, match=r"protocol.yaml is not valid YAML: .*; run evaluate.py --out .* again"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "make"), [("config.yaml", os.mkdir), ("config.yaml", os.mkfifo), ("model", os.mkfifo)]
)
def test_what_is_in_the_way_of_a_run_is_reported_before_its_first_step(tmp_path: Path, name: str, make: Make):
    (tmp_path / "run").mkdir()
    make(tmp_path / "run" / name)
    with pytest.raises(UserError, match=f"{name} exists and is not what a run would put there; move it"):
        TrainingRun(trained_config(), tmp_path / "run", ["test"])
    assert os.listdir(tmp_path / "run") == [name]
