"""Which config a run's folder takes, what it says of one it does not take, and that a run can be given more steps."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures_model import ROOT
from torch import Tensor, nn

from cdcd_video.config import Config, config_file
from cdcd_video.config.fingerprint import identity_text
from cdcd_video.engine import checkpoint, runtime
from cdcd_video.errors import UserError
from cdcd_video.records import LossTerms
from cdcd_video.training import run_folder, stage_order
from cdcd_video.training.training_run import TrainingRun

SMALL = ("data.num_clips=2", "data.num_val_clips=2")


def tiny(*changes: str) -> Config:
    return config_file.load(ROOT / "configs" / "tiny.yaml", Config, [*SMALL, *changes])


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., TrainingRun]:
    """Opens the run folder `run` with the tiny config, some values changed."""
    return lambda *changes: TrainingRun(tiny(*changes), tmp_path / "run", ["test"])


def trained(run: TrainingRun, *stages: str) -> None:
    """As if these stages had been trained."""
    for stage in stages:
        (checkpoint.home(run.out, stage) / "step-00000020").mkdir(parents=True)


def test_a_folder_in_which_nothing_was_trained_takes_another_config(start):
    start("loss.changed=3")
    (start("loss.changed=2").out / "checkpoints").mkdir()
    run = start("loss.changed=4", "train.codec.num_steps=7")
    assert config_file.load(run.out / "config.yaml", Config) == run.config
    (run.out / "config.yaml").write_text("half")
    assert start().config == config_file.load(run.out / "config.yaml", Config)


@pytest.mark.parametrize("begun", ["checkpoint", "model"])
def test_another_config_is_refused_with_every_key_and_both_values(start, begun: str):
    run = start()
    if begun == "checkpoint":
        trained(run, "clip")
    else:
        run.folder.mkdir()
        (run.folder / "model.json").write_text("{}")
    start()
    before = (run.out / "config.yaml").read_text()
    with pytest.raises(UserError, match="holds a run with another config") as refusal:
        start("loss.changed=3", "seed=1", "codec.quantizer.kind=vq", "data.motions=[spins]", "train.codec.num_steps=61")
    for told in (
        "loss.changed: 4.0 there, 3.0 here",
        "seed: 0 there, 1 here",
        'codec.quantizer.kind: "fsq" there, "vq" here',
        'data.motions: ["moves left", "moves right", "stays still"] there, ["spins"] here',
        "train.codec.num_steps: 60 there, 61 here",
    ):
        assert told in str(refusal.value)
    assert (run.out / "config.yaml").read_text() == before


def test_settings_of_speed_may_change_with_a_warning(start, capsys: pytest.CaptureFixture[str]):
    run = start("num_threads=1")
    trained(run, "clip", "diffusion")
    changed = start("num_threads=2", "train.diffusion.compile=true", "train.refine.checkpoint_activations=true")
    warning = "".join(capsys.readouterr())
    assert "num_threads: 1 there, 2 here" in warning and "train.diffusion.compile: false there, true here" in warning
    assert "may end with other last bits" in " ".join(warning.split())
    assert "num_threads: 2" in (changed.out / "config.yaml").read_text()
    start("num_threads=2", "train.diffusion.compile=true", "train.refine.checkpoint_activations=true")
    assert "settings of speed" not in "".join(capsys.readouterr())
    with pytest.raises(UserError, match="another config") as refusal:
        start("num_threads=4", "train.diffusion.compile=true", "train.refine.checkpoint_activations=true", "seed=1")
    assert "num_threads" not in str(refusal.value)


@pytest.mark.parametrize("stage", stage_order.STAGES)
def test_every_stage_may_be_given_more_steps_and_none_fewer(start, stage: str):
    run = start()
    steps = getattr(run.config.train, stage).num_steps
    trained(run, *[one for one in stage_order.STAGES if stage not in stage_order.BUILDS_ON[one]])
    with pytest.raises(UserError, match=rf"train\.{stage}\.num_steps: {steps} there, {steps - 1} here"):
        start(f"train.{stage}.num_steps={steps - 1}")
    assert start(f"train.{stage}.num_steps={steps + 5}").config.train != run.config.train
    start(f"train.{stage}.num_steps={steps + 8}")
    assert sorted(run_folder.earlier_num_steps(run.out, stage)) == [steps, steps + 5]
    facts = json.loads((run.out / "run.json").read_text())
    (run.out / "run.json").write_text(json.dumps(facts | {"of_many_starts": "x" * (17 << 20)}))
    assert sorted(run_folder.earlier_num_steps(run.out, stage)) == [steps, steps + 5]


@pytest.mark.parametrize("stage, later", [("clip", "decoder"), ("codec", "diffusion"), ("eye", "refine")])
def test_what_others_built_on_is_not_trained_on(start, stage: str, later: str):
    run = start()
    trained(run, stage, later)
    steps = getattr(run.config.train, stage).num_steps
    home = re.escape(f"{run.out}/checkpoints/{later}")
    with pytest.raises(UserError, match=rf"{later} was trained on the result of .*delete {home}"):
        start(f"train.{stage}.num_steps={steps + 1}")
    shutil.rmtree(checkpoint.home(run.out, later))
    start(f"train.{stage}.num_steps={steps + 1}")


def test_a_stage_that_has_not_begun_may_be_given_any_number_of_steps(start):
    trained(start(), "clip", "codec")
    start("train.diffusion.num_steps=3", "train.decoder.num_steps=300")


def test_reuse_names_what_differs(start, tiny_model: Path):
    run = start(f"reuse={tiny_model}", "codec.groups=1", "codec.pixel_width=4")
    with pytest.raises(UserError, match=r"codec\.groups: 2 there, 1 here; codec\.pixel_width: 8 there, 4 here"):
        run.train([])


class Line:
    """A stage that is trained in no time: y = ax + b."""

    name, batch_size = "diffusion", 4

    def __init__(self):
        self.model = nn.Linear(1, 1)
        nn.init.ones_(self.model.weight)
        nn.init.zeros_(self.model.bias)

    def batch(self, step: int) -> Tensor:
        return runtime.generator("line", step).initial_seed() % 7 + torch.arange(4.0)[:, None]

    def objective(self, batch: Tensor, generator: torch.Generator) -> LossTerms:
        noise = torch.randn(4, 1, generator=generator)
        return LossTerms((self.model(batch) - 3 * batch + noise).square().mean())

    def evaluate(self) -> dict[str, float]:
        return {}


def fit(run: TrainingRun) -> dict[str, Tensor]:
    """Trains the line as the stage `diffusion` of a run; gives the last weights."""
    run._fit(Line(), run.config.train.diffusion)
    return checkpoint.load_weights(run.out, "diffusion", "model")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_finished_run_goes_on_from_its_end_the_same_way_each_time(tmp_path: Path):
    """Also where it is stopped on the way, and where its checkpoints still tell how many steps they were to have."""
    four, eight = "train.diffusion.num_steps=4", "train.diffusion.num_steps=8"

    def start(name: str, *changes: str) -> TrainingRun:
        return TrainingRun(tiny("train.diffusion.checkpoint_every=2", *changes), tmp_path / name, ["test"])

    before = fit(start("one", four))
    for name in ("two", "old"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    with_its_length(tmp_path / "old")
    after = fit(start("one", eight))
    assert not same(before, after) and checkpoint.latest(tmp_path / "one", "diffusion").step == 8
    logged = [json.loads(line)["step"] for line in (tmp_path / "one" / "log.jsonl").read_text().splitlines()]
    assert logged == [4, 8]

    fit(start("two", eight))
    shutil.rmtree(checkpoint.home(tmp_path / "two", "diffusion") / "step-00000008")  # killed at step 6
    assert same(fit(start("two", eight)), after)

    start("old", eight)  # killed before its first step
    assert same(fit(start("old", eight)), after)
    with pytest.raises(UserError, match="num_steps: 8 there, 4 here"):
        start("one", four)


def with_its_length(run: Path) -> None:
    """Lets checkpoints tell what those of earlier versions told: the whole section, its number of steps with it."""
    config = config_file.load(run / "config.yaml", Config)
    told = identity_text(config.train.diffusion, but={"compile", "checkpoint_activations"})
    for path in checkpoint.home(run, "diffusion").glob("step-*/state.json"):
        state = json.loads(path.read_text())
        del state["state_sha256"]
        state["identity"]["train"] = hashlib.sha256(told.encode()).hexdigest()
        digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({**state, "state_sha256": digest}))


def test_a_checkpoint_beyond_the_end_is_not_taken_for_it(start):
    """Where somebody has deleted config.yaml, which would have told."""
    run = start("train.diffusion.num_steps=2")
    fit(run)
    (run.out / "config.yaml").unlink()
    with pytest.raises(UserError, match="has taken 2 steps, and num_steps is 1"):
        fit(start("train.diffusion.num_steps=1"))


def test_too_few_clips_are_reported_before_the_first_step(start, monkeypatch, capsys):
    """Steps times batch over clips, stage by stage; nothing where it is usual."""
    run, begun = start("train.clip.num_steps=126"), []  # of 8 examples, over 2 clips
    monkeypatch.setattr(run, "_train_clip", lambda: begun.append(capsys.readouterr().err))
    run.train(["clip"])
    assert "too few clips: each of the 2 training clips is used 504 times by clip" in begun[0]
    assert run_folder.repeated_too_often(run.config, 2, ["codec"]) == []
    assert run_folder.repeated_too_often(run.config, 3, ["clip"]) == []


def test_a_run_of_a_stable_rate_may_become_longer_before_it_decays(tmp_path: Path):
    """Killed at step 4 of 8, of which the last two decay, and continued to 16: the bits of a run of 16."""

    def start(name: str, num_steps: int) -> TrainingRun:
        rate = ("schedule=wsd", "decay_share=0.25", f"num_steps={num_steps}", "checkpoint_every=4", "warmup_steps=2")
        return TrainingRun(tiny(*(f"train.diffusion.{one}" for one in rate)), tmp_path / name, ["test"])

    whole = fit(start("whole", 16))
    fit(start("short", 8))
    shutil.rmtree(checkpoint.home(tmp_path / "short", "diffusion") / "step-00000008")
    assert same(fit(start("short", 16)), whole)


def test_more_steps_are_added_where_a_stage_has_ended_and_only_there(tmp_path: Path, capsys):
    config, out = tiny("train.diffusion.num_steps=4", "train.diffusion.checkpoint_every=2"), tmp_path / "run"
    fit(TrainingRun(config, out, ["test"]))
    longer = run_folder.with_more_steps(config, out, ["diffusion"], 4)
    assert longer.train.diffusion.num_steps == 8
    after = fit(TrainingRun(longer, out, ["test"]))
    assert checkpoint.latest(out, "diffusion").step == 8
    shutil.rmtree(checkpoint.home(out, "diffusion") / "step-00000008")  # killed at step 6, and the command given again
    again = run_folder.with_more_steps(config, out, ["diffusion"], 4)
    assert again.train.diffusion.num_steps == 8
    assert "diffusion: has taken 6 of its 8 steps; these are finished first" in capsys.readouterr().err
    assert same(fit(TrainingRun(again, out, ["test"])), after)
    assert run_folder.with_more_steps(config, out, ["diffusion"], 4).train.diffusion.num_steps == 12


def test_more_steps_of_what_was_not_trained_are_refused(start, tmp_path: Path):
    with pytest.raises(UserError, match="nothing was trained in .*leave it out to begin one"):
        run_folder.with_more_steps(tiny(), tmp_path / "none", None, 5)
    with pytest.raises(UserError, match="--more-steps is 0; give at least 1"):
        run_folder.with_more_steps(tiny(), tmp_path / "none", None, 0)
    run = start("train.diffusion.num_steps=2")
    fit(run)
    with pytest.raises(UserError, match="holds no checkpoint of refine; name in --stages what was trained"):
        run_folder.with_more_steps(run.config, run.out, None, 5)
