"""`train.STAGE.keep: best`: the model gets the weights of the lowest validation bound, however often the run was stopped."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cdcd_video.config import Config, config_file
from cdcd_video.engine import checkpoint, loop, runtime
from cdcd_video.engine.optim import TrainSettings
from cdcd_video.errors import UserError
from cdcd_video.records import LossTerms
from cdcd_video.training.code_stages import DiffusionStage
from cdcd_video.training.stage_settings import settings_for
from cdcd_video.training.training_run import TrainingRun

ROOT = Path(__file__).resolve().parent.parent
BOUNDS = {2: 0.9, 4: 0.5, 6: 0.7, 8: 0.5, 10: 0.8, 12: 0.6}
"""Validation bounds by step: that of step 8 equals the best, and is not better."""


class Curve:
    """y = ax; its evaluation is a fixed number for each step."""

    name, batch_size = "diffusion", 4

    def __init__(self):
        self.model = nn.Linear(1, 1)
        nn.init.ones_(self.model.weight)
        nn.init.zeros_(self.model.bias)
        self.step, self.kept, self.averaged = 0, [], {}

    def batch(self, step: int) -> Tensor:
        self.step = step + 1
        return runtime.generator("curve", step).initial_seed() % 7 + torch.arange(4.0)[:, None]

    def objective(self, batch: Tensor, generator: torch.Generator) -> LossTerms:
        return LossTerms((self.model(batch) - 3 * batch).square().mean())

    def evaluate(self) -> dict[str, float]:
        self.averaged[self.step] = self.model.weight.item()
        return {"val_bound": BOUNDS[self.step]}

    def keep(self, tensors: dict[str, Tensor], step: int) -> None:
        self.kept.append(step)


def train(out: Path, num_steps: int = 12, best: str | None = "val_bound", every: int = 3, **how) -> Curve:
    task = Curve()
    settings = TrainSettings(
        num_steps, eval_every=2, checkpoint_every=every, keep_best=best, schedule="constant", **how
    )
    loop.train(task, settings, out, seed=0, identity={})
    return task


def steps_in(out: Path) -> list[int]:
    return sorted(int(folder.name[5:]) for folder in checkpoint.home(out, "diffusion").iterdir())


def test_the_best_stays_beside_the_newest(tmp_path):
    task = train(tmp_path)
    assert steps_in(tmp_path) == [4, 9, 12]
    best = checkpoint.best(tmp_path, "diffusion")
    assert best.step == 4 and best.tensors("ema")["weight"].item() == task.averaged[4]
    assert checkpoint.load_weights(tmp_path, "diffusion")["weight"].item() == task.averaged[12]
    assert task.kept == [2, 4], "what can be sampled from before the end is the best so far"


def test_the_last_is_kept_unless_the_best_is_asked_for(tmp_path):
    task = train(tmp_path, best=None)
    assert steps_in(tmp_path) == [9, 12] and task.kept == [3, 6, 9]
    assert checkpoint.best(tmp_path, "diffusion").step == 12
    assert "best" not in checkpoint.latest(tmp_path, "diffusion").facts


@pytest.mark.parametrize("at", [2, 6])
def test_a_bound_that_is_not_a_number_is_never_the_best(tmp_path, monkeypatch, at):
    monkeypatch.setitem(BOUNDS, at, math.nan)
    task = train(tmp_path)
    best = checkpoint.best(tmp_path, "diffusion")
    assert best.step == 4 and best.tensors("ema")["weight"].item() == task.averaged[4]
    assert steps_in(tmp_path) == [4, 9, 12]


@pytest.mark.parametrize("stopped_at", range(1, 12))
def test_a_stopped_run_keeps_the_same(tmp_path, stopped_at):
    """Also if the last step before it was stopped is the best, or one after which there was no checkpoint."""
    whole = train(tmp_path / "whole").averaged
    out = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:

        def killed(self: Curve, batch: Tensor, generator: torch.Generator, before=Curve.objective) -> LossTerms:
            if self.step > stopped_at:
                raise KeyboardInterrupt
            return before(self, batch, generator)

        patch.setattr(Curve, "objective", killed)
        with pytest.raises(KeyboardInterrupt):
            train(out)
    train(out)
    best = checkpoint.best(out, "diffusion")
    assert best.step == 4 and best.tensors("ema")["weight"].item() == whole[4]
    assert steps_in(out) == [4, 9, 12]


def test_a_damaged_best_is_an_error_with_a_way_out(tmp_path):
    train(tmp_path)
    folder = checkpoint.home(tmp_path, "diffusion") / "step-00000004"
    (folder / "ema.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="step-00000004 is damaged.*train diffusion anew"):
        checkpoint.best(tmp_path, "diffusion")
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="missing"):
        checkpoint.best(tmp_path, "diffusion")


def tiny(*changes: str) -> Config:
    return config_file.load(ROOT / "configs" / "tiny.yaml", Config, changes)


def test_the_config_says_it():
    settled = "train.refine.precision=fp32"
    assert settings_for(tiny(settled).train.refine, 1).keep_best is None
    assert settings_for(tiny(settled, "train.refine.keep=best").train.refine, 1).keep_best == "val_bound"
    with pytest.raises(UserError, match="keep"):
        tiny("train.codec.keep=best")
    no_contrast = ("loss.contrast.frame_frame=0", "loss.contrast.frame_text=0")
    with pytest.raises(UserError, match="use last for gaussian"):
        tiny("train.diffusion.keep=best", "baseline={kind: gaussian}", *no_contrast)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_what_the_model_folder_and_the_next_stage_get(keep, tmp_path, tiny_model, monkeypatch, capsys):
    bounds = iter([0.1, 0.9, 0.9, 0.1])  # two evaluations of diffusion, two of refine
    monkeypatch.setattr(DiffusionStage, "evaluate", lambda stage: {"val_bound": next(bounds)})
    few = "num_steps: 4, batch_size: 8, evaluate_every: 2, log_every: 4, checkpoint_every: 3"
    stages = [f"train.{stage}={{{few}, keep: {keep}}}" for stage in ("diffusion", "refine")]
    changes = ("data.num_clips=8", "data.num_val_clips=2", f"reuse={tiny_model}", *stages)
    run = TrainingRun(tiny(*changes), tmp_path / "run", ["test"])
    run.train(["diffusion"])
    step = {"best": 2, "last": 4}[keep]
    wanted = checkpoint.verify(checkpoint.home(run.out, "diffusion") / f"step-0000000{step}").tensors("ema")
    written = load_file(run.folder / "denoiser.safetensors")
    assert all(torch.equal(value, wanted[name].to(value.dtype)) for name, value in written.items())
    assert ("keeps the weights of step 2" in capsys.readouterr().err) == (keep == "best")
    start = run._kept("diffusion", run.config.train.diffusion)
    assert all(torch.equal(value, wanted[name]) for name, value in start.items())
    run.train(["refine"])
    newest = checkpoint.load_weights(run.out, "refine")
    assert all(
        torch.equal(value, newest[name].to(value.dtype))
        for name, value in load_file(run.folder / "denoiser.safetensors").items()
    )
