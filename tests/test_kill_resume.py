"""The tool that kills a training again and again: it strikes where it says, and it notices what is not the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import children
import pytest
import torch

from cdcd_video.engine.compare_runs import compare_logs, unequal_weights
from cdcd_video.errors import UserError
from cdcd_video.tools.dev import killed_runs


def strike() -> None:
    """Runs in a process of its own, which forks after torch is loaded: a start costs nothing then."""
    from test_engine import SETTINGS, Toy

    from cdcd_video.engine.loop import train

    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    settings = SETTINGS.__class__(
        **{
            **vars(SETTINGS),
            "checkpoint_every": 3,
            "log_every": 1,
            "eval_every": 10,
        }
    )

    class Forked:
        def __init__(self, folder: Path):
            self.code = None
            self.pid = children.fork()
            if self.pid == 0:
                try:
                    train(Toy(), settings, folder, seed=0, identity={})
                    os._exit(0)
                finally:
                    os._exit(1)

        def poll(self) -> int | None:
            if self.code is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.code = os.waitstatus_to_exitcode(status) if pid else None
            return self.code

        def kill(self) -> None:
            if self.code is None:
                os.kill(self.pid, signal.SIGKILL)

        def wait(self) -> int:
            if self.code is None:
                self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            return self.code

    whole, killed = out / "whole", out / "killed"
    assert Forked(whole).wait() == 0
    kills = killed_runs.planned(9, killed_runs.num_lines(whole), 0.5, seed=1)
    struck = list(killed_runs.torment(lambda: Forked(killed), killed, kills))
    told = {
        "planned": len(kills),
        "struck": len(struck),
        "lines": [found.lines for found in struck],
        "half_written": [found.half_written for found in struck],
        "aimed": [found.kill.is_in_checkpoint for found in struck],
        "differences": killed_runs.differences(whole, killed),
    }
    (out / "told.json").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def tormented(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tormented")
    done = children.run("test_kill_resume:strike", out)
    assert done.returncode == 0, done.stderr
    return out


def test_nine_kills_change_no_bit(tormented):
    told = json.loads((tormented / "told.json").read_text())
    assert told["differences"] == []
    assert told["struck"] >= 7
    # Not sorted: what was killed soon after it resumed has fewer lines than before.
    assert len(set(told["lines"])) >= 4, "kills are spread over the run"
    in_checkpoints = [half for half, aimed in zip(told["half_written"], told["aimed"], strict=True) if aimed]
    assert sum(in_checkpoints) >= 1, "no kill met a checkpoint that was being written"
    assert not list((tormented / "killed").glob("checkpoints/*/.writing-*")), "what is half written is swept out"


def test_what_is_not_the_same_is_named(tormented, tmp_path):
    whole, killed = tormented / "whole", tormented / "killed"
    other = tmp_path / "other"
    shutil.copytree(killed, other)
    lines = (other / "log.jsonl").read_text().splitlines()
    entry = json.loads(lines[4])
    entry["loss"] = float(torch.nextafter(torch.tensor(entry["loss"]), torch.tensor(9.0)))
    (other / "log.jsonl").write_text("\n".join([*lines[:4], json.dumps(entry), *lines[5:-1]]) + "\n")
    found = compare_logs(whole, other)
    assert not found.is_same
    assert [(one.task, one.step, list(one.values)) for one in found.differences] == [("toy", 5, ["loss"])]
    assert found.only == (["step 30 of toy (scores)"], [])
    assert unequal_weights(whole, other) == []
    named = killed_runs.differences(whole, other)
    assert named[0] == "toy at step 5: loss"
    newest = sorted((other / "checkpoints" / "toy").iterdir())[-1]
    shutil.rmtree(newest)
    assert any(name.startswith("toy, step 30: model") for name in unequal_weights(whole, other))


def test_moments_are_the_seeds():
    one, other, third = (killed_runs.planned(20, 30, 15.0, seed) for seed in (0, 0, 1))
    assert one == other != third
    assert [kill.after_lines for kill in one] == sorted(kill.after_lines for kill in one)
    assert sum(kill.is_in_checkpoint for kill in one) == 6
    assert max(kill.delay_s for kill in one if kill.is_in_checkpoint) < 0.004


def test_a_training_that_fails_by_itself_is_told(tmp_path):
    def start():
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    with pytest.raises(UserError, match="ended with exit code 3"):
        list(killed_runs.torment(start, tmp_path, [killed_runs.Kill(99, 0.0, False)]))


def test_logs_that_are_none(tmp_path):
    with pytest.raises(UserError, match="log.jsonl cannot be read .*give the folder of a run"):
        compare_logs(tmp_path, tmp_path)
    deep = '{"a": ' * 400 + "1" + "}" * 400
    for line in (
        '{"task": "toy"}',
        '{"task": ["toy"], "step": 1}',
        '{"task": "toy", "step": {}}',
        '{"task": "toy", "step": "1"}',
    ):
        (tmp_path / "log.jsonl").write_text(f"{line}\n")
        with pytest.raises(UserError, match="is not the log of a run"):
            compare_logs(tmp_path, tmp_path)
    (tmp_path / "log.jsonl").write_text(f'{{"task": "toy", "step": 1, "more": {deep}}}\n')
    assert compare_logs(tmp_path, tmp_path).is_same


def test_a_stage_without_a_checkpoint_has_no_weights(tmp_path):
    (tmp_path / "checkpoints" / "toy").mkdir(parents=True)
    assert unequal_weights(tmp_path, tmp_path) == []
