"""The engine: same bits after a stop as without one, and nothing lost when something goes wrong."""

import errno
import json
import math
import os
import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import children
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cdcd_video.engine import checkpoint, optim, runtime
from cdcd_video.engine.checkpoint import latest, load_weights
from cdcd_video.engine.ema import Ema
from cdcd_video.engine.log import Averages, Journal, NotFiniteError
from cdcd_video.engine.loop import train
from cdcd_video.engine.optim import TrainSettings
from cdcd_video.errors import UserError
from cdcd_video.records import LossTerms


class Net(nn.Module):
    """Everything that could be forgotten when a run is taken up again: dropout, buffers, a tie, a frozen layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.inner = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 8))
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.embedding.weight
        self.frozen = nn.Linear(8, 8).requires_grad_(False)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        state = self.embedding(codes)
        return self.out(self.inner(state) + self.frozen(state))


class Toy:
    """Learns c -> (3 c + 1) mod 11 under noise drawn from the step's own generator."""

    name = "toy"
    batch_size = 16

    def __init__(self, trouble=None):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.model = Net()
        self.trouble = trouble or (lambda step, loss: loss)
        self.seen = []
        self.evaluated = []

    def batch(self, step):
        self.seen.append(step)
        return step, torch.randint(11, (self.batch_size,), generator=runtime.generator("toy data", step))

    def objective(self, batch, generator):
        step, codes = batch
        is_noisy = torch.rand(codes.shape, generator=generator) < 0.1
        logits = self.model(torch.where(is_noisy, torch.zeros_like(codes), codes))
        loss = self.trouble(step, nn.functional.cross_entropy(logits.float(), (3 * codes + 1) % 11))
        return LossTerms(loss + 0.0, {"entropy": loss.detach(), "noise": is_noisy.float().mean()})

    def evaluate(self):
        assert not self.model.training
        assert not torch.is_grad_enabled()
        codes = torch.arange(11)
        self.evaluated.append(self.model.embedding.weight.detach().clone())
        return {"accuracy": (self.model(codes).argmax(-1) == (3 * codes + 1) % 11).float().mean().item()}


SETTINGS = TrainSettings(
    num_steps=30,
    learning_rate=3e-3,
    warmup_steps=5,
    weight_decay=0.1,
    ema_decay=0.9,
    log_every=5,
    eval_every=10,
    checkpoint_every=7,
    checkpoint_every_s=None,
    num_threads=1,  # sums depend on their number in the last bits, and some runs here are processes of their own
)
IDENTITY = {"config": "c0ffee"}


def go(out: Path, task: Toy | None = None, **changes):
    asked = {"seed": 0, "identity": IDENTITY, "watch": ()}
    asked |= {name: changes.pop(name) for name in asked if name in changes}
    return train(task or Toy(), replace(SETTINGS, **changes), out, **asked)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    parts = ("model", "ema", "optimizer")
    return {
        f"{part}:{key}": value for part in parts for key, value in load_file(folder / f"{part}.safetensors").items()
    }


