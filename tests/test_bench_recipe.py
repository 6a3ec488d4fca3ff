"""`bench recipe` and `bench start`: two recipes side by side, and a cold start beside the import of torch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cdcd_video.errors import UserError, exit_code
from cdcd_video.tools.bench import __main__ as bench
from cdcd_video.tools.bench import recipe_cost, start_cost

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    "data.num_clips=8",
    "data.num_val_clips=2",
    "codec.decoder_layers=1",
    "denoiser.num_layers=1",
    *(f"train.{stage}.num_steps={steps}" for stage, steps in dict(clip=1, codec=1, decoder=1).items()),
    *(f"train.{stage}.{key}" for stage in ("diffusion", "refine") for key in ("num_steps=4", "batch_size=4")),
]


def test_processor_seconds_of_another_process(monkeypatch: pytest.MonkeyPatch):
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            while recipe_cost.cpu_s(busy.pid) < 1:
                assert busy.poll() is None
        finally:
            busy.kill()
    shown = {"  1-02:03:04\n": 93784, "00:01:05\n": 65, "0:05.50\n": 5.5, "\n": 0}
    for text, seconds in shown.items():
        ps = SimpleNamespace(run=lambda *_, shown=text, **__: SimpleNamespace(stdout=shown))
        monkeypatch.setattr(recipe_cost, "subprocess", ps)
        assert recipe_cost.cpu_s(1) == seconds


def point(cpu_s: float, one: float, both: float, identity: float) -> dict[str, object]:
    scores = {"one_right": one, "both_right": both, "identity": identity}
    return {"stage": "refine", "step": 10, "cpu_s": cpu_s, **scores}


def test_the_goals_are_reached_when_all_three_are():
    now = {"cpu_s": 60.0, "curve": [point(20.0, 0.95, 0.7, 0.9), point(30.0, 0.91, 0.75, 0.85), point(60.0, 1, 1, 1)]}
    sides = {"now": now, "against": {"cpu_s": 120.0, "curve": [point(120.0, 0.9, 0.7, 0.8)]}}
    assert recipe_cost.verdict(sides) == {"reached_cpu_s": 30.0, "share": 0.25}
    result = {"videos": 4, "goals": recipe_cost.GOALS, **sides, **recipe_cost.verdict(sides)}
    last = recipe_cost.table(result)[-1]
    assert "reached after 30 s: 0.25 of 120 s" in last and "above" not in last
    slow = {**sides, "now": {"cpu_s": 60.0, "curve": now["curve"][:1] + [point(60.0, 1, 1, 1)]}}
    assert recipe_cost.table(result | recipe_cost.verdict(slow))[-1].endswith("above the target of a third")
    never = {**sides, "now": {"cpu_s": 60.0, "curve": now["curve"][:1]}}
    assert "did not reach the goals" in recipe_cost.table(result | recipe_cost.verdict(never))[-1]


def test_a_short_training_is_stretched_stage_by_stage():
    trace = {"clip": [[5, 10.0], [10, 15.0]], "codec": [[5, 30.0], [10, 40.0]]}
    assert recipe_cost.stretched(100.0, 10, {"clip": 100, "codec": 20}, trace) == 100 + 90 * 1.0 + 10 * 2.0


def side_of(script: str, folder: Path) -> recipe_cost.Side:
    """A side whose training is this script."""
    (folder / "code" / "configs").mkdir(parents=True)
    (folder / "code" / "train.py").write_text(script)
    steps = "".join(f"  {stage}: {{num_steps: 100}}\n" for stage in recipe_cost.STAGES)
    (folder / "code" / "configs" / "sprites.yaml").write_text(f"name: sprites\ntrain:\n{steps}")
    return recipe_cost.Side("against", folder / "code", "configs/sprites.yaml", folder / "out", [])


def test_a_benchmark_that_is_stopped_stops_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recipe_cost, "POLL_S", 0.01)
    note = "open('began', 'w').write(str(os.getpid()))"
    side = side_of(f"import os, time; {note}; time.sleep(600)", tmp_path)
    running = side._running(tmp_path / "run", [])
    while not (tmp_path / "code" / "began").is_file() or not (tmp_path / "code" / "began").read_text():
        next(running)
    running.close()
    assert recipe_cost.cpu_s(int((tmp_path / "code" / "began").read_text())) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "code" / "began").read_text()), 0)


def test_steps_that_pass_too_quickly_are_not_stretched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recipe_cost, "POLL_S", 0.01)
    side = side_of("pass", tmp_path)
    with pytest.raises(UserError, match="20 steps of a stage pass too quickly here to be timed; give --shipped more"):
        side.estimate(20)
    assert not (tmp_path / "out" / "estimate.json").exists()


def test_an_estimate_of_other_steps_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    side = side_of("pass", tmp_path)
    (tmp_path / "out").mkdir()
    trace = {stage: [[5, 1.0], [10, 2.0]] for stage in recipe_cost.STAGES}
    (tmp_path / "out" / "estimate.json").write_text(json.dumps({"steps": 20, "cpu_s": 50.0, "trace": trace}))
    assert side.estimate(20) == 50 + 5 * 80 * 0.2
    with pytest.raises(UserError, match="30 steps"):
        side.estimate(30)


@pytest.mark.slow
def test_both_recipes_are_trained_and_scored_in_their_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    settings = [word for setting in TINY for word in ("--set", setting)]
    options = ["--videos", "3", "--points", "2", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", ["bench", "recipe", "--against", "HEAD", *options, *settings])
    assert exit_code(bench.main) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    for side in ("now", "against"):
        points = found[side]["curve"]
        assert [(one["stage"], one["step"]) for one in points] == [
            ("diffusion", 2),
            ("diffusion", 4),
            ("refine", 2),
            ("refine", 4),
        ]
        spent = [one["cpu_s"] for one in points]
        assert spent == sorted(spent) and 0 < spent[-1] <= found[side]["cpu_s"]
        videos = np.load(tmp_path / "out" / side / "snapshots" / "refine-00000004" / "videos.npy")
        assert videos.shape == (3, 16, 64, 64, 3)
    assert "did not reach the goals" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--against", "no-such-commit"], "no commit of a repository"),
        (["--against", "HEAD", "--videos", "0"], "must be at least 1"),
        (["--against", "HEAD", "--shipped", "0"], "must be at least 20 steps"),
    ],
)
def test_mistakes_are_sentences(options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "recipe", "--out", str(tmp_path), *options])
    assert exit_code(bench.main) == 2
    assert sentence in capsys.readouterr().err


def test_a_start_is_compared_with_the_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    started: list[str] = []

    def seconds(command: list[str]) -> float:
        started.append("video" if "--frame" in command else "import")
        return 3.0 if started[-1] == "video" else 2.0

    monkeypatch.setattr(start_cost, "_cpu_s", seconds)
    monkeypatch.setattr(sys, "argv", ["bench", "start", "--repeats", "2", "--json", str(tmp_path / "x.json")])
    assert exit_code(bench.main) == 0
    assert started == ["import", "video"] * 3, "in turns, the first of each uncounted"
    assert json.loads((tmp_path / "x.json").read_text())["ratio"] == 1.5
    assert "ratio: 1.50 (target: at most 1.9)" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["bench", "start", "--repeats", "0"])
    assert exit_code(bench.main) == 2 and "--repeats" in capsys.readouterr().err
