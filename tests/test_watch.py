"""Who watches a run is fed the journal's own lines; none of them can stop the run or change a bit of it."""

import inspect
import io
import json
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_engine import Toy, assert_same_bits, go, lines

from cdcd_video.engine import optim, throughput, watch
from cdcd_video.engine.checkpoint import latest
from cdcd_video.engine.log import Averages
from cdcd_video.errors import UserError
from cdcd_video.records import LossTerms

PIXELS = np.random.Generator(np.random.Philox(key=0)).integers(0, 256, (2, 4, 8, 8, 3), dtype=np.uint8)


class Decoded(Toy):
    """Has pictures, and pays by group."""

    def objective(self, batch, generator):
        losses = super().objective(batch, generator)
        step, codes = batch
        group = torch.nn.functional.one_hot(codes % 3, 4).float()  # nobody is in the fourth
        sums = torch.stack([(group * step).sum(0), group.sum(0)])
        return LossTerms(losses.total, losses.parts, groups={"step_by_rest": sums})

    def pictures(self):
        assert not self.model.training
        return list(PIXELS), ["true", "drawn"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    go(out)
    return out


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Path:
    """A run that was killed in step 13 and taken up again, with TensorBoard watching."""

    def crash(step, loss):
        if step == 13:
            raise RuntimeError("the plug was pulled")
        return loss

    out = tmp_path_factory.mktemp("watched")
    with pytest.raises(RuntimeError):
        go(out, Decoded(crash), watch=["tensorboard"])
    go(out, Decoded(), watch=["tensorboard"])
    return out


def events(out: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(out / "tensorboard" / "toy"), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def test_being_watched_changes_no_bit(whole, watched):
    assert_same_bits(latest(whole, "toy").folder, latest(watched, "toy").folder)


def test_tensorboard_shows_what_the_log_holds(watched):
    found, told = events(watched), {}
    for line in lines(watched):
        for name, value in watch.scalars(line).items():
            told.setdefault(name, []).append((line["step"], np.float32(value)))
    tags = found.Tags()["scalars"]
    assert sorted(tags) == sorted(told)
    assert {"loss", "lr", "terms/entropy", "grad_norm", "param_norm", "update_norm", "idle_share"} <= set(tags)
    assert {"evaluation/accuracy", "groups/step_by_rest/0", "samples_per_s", "memory_gib"} <= set(tags)
    for name in tags:
        shown = [(event.step, np.float32(event.value)) for event in found.Scalars(name)]
        assert shown == told[name], f"{name}: each step once, also those that were taken twice"


def test_contact_sheets_are_logged_and_kept(watched):
    files = sorted(path.name for path in (watched / "samples").iterdir())
    assert files == [f"toy-{step:08d}.png" for step in (5, 10, 20, 30)], "at the first logged step, and when evaluated"
    shown = events(watched).Images("samples")
    assert [event.step for event in shown] == [5, 10, 20, 30]
    kept = Image.open(watched / "samples" / files[-1])
    assert (shown[-1].width, shown[-1].height) == kept.size
    with Image.open(io.BytesIO(shown[-1].encoded_image_string)) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), np.asarray(kept.convert("RGB")))


def test_means_by_group_weigh_every_example_alike(watched):
    logged = [line for line in lines(watched) if "groups" in line]
    assert [line["step"] for line in logged] == [5, 10, 15, 20, 25, 30]
    for line in logged:
        groups = line["groups"]["step_by_rest"]
        steps = np.arange(line["step"] - 5, line["step"])
        assert groups[3] is None
        weights = {rest: [] for rest in range(3)}
        for step in steps:
            _, codes = Toy().batch(int(step))
            for rest in range(3):
                weights[rest].append(int((codes % 3 == rest).sum()))
        for rest in range(3):
            assert groups[rest] == pytest.approx(np.average(steps, weights=weights[rest]), rel=1e-6)


def test_averages_come_back_from_json():
    averages = Averages()
    averages.add(1, {"a": torch.tensor(0.1), "by": torch.tensor([[1.0, 0.0], [3.0, 0.0]])})
    again = Averages()
    again.load(json.loads(json.dumps(averages.state())))
    for one in (averages, again):
        one.add(2, {"a": torch.tensor(0.7), "by": torch.tensor([[2.0, 5.0], [1.0, 2.0]])})
    assert averages.take() == again.take()
    assert averages.take() == {}


def test_norms_by_hand(tmp_path):
    one, other = torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])
    found = optim.norms([one, other], [one - torch.tensor([0.0, 2.0]), other - 1.0])
    assert found["param_norm"].item() == 5.0
    assert found["update_norm"].item() == pytest.approx(math.sqrt(5.0))
    go(tmp_path, num_steps=10)
    line = next(line for line in lines(tmp_path) if "loss" in line)
    # Adam's first steps are as long as the rate in every one of its parameters, up to the decay and the warm-up.
    num = sum(parameter.numel() for parameter in optim.trained_parameters(Toy().model).values())
    assert 0.1 < line["update_norm"] / (line["lr"] * math.sqrt(num)) < 1.2


def test_the_clock_by_hand():
    now = iter([0.0, 1.0, 3.0, 4.0, 6.0, 10.0, 20.0])
    clock = throughput.Clock(lambda: next(now))  # begins at 0
    with clock.waiting():  # 1 to 3
        clock.step()
    with clock.aside():  # 4 to 6
        clock.step()
    told = clock.take()  # at 10, and begins anew at 20
    assert told == {"steps_per_s": 2 / 8, "idle_share": 2 / 8}