def assert_same_bits(one: Path, other: Path):
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_shares_are_worked_out_on_logged_steps_only_and_change_no_bits(whole, tmp_path):
    asked = []

    class Telling(Toy):
        def objective(self, batch, generator):
            losses = super().objective(batch, generator)

            def shares():
                (gradient,) = torch.autograd.grad(losses.total, self.model.out.weight, retain_graph=True)
                asked.append(batch[0])
                return {"share": gradient.norm() * 0 + batch[0]}

            return replace(losses, shares=shares)

    go(tmp_path, Telling())
    assert asked == [4, 9, 14, 19, 24, 29]
    assert [line["terms"]["share"] for line in lines(tmp_path) if "terms" in line] == asked
    assert_same_bits(latest(tmp_path, "toy").folder, latest(whole, "toy").folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing interrupted; tests copy it before they harm it."""
    out = tmp_path_factory.mktemp("whole")
    go(out)
    return out


@pytest.fixture
def run(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_it_learns_and_says_so(tmp_path):
    result = go(tmp_path, num_steps=400, learning_rate=1e-2, eval_every=None, log_every=100)
    assert result.is_finished
    assert result.step == 400
    assert result.evaluation["accuracy"] == 1.0
    steps = [line["step"] for line in lines(tmp_path) if "loss" in line]
    assert steps == [100, 200, 300, 400]
    last = lines(tmp_path)[-2]
    assert last["loss"] < 0.7 * lines(tmp_path)[0]["loss"]
    assert set(last["terms"]) == {"entropy", "noise"}
    assert last["samples_per_s"] > 0
    assert 0.0 < last["terms"]["noise"] < 0.25


def test_two_runs_have_the_same_bits(whole, tmp_path):
    go(tmp_path)
    assert_same_bits(latest(whole, "toy").folder, latest(tmp_path, "toy").folder)


def test_another_seed_has_other_bits(whole, tmp_path):
    go(tmp_path, seed=1)
    assert not torch.equal(load_weights(whole, "toy")["out.weight"], load_weights(tmp_path, "toy")["out.weight"])


@pytest.mark.parametrize("crash_at", [0, 7, 13, 29])
def test_a_crashed_run_ends_with_the_same_bits(whole, tmp_path, crash_at):
    def crash(step, loss):
        if step == crash_at:
            raise RuntimeError("the plug was pulled")
        return loss

    with pytest.raises(RuntimeError, match="plug"):
        go(tmp_path, Toy(crash))
    task = Toy()
    go(tmp_path, task)
    assert task.seen == list(range(crash_at // 7 * 7, 30))
    assert_same_bits(latest(whole, "toy").folder, latest(tmp_path, "toy").folder)
    kept = [(line["step"], line.get("evaluation")) for line in lines(tmp_path)]
    assert kept == [(line["step"], line.get("evaluation")) for line in lines(whole)]


def strikes_itself() -> None:
    """Runs in a process of its own: trains, and is hit by a signal in step 10."""
    out, number = sys.argv[1:]

    def strike(step, loss):
        if step == 10:
            os.kill(os.getpid(), int(number))
        return loss

    go(Path(out), Toy(strike))


KILLS = {signal.SIGTERM: (143, 11), signal.SIGINT: (130, 11), signal.SIGKILL: (-signal.SIGKILL, 7)}
"""Signal -> exit code, and the step of the checkpoint that is there afterwards."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> dict[int, tuple[Path, int, str]]:
    """Signal -> run folder, exit code and stderr of a process that it hit in step 10; all run side by side."""
    outs = {number: tmp_path_factory.mktemp(number.name) for number in KILLS}
    started = {number: children.start("test_engine:strikes_itself", out, int(number)) for number, out in outs.items()}
    return {number: (outs[number], child.wait(), child.stderr) for number, child in started.items()}


@pytest.mark.parametrize("number", list(KILLS), ids=lambda number: number.name)
def test_a_killed_process_is_taken_up_with_the_same_bits(whole, killed, number):
    out, code, said = killed[number]
    assert (code, latest(out, "toy").step) == KILLS[number], said
    assert "Traceback" not in said
    if number != signal.SIGKILL:
        assert "toy: stopped at step 11; saved " in said
        assert "run the same command again to resume." in said
    go(out)
    assert_same_bits(latest(whole, "toy").folder, latest(out, "toy").folder)


def test_handlers_and_global_random_state_are_given_back(tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    before = torch.get_rng_state()
    go(tmp_path, num_steps=3)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert torch.equal(before, torch.get_rng_state())


def test_it_trains_in_another_thread_too(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(go(tmp_path, num_steps=2)))
    thread.start()
    thread.join()
    assert results[0].step == 2


def test_a_finished_run_returns_at_once(run):
    task = Toy()
    before = (run / "log.jsonl").read_bytes()
    result = go(run, task)
    assert task.seen == []
    assert result.is_finished
    assert result.evaluation == [line for line in lines(run) if "evaluation" in line][-1]["evaluation"]
    assert torch.equal(task.model.out.weight, load_weights(run, "toy", "model")["out.weight"])
    assert (run / "log.jsonl").read_bytes() == before


def test_time_limit_stops_cleanly(whole, tmp_path, capsys):
    result = go(tmp_path, max_minutes=1e-9)
    assert (result.step, result.is_finished) == (1, False)
    assert "run the same command again to resume" in capsys.readouterr().err
    assert go(tmp_path).is_finished
    assert_same_bits(latest(whole, "toy").folder, latest(tmp_path, "toy").folder)


def test_checkpoints_by_the_clock(tmp_path):
    go(tmp_path, num_steps=3, checkpoint_every=None, checkpoint_every_s=0.0, keep_checkpoints=3)
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "toy").iterdir()) == [
        f"step-{n:08d}" for n in (1, 2, 3)
    ]


