"""Sampling settings are tuned with equal budgets: what is tried, how the budget is spent, and the whole command."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from cdcd_video.config import Config, config_file
from cdcd_video.errors import UserError, exit_code
from cdcd_video.model import build_denoiser, load_model, save_module
from cdcd_video.tools import tune
from cdcd_video.tools.tune import Result, combinations, num_rounds, successive_halving

VALUES = {"temperature": [0.3, 1.0], "num_steps": [1, 4], "solver": ["euler", "heun"], "guidance": None}


def test_combinations_are_those_that_differ():
    flow = combinations(VALUES)
    assert len(flow) == 6 and {"temperature": 0.3, "num_steps": 1, "solver": "heun"} not in flow
    assert {"temperature": 1.0, "num_steps": 4, "solver": "heun"} in flow
    assert combinations(VALUES, ["solver"]) == [
        {"temperature": t, "num_steps": steps} for t in (0.3, 1.0) for steps in (1, 4)
    ]
    assert combinations(VALUES, ["solver", "num_steps"]) == [{"temperature": 0.3}, {"temperature": 1.0}]
    assert len(combinations({"num_steps": [1, 2], "solver": ["heun"]})) == 2, (
        "Heun's alone is Euler's where it is one step"
    )
    assert combinations({"temperature": [1.0, 1.0]}) == [{"temperature": 1.0}]
    assert combinations({"num_steps": [1]}, ["num_steps"]) == [{}], "the model as it is"


@pytest.mark.parametrize("num, rounds", [(1, 1), (2, 1), (3, 1), (4, 2), (9, 2), (10, 3), (27, 3), (28, 4)])
@pytest.mark.parametrize("spare", [0, 1, 500])
def test_every_number_of_candidates_spends_the_same_budget(num: int, rounds: int, spare: int):
    calls: list[tuple[int, int, int]] = []

    def measure(settings, num_videos, number):
        calls.append((settings["place"], num_videos, number))
        return Result(-abs(settings["place"] - num // 2), None, None, num_videos)

    assert num_rounds(num) == rounds
    budget = num * rounds + spare
    tried = successive_halving([{"place": place} for place in range(num)], measure, budget)
    assert tried[0].settings == {"place": num // 2} and len(tried) == num
    spent = sum(num_videos for _, num_videos, _ in calls)
    last = [one for one in calls if one[2] == rounds - 1]
    assert budget - len(last) < spent <= budget
    for number in range(rounds):
        sizes = {num_videos for _, num_videos, one in calls if one == number}
        assert len(sizes) == 1 and min(sizes) >= 1, "all candidates of a round get the same videos"
    assert [len(one.results) for one in tried] == sorted((len(one.results) for one in tried), reverse=True)


@pytest.mark.parametrize("better, best", [("higher", 3), ("lower", 0), ("one", 2)])
def test_the_best_is_what_the_score_says(better: str, best: int):
    values = [0.1, 0.4, 0.9, 1.3]
    measure = lambda settings, num_videos, number: Result(values[settings["place"]], None, None, num_videos)  # noqa: E731
    tried = successive_halving([{"place": place} for place in range(4)], measure, 100, better)
    assert tried[0].settings == {"place": best}


def test_what_cannot_be_measured_is_last_and_of_equals_the_first_is_first():
    values = [None, 0.5, 0.5, 0.2]
    measure = lambda settings, num_videos, number: Result(values[settings["place"]], None, None, num_videos)  # noqa: E731
    tried = successive_halving([{"place": place} for place in range(4)], measure, 100)
    assert [one.settings["place"] for one in tried] == [1, 2, 3, 0]
    assert tune.described(tried[-1]).startswith("place 0: -, n = ")


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tiny model, and baselines with fresh weights in its latent space."""
    folders, model = [tiny_model], load_model(tiny_model)
    no_contrast = ["loss.contrast.frame_frame=0", "loss.contrast.frame_text=0"]
    for kind in ("categorical_flow", "autoregressive"):
        folder = tmp_path_factory.mktemp(kind) / "model"
        shutil.copytree(tiny_model, folder)
        config = config_file.load(folder / "config.yaml", Config, [f"baseline.kind={kind}", *no_contrast])
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_module(build_denoiser(config, model.codec, model.clip.text_width), folder / "denoiser.safetensors")
        (folder / "config.yaml").write_text(config_file.dump(config))
        folders.append(folder)
    return folders


def run(monkeypatch: pytest.MonkeyPatch, *given: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tune", *map(str, given)])
    return exit_code(tune.main)


def test_models_are_tuned_with_the_same_budget_into_one_table(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    few = ("--budget", 12, "--temperature", 0.3, 1.0, "--steps", 1, 2, "--num-frames", 2, "--batch", 4)
    for folder in ("one", "two"):
        assert run(monkeypatch, "--checkpoint", *models, *few, "--score", "psnr", "--out", tmp_path / folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and lines[0].startswith(f"{models[0]}: temperature ") and "n = " in lines[0]
    first, second = (json.loads((tmp_path / folder / "tuned.json").read_text()) for folder in ("one", "two"))
    assert first == second, "the same seed gives the same videos"
    assert first["budget"] == 12 and len(first["commit"]) >= 7 and first["machine"]["cpu"]
    kinds = {model["kind"]: model for model in first["models"]}
    assert [(kind, len(model["candidates"])) for kind, model in kinds.items()] == [
        ("discrete, mask", 4),
        ("categorical_flow", 6),
        ("autoregressive", 2),
    ]
    for model in kinds.values():
        assert 12 - 2 < model["sampled_videos"] <= 12
        ends = [
            one["rounds"][-1]["value"]
            for one in model["candidates"]
            if len(one["rounds"]) == num_rounds(len(model["candidates"]))
        ]
        assert ends[0] == max(ends) and all(5 < value < 60 for value in ends)
    text = (tmp_path / "one" / "tuned.md").read_text()
    assert text.count("| yes |\n") == 3 and text.count("\n| ") == 12 + 1 and "Budget of each model: 12 videos" in text


@pytest.mark.parametrize(
    "options, sentence",
    [
        (("--budget", 5), "--budget 5 is too small for 9 combinations of settings; give at least 18"),
        (("--steps", 0), "num_steps is 0"),
        (("--temperature", 11), "temperature is 11"),
        (("--score", "flicker"), "--score flicker cannot be optimised; choose one of"),
        (("--score", "digits_right"), "--score digits_right cannot be optimised"),
        (("--split", "tset"), "sprites have no split 'tset'"),
        (("--checkpoint", "absent"), "absent"),
        (("--num-frames", 1), "--num-frames 2"),
        (("--num-frames", 10**9), "--num-frames is 1000000000: input should be less than or equal to 10000"),
    ],
)
def test_mistakes_are_sentences_and_cost_no_sampling(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, options: tuple, sentence: str
):
    assert run(monkeypatch, "--checkpoint", models[0], "--out", tmp_path / "out", *options) == 2
    told = capsys.readouterr()
    assert sentence in told.err and "Traceback" not in told.err and not told.out
    assert not (tmp_path / "out").exists()


def test_clips_have_no_usual_score(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    given = ("--checkpoint", models[0], "--data", tmp_path / "clips", "--out", tmp_path / "out")
    assert run(monkeypatch, *given) == 2
    assert "name one by --score, such as psnr" in capsys.readouterr().err


def test_a_budget_that_is_just_enough_is_accepted():
    tune.check_budget(18, 9)
    with pytest.raises(UserError, match="at least 18"):
        tune.check_budget(17, 9)