def test_the_idle_share_is_the_wait_for_batches(tmp_path, monkeypatch):
    """By a clock of our own: a batch takes three seconds, the rest of a step one."""
    now = [0.0]
    monkeypatch.setattr(inspect.unwrap(throughput.Clock.__init__), "__defaults__", (lambda: now[0],))

    class Timed(Toy):
        def batch(self, step):
            now[0] += 3.0
            return super().batch(step)

        def objective(self, batch, generator):
            now[0] += 1.0
            return super().objective(batch, generator)

    go(tmp_path, Timed(), num_steps=5)
    line = next(line for line in lines(tmp_path) if "loss" in line)
    assert line["idle_share"] == pytest.approx(0.75)
    assert line["samples_per_s"] == pytest.approx(16 / 4)
    assert 0.01 < line["memory_gib"] < 100


# ----------------------------------------------------------------------------------------------------- other watchers


class Library(types.ModuleType):
    """Stands for wandb or trackio; records what it is told."""

    def __init__(self, name: str):
        super().__init__(name)
        self.told = []
        self.Image = lambda path: f"picture {Path(path).name}"

    def init(self, **facts):
        self.told.append(("init", facts))
        return self

    def log(self, values, step):
        self.told.append(("log", step, values))

    def finish(self):
        self.told.append(("finish",))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_others_get_the_same_lines(whole, tmp_path, monkeypatch, name):
    library = Library(name)
    monkeypatch.setitem(sys.modules, name, library)
    monkeypatch.setenv(f"{name.upper()}_PROJECT", "mine")
    out = tmp_path / "run"
    go(out, Decoded(), watch=[name], num_steps=10)
    first = library.told[0][1]
    assert first["project"] == "mine"
    assert first["resume"] == "allow"
    assert first["config"]["seed"] == 0
    assert first["config"]["learning_rate"] == 3e-3
    logged = [call for call in library.told if call[0] == "log"]
    numbers = [("log", line["step"], watch.scalars(line)) for line in lines(out)]
    sheets = [("log", step, {"samples": f"picture toy-{step:08d}.png"}) for step in (5, 10)]
    assert logged == [numbers[0], sheets[0], *numbers[1:], sheets[1]]
    assert library.told[-1] == ("finish",)
    before = len(library.told)
    go(out, Decoded(), watch=[name], num_steps=20)
    again = library.told[before][1]
    key = "id" if name == "wandb" else "name"
    assert again[key] == first[key], "a run that is taken up goes on in the same chart"
    assert key == "name" or again["dir"] == str(out)


def test_a_watcher_that_breaks_is_left_out(whole, tmp_path, monkeypatch, capsys):
    class Broken(Library):
        def log(self, values, step):
            super().log(values, step)
            raise ConnectionError("no network\nat all")

    library = Broken("wandb")
    monkeypatch.setitem(sys.modules, "wandb", library)
    go(tmp_path, watch=["wandb", "tensorboard"])
    assert_same_bits(latest(whole, "toy").folder, latest(tmp_path, "toy").folder)
    assert len([call for call in library.told if call[0] == "log"]) == 1
    said = capsys.readouterr().err
    assert (
        said.count("warning: wandb failed (no network) and is disabled; training continues, and log.jsonl is complete.")
        == 1
    )
    assert events(tmp_path).Scalars("loss")[-1].step == 30


def test_a_watcher_that_cannot_start_stops_before_the_first_step(tmp_path, monkeypatch):
    class Shut(Library):
        def init(self, **facts):
            raise RuntimeError("you are not logged in")

    monkeypatch.setitem(sys.modules, "wandb", Shut("wandb"))
    task = Toy()
    with pytest.raises(UserError, match=r"logger wandb cannot be started \(you are not logged in\); fix that"):
        go(tmp_path, task, watch=["wandb"])
    assert task.seen == []


def test_a_watcher_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(
        UserError, match=r"logger trackio cannot be loaded .*; run pip install trackio, or leave it out"
    ):
        go(tmp_path, watch=["trackio"])


def test_who_watches_is_the_users_choice(monkeypatch):
    assert watch.chosen(None) == ("tensorboard",)
    assert watch.chosen(["none"]) == ()
    assert watch.chosen(["wandb", "tensorboard", "wandb"]) == ("wandb", "tensorboard")
    for names in (["none", "wandb"], ["tensorbord"]):
        with pytest.raises(UserError, match="is unknown; use some of tensorboard, wandb, trackio, or only `none`"):
            watch.chosen(names)
    monkeypatch.setattr(watch.importlib.util, "find_spec", lambda name: None)
    assert watch.chosen(None) == ()


def test_nobody_watches_unless_asked(whole):
    assert sorted(path.name for path in whole.iterdir()) == ["checkpoints", "log.jsonl"]


def test_flat_names():
    line = {"task": "toy", "step": 3, "lr": 0.1, "terms": {"a": 1, "b": None}, "alarms": ["frozen"]}
    line["groups"] = {"by": [1.5, None, 2]}
    line["is_good"] = True
    assert watch.scalars(line) == {"lr": 0.1, "terms/a": 1.0, "groups/by/0": 1.5, "groups/by/2": 2.0}