def test_only_the_newest_are_kept(whole):
    assert sorted(path.name for path in (whole / "checkpoints" / "toy").iterdir()) == ["step-00000028", "step-00000030"]
    assert sorted(path.name for path in latest(whole, "toy").folder.iterdir()) == [
        "ema.safetensors",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


def test_evaluation_wears_the_average(tmp_path):
    task = Toy()
    go(tmp_path, task, num_steps=10)
    assert torch.equal(task.evaluated[-1], load_weights(tmp_path, "toy", "ema")["embedding.weight"])
    assert torch.equal(task.model.embedding.weight, load_weights(tmp_path, "toy", "model")["embedding.weight"])
    assert not torch.equal(task.evaluated[-1], task.model.embedding.weight)
    assert task.model.training


def test_tied_weights_agree_in_the_average(whole):
    weights = load_weights(whole, "toy")
    assert torch.equal(weights["out.weight"], weights["embedding.weight"])
    Net().load_state_dict(weights)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "remove", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(whole, run, name, harm, capsys):
    victim = latest(run, "toy").folder / name
    content = bytearray(victim.read_bytes())
    if harm == "cut":
        del content[len(content) // 2 :]
    elif harm == "empty":
        content.clear()
    elif harm == "flip":
        content[content.index(b'"step": 30') + 9 if name == "state.json" else len(content) // 2] ^= 1
    if harm == "remove":
        victim.unlink()
    else:
        victim.write_bytes(content)

    task = Toy()
    assert go(run, task).is_finished
    said = capsys.readouterr().err
    assert f"{victim.parent} is damaged" in said
    assert "using the one before it." in said
    assert task.seen == [28, 29]
    assert_same_bits(latest(whole, "toy").folder, latest(run, "toy").folder)
    assert victim.parent.with_name("step-00000030.damaged").is_dir()


def test_all_damaged_is_the_users_to_decide(run):
    for path in (run / "checkpoints").glob("*/*/ema.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged \(ema.*\); delete that folder"):
        go(run)
    with pytest.raises(UserError, match="every checkpoint"):
        load_weights(run, "toy")


def test_no_checkpoint_at_all(whole, tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint of toy; train it first"):
        latest(tmp_path / "missing", "toy")
    with pytest.raises(UserError, match="holds no checkpoint of other"):
        load_weights(whole, "other")


def test_tasks_share_a_folder(run):
    task = Toy()
    task.name = "second"
    go(run, task, num_steps=5)
    assert latest(run, "second").step == 5
    assert latest(run, "toy").step == 30
    assert [line["step"] for line in lines(run) if line["task"] == "second" and "loss" in line] == [5]
    assert len([line for line in lines(run) if line["task"] == "toy"]) == 9


def test_another_format_is_refused(run):
    state = latest(run, "toy").folder / "state.json"
    state.write_text(state.read_text().replace('"format": 1', '"format": 7'))
    for read in (go, lambda out: load_weights(out, "toy")):
        with pytest.raises(UserError, match="has checkpoint format 7, this version of the code reads format 1"):
            read(run)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"identity": {"config": "dead"}}, "config was c0ffee and is now dead"),
        ({"identity": {**IDENTITY, "codec": "feed"}}, "codec was not given and is now feed"),
        ({"seed": 3}, "seed was 0 and is now 3"),
    ],
)
def test_another_run_is_refused(run, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        go(run, **changes)
    assert "choose a new --out, or delete" in str(caught.value)


def test_another_model_is_refused(run):
    task = Toy()
    task.model.frozen = nn.Linear(8, 9)
    with pytest.raises(UserError, match="does not fit the model that the config builds"):
        go(run, task)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_saves_nothing(tmp_path, value):
    with pytest.raises(
        UserError, match=r"entropy is (nan|inf) at step 10; .* the last good checkpoint is .*step-00000007"
    ) as caught:
        go(tmp_path, Toy(lambda step, loss: loss * (value if step == 9 else 1.0)))
    assert "\n" not in str(caught.value)
    assert latest(tmp_path, "toy").folder.name == "step-00000007"
    assert all(torch.isfinite(tensor).all() for tensor in tensors(latest(tmp_path, "toy").folder).values())


def test_not_finite_before_the_first_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no checkpoint had been saved yet"):
        go(tmp_path, Toy(lambda step, loss: loss * math.nan))


def test_a_gradient_that_is_not_finite_is_named(tmp_path):
    with pytest.raises(UserError, match="grad_norm is nan at step 4"):
        go(tmp_path, Toy(lambda step, loss: loss + (torch.sqrt(0.0 * loss) if step == 3 else 0.0)))


def test_a_full_disk_loses_nothing(run, monkeypatch):
    shutil.rmtree(latest(run, "toy").folder)
    earlier = latest(run, "toy").folder

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", full)
        with pytest.raises(
            UserError, match="no space left on device; free some space and run again. The checkpoint"
        ) as caught:
            checkpoint.save(run, "toy", 29, {"model": {}, "ema": {}, "optimizer": {}}, identity={}, facts={})
    assert str(earlier) in str(caught.value)
    assert [path.name for path in (run / "checkpoints" / "toy").iterdir()] == [earlier.name]
    assert go(run).is_finished


def test_out_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("not a folder")
    with pytest.raises(UserError, match="cannot write to .*taken.*choose another --out"):
        go(tmp_path / "taken" / "run")


def test_what_a_killed_save_left_behind_is_cleared(run):
    stale = run / "checkpoints" / "toy" / ".writing-step-00000030"
    shutil.copytree(latest(run, "toy").folder, stale)
    shutil.rmtree(latest(run, "toy").folder)
    assert go(run).is_finished
    assert not stale.exists()


def test_log_keeps_other_tasks_and_drops_torn_lines(run):
    with (run / "log.jsonl").open("a") as file:
        file.write('{"task": "other", "step": 999}\n{"task": "toy", "step": 31}\n{"task": "toy", "st')
    Journal(run / "log.jsonl", "toy").rewind(10)
    after = lines(run)
    assert {"task": "other", "step": 999} in after
    assert max(line["step"] for line in after if line["task"] == "toy") == 10


def test_two_stages_that_write_one_log_lose_no_line(tmp_path):
    """A stage that begins again drops its own lines, while another process appends those of another stage."""
    own, other = (Journal(tmp_path / "log.jsonl", name) for name in ("toy", "other"))

    def write_all() -> None:
        for step in range(1, 101):
            other.write(step, 0.0)

    writer = threading.Thread(target=write_all)
    writer.start()
    while writer.is_alive():
        own.write(1, 0.0)
        own.rewind(0)
    writer.join()
    assert [line["step"] for line in lines(tmp_path) if line["task"] == "other"] == list(range(1, 101))


def test_log_is_json_whatever_is_logged(tmp_path):
    Journal(tmp_path / "log.jsonl", "toy").write(1, 0.5, evaluation={"psnr": math.inf, "n": 3})
    assert lines(tmp_path) == [{"task": "toy", "step": 1, "time_s": 0.5, "evaluation": {"psnr": None, "n": 3}}]


def test_averages_are_over_the_steps_that_had_the_term():
    averages = Averages()
    averages.add(1, {"a": torch.tensor(1.0), "b": torch.tensor(4)})
    averages.add(2, {"a": torch.tensor(2.0)})
    assert averages.take() == {"a": 1.5, "b": 4.0}
    assert averages.take() == {}
    averages.add(3, {"a": torch.tensor(math.nan)})
    with pytest.raises(NotFiniteError, match="a is nan at step 3"):
        averages.take()


def test_precision_reaches_the_objective(tmp_path):
    seen = []

    def look(step, loss):
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return loss

    go(tmp_path / "half", Toy(look), num_steps=1, precision="bf16")
    go(tmp_path / "full", Toy(look), num_steps=1)
    assert seen[0] == (True, torch.bfloat16)
    assert seen[1][0] is False
    for name, precision in (("half", "bf16"), ("full", "fp32")):
        assert {line["precision"] for line in lines(tmp_path / name) if "terms" in line} == {precision}


def test_learning_rate_by_hand():
    settings = replace(SETTINGS, learning_rate=2.0, warmup_steps=4, num_steps=14, final_lr_ratio=0.1)
    rates = [optim.learning_rate(step, settings) for step in range(15)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[9] == pytest.approx(2.0 * 0.55)
    assert rates[14] == pytest.approx(0.2)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert optim.learning_rate(13, replace(settings, schedule="constant")) == 2.0


def test_a_stable_rate_falls_in_a_straight_line_at_the_end():
    settings = replace(SETTINGS, learning_rate=2.0, warmup_steps=4, num_steps=20, final_lr_ratio=0.1)
    settings = replace(settings, schedule="wsd", decay_share=0.25)
    rates = [optim.learning_rate(step, settings) for step in range(21)]
    assert rates[:16] == [0.5, 1.0, 1.5] + [2.0] * 13
    assert rates[16:] == pytest.approx([1.64, 1.28, 0.92, 0.56, 0.2])
    longer = [optim.learning_rate(step, replace(settings, num_steps=40)) for step in range(16)]
    assert longer == rates[:16], "until the decay begins, the length of the run changes nothing"


def test_weight_decay_only_where_it_belongs():
    model = nn.Module()
    model.linear, model.norm, model.table = nn.Linear(3, 3), nn.GroupNorm(1, 3), nn.Embedding(4, 3)
    model.position_embedding = nn.Parameter(torch.zeros(5, 3))
    model.kernel = nn.Parameter(torch.zeros(5, 3))
    model.off = nn.Linear(3, 3).requires_grad_(False)
    groups = optim.make_optimizer(model, SETTINGS).param_groups
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert decayed == {id(model.linear.weight), id(model.kernel)}
    assert sum(len(group["params"]) for group in groups) == 7


def test_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    ema = Ema(model, decay=0.5)
    nn.init.constant_(model.weight, 1.0)
    ema.update(0)  # decay 1/10
    assert ema.average["weight"].item() == pytest.approx(0.9)
    ema.update(100)  # decay 0.5
    assert ema.average["weight"].item() == pytest.approx(0.95)


def test_seeds_are_stable_and_apart():
    assert runtime.seed_for(0, "diffusion", 17) == runtime.seed_for(0, "diffusion", 17)
    assert runtime.seed_for(0, "toy") == 2**63 - 1 & runtime.seed_for(0, "toy")
    seeds = {runtime.seed_for(a, b, c) for a in range(10) for b in ("x", "y", "1") for c in range(50)}
    assert len(seeds) == 1500
    assert runtime.seed_for(1) != runtime.seed_for("1")
    assert runtime.seed_for("ab", "c") != runtime.seed_for("a", "bc")


@pytest.mark.parametrize(
    ("name", "words"),
    [("gpu9", "is not a device"), ("cuda:99", "is not on this machine"), ("meta", "not supported"), ("mps", "64-bit")],
)
def test_devices_that_are_not_there(name, words):
    with pytest.raises(UserError, match=words):
        runtime.device_for(name)


def test_run_json_keeps_earlier_starts(tmp_path):
    runtime.write_run_json(tmp_path / "run", ["train.py", "--first"], config="c0ffee")
    runtime.write_run_json(tmp_path / "run", ["train.py", "--second"], config="c0ffee")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["command"] == ["train.py", "--second"]
    assert [start["command"] for start in run["earlier"]] == [["train.py", "--first"]]
    assert run["machine"]["torch"] == torch.__version__
    assert {"commit", "dirty", "config", "started"} <= run.keys()


def test_git_that_is_not_there_is_no_trouble(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert runtime.git_state() == {"commit": "unknown", "dirty": "unknown"}
