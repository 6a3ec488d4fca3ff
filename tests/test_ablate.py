"""An ablation: what is read from its file, what intervals say, and the whole of it on the tiny config."""

import json
import signal
import sys
import time
from pathlib import Path

import children
import numpy as np
import pytest
from safetensors.torch import load_file

import train
from cdcd_video.ablate import __main__ as ablate
from cdcd_video.ablate import cell, cost, plan, training_logs, verdict
from cdcd_video.ablate.gather import Sums
from cdcd_video.ablate.plan import Ablation
from cdcd_video.config import config_file
from cdcd_video.errors import UserError, exit_code

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted((ROOT / "configs" / "ablations").glob("*.yaml"))


def sums(totals: np.ndarray, by_frame: np.ndarray | None = None) -> Sums:
    """Seeds by videos, all of weight 1."""
    totals = np.asarray(totals, np.float64)
    seeds, videos = totals.shape
    frames = 0 if by_frame is None else by_frame.shape[2]
    curves = np.zeros((2, seeds, videos, 0)) if by_frame is None else np.stack([by_frame, np.ones_like(by_frame)])
    names = tuple(f"v{number:04d}" for number in range(videos))
    return Sums(
        tuple(range(seeds)), names, np.stack([totals, np.ones_like(totals)]), tuple(range(1, frames + 1)), curves
    )


# ------------------------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_ablations_are_good(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    found = plan.read(path, [], None)
    assert len(found.cells) == len(found.arms) * len(found.ablation.seeds)
    assert len({one.folder for one in found.cells}) == len(found.cells)
    configs = [one.config for one in found.cells]
    if path.stem == "recipe":  # its arms are kinds of training and of network
        sizes = {
            (c.denoiser.width, c.denoiser.num_layers, c.train.diffusion.num_steps, c.train.diffusion.batch_size)
            for c in configs
        }
    else:
        sizes = {(c.denoiser, c.train) for c in configs}
    assert len(sizes) == 1 and len({(c.data, c.reuse) for c in configs}) == 1, "equal size, steps, data and codec"


def write_plan(folder: Path, **changes) -> Path:
    """A small ablation as a file; `changes` are its fields."""
    content = {
        "question": "does it run?",
        "config": str(ROOT / "configs" / "tiny.yaml"),
        "arms": {"none": ["loss.contrast.frame_frame=0", "loss.contrast.frame_text=0"], "both": []},
        "seeds": [0, 1],
        "measured": {"along": {"protocol": str(ROOT / "configs/eval/small.yaml"), "metrics": ["sprites", "motion"]}},
    }
    path = folder / "small.yaml"
    path.write_text(json.dumps(content | changes))
    return path


def test_cells_are_arms_times_columns_times_seeds_and_then_baselines(tmp_path: Path):
    path = write_plan(
        tmp_path,
        across={"mask": [], "bridge": ["diffusion.process.kind=bridge"]},
        baselines={"gaussian": ["baseline.kind=gaussian", "loss.contrast.frame_frame=0", "loss.contrast.frame_text=0"]},
    )
    found = plan.read(path, ["seeds=[3, 5]"], tmp_path)
    names = [one.folder.name for one in found.cells]
    arms = ["none-mask", "both-mask", "none-bridge", "both-bridge", "gaussian"]
    assert names == [f"{arm}-{seed}" for arm in arms for seed in (3, 5)]
    assert [arm.reference for arm in found.arms.values()] == [
        "none-mask",
        "none-mask",
        "none-bridge",
        "none-bridge",
        "none-mask",
    ]
    by_name = {one.folder.name: one.config for one in found.cells}
    assert by_name["both-bridge-5"].diffusion.process.kind == "bridge" and by_name["both-bridge-5"].seed == 5
    assert by_name["none-mask-3"].loss.contrast.frame_text == 0 < by_name["both-mask-3"].loss.contrast.frame_text
    assert by_name["gaussian-3"].baseline.kind == "gaussian"


def test_baselines_and_their_earlier_name(tmp_path: Path):
    off = ["loss.contrast.frame_frame=0", "loss.contrast.frame_text=0"]
    both = [
        {key: {"g": [f"{one}.kind=gaussian", *off]}} for key in ("baselines", "rivals") for one in ("baseline", "rival")
    ]
    kinds = [plan.read(write_plan(tmp_path, **given), [], tmp_path).cells[-1].config.baseline.kind for given in both]
    assert kinds == ["gaussian"] * 4
    with pytest.raises(UserError, match="small.yaml: `rivals` is the earlier name of `baselines`"):
        plan.read(write_plan(tmp_path, **both[0], **both[-1]), [], tmp_path)
    with pytest.raises(UserError, match="cell g-0: --set: `rival` is the earlier name of `baseline`"):
        plan.read(write_plan(tmp_path, baselines={"g": ["rival.kind=gaussian", "baseline=null"]}), [], tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": {"none": ["loss.contrst=0"]}}, ["cell none-0", "contrst"]),
        ({"reference": "nothing"}, ["reference", "nothing"]),
        ({"seeds": [1, 1]}, ["seeds are equal"]),
        ({"baselines": {"none": []}}, ["seeds are equal"]),
        ({"measured": {"along": {"protocol": "no.yaml", "metrics": ["psnr"]}}}, ["no.yaml"]),
        (
            {"measured": {"along": {"protocol": str(ROOT / "configs/eval/small.yaml"), "metrics": ["beauty"]}}},
            ["beauty"],
        ),
        ({"arms": {}}, ["arms"]),
        ({"questoin": "?"}, ["questoin"]),
    ],
)
def test_mistakes_are_told_before_anything_starts(tmp_path: Path, changes, words):
    with pytest.raises(UserError) as error:
        plan.read(write_plan(tmp_path, **changes), [], tmp_path)
    for word in words:
        assert word in str(error.value)


def test_the_default_reference_is_the_first_arm():
    found = Ablation(
        question="?", config="x", arms={"b": (), "a": ()}, measured={"m": {"protocol": "p", "metrics": ["psnr"]}}
    )
    assert [arm.reference for arm in found.every_arm()] == ["b", "b"]


# ---------------------------------------------------------------------------------------------------------- verdicts


def test_values_are_means_over_seeds_of_ratios_over_videos():
    rng = np.random.default_rng(0)
    totals = rng.random((3, 40))
    found = verdict.value_of(sums(totals))
    assert found.value == pytest.approx(totals.mean())
    assert found.by_seed == pytest.approx(totals.mean(axis=1))
    assert found.low < found.value < found.high and found.num_videos == 40


def test_shares_stay_between_0_and_1_and_agreement_is_not_certainty():
    """Three of three videos say that it lies above (1 - 0.975) ** (1 / 3), not that it is 1."""
    all_right = verdict.value_of(sums(np.ones((3, 3))), is_share=True)
    assert (all_right.value, all_right.high) == (1, 1) and all_right.low == pytest.approx(0.025 ** (1 / 3))
    none_right = verdict.value_of(sums(np.zeros((3, 3))), is_share=True)
    assert (none_right.value, none_right.low) == (0, 0) and none_right.high == pytest.approx(1 - 0.025 ** (1 / 3))
    nearly = np.ones((3, 20))
    nearly[0, :6] = 0
    assert verdict.value_of(sums(nearly)).high > 1 == verdict.value_of(sums(nearly), is_share=True).high


def test_with_one_seed_the_interval_is_the_ordinary_bootstrap():
    totals = np.random.default_rng(1).random((1, 200))
    found = verdict.value_of(sums(totals))
    standard = totals.std() / np.sqrt(200)
    assert (found.high - found.low) / (2 * 1.96 * standard) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_the_scatter_of_seeds_has_its_unbiased_size(num_seeds: int):
    """With videos that are all alike only the seeds scatter: variance of their mean, s^2 / S with S - 1 in s^2."""
    of_seed = np.random.default_rng(2).normal(size=num_seeds)
    own, resampled = verdict._resampled(sums(np.repeat(of_seed[:, None], 5, axis=1)), "whole", 0)
    rng = np.random.Generator(np.random.Philox(key=[0, 1]))
    picked = rng.integers(num_seeds, size=(len(resampled), num_seeds))
    expected = of_seed.mean() + np.sqrt(num_seeds / (num_seeds - 1)) * (of_seed[picked].mean(axis=1) - of_seed.mean())
    assert expected.var() == pytest.approx(of_seed.var(ddof=1) / num_seeds, rel=0.1)
    _, low, high = verdict._interval(own, resampled, 0)
    assert (low, high) == pytest.approx(np.quantile(expected, (0.025, 0.975)))


def test_what_is_hard_for_both_cancels():
    """Videos differ wildly, the arms by a constant: the difference is sharp, the values are not."""
    hard = np.random.default_rng(3).normal(0, 10, (3, 100))
    found = verdict.difference_of(sums(hard + 1), sums(hard), "higher")
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert found.is_significant and found.is_better
    worse = verdict.difference_of(sums(hard + 1), sums(hard), "lower")
    assert worse.is_significant and not worse.is_better


def test_equal_arms_are_not_told_apart_more_often_than_said():
    """Seeds and videos both scatter; nothing differs in truth."""
    rng = np.random.default_rng(4)
    called = 0
    for _ in range(150):
        videos = rng.normal(size=(1, 60))
        arms = [videos + 0.3 * rng.normal(size=(3, 1)) + rng.normal(size=(3, 60)) for _ in range(2)]
        called += verdict.difference_of(sums(arms[0]), sums(arms[1]), "higher").is_significant
    assert called / 150 < 0.15


def test_a_real_difference_is_significant():
    rng = np.random.default_rng(5)
    base = rng.normal(size=(3, 200))
    assert verdict.difference_of(sums(base + 0.5 + 0.1 * rng.normal(size=(3, 1))), sums(base), "higher").is_significant


def test_seeds_that_disagree_are_not_told_apart_and_fewer_than_three_never_are():
    base = np.zeros((3, 50))
    assert verdict.difference_of(sums(base + 2), sums(base), "higher").is_significant
    assert not verdict.difference_of(sums(base[:2] + 2), sums(base[:2]), "higher").is_significant
    assert not verdict.difference_of(sums(base + [[2.0], [2.0], [-0.1]]), sums(base), "higher").is_significant
    assert not verdict.difference_of(sums(base[:1] + 2), sums(base[:1]), "higher").is_significant


def test_likeness_is_compared_by_its_distance_to_what_is_right():
    base = np.full((3, 30), 0.5)
    found = verdict.difference_of(sums(base + 1.0), sums(base), "one", right=1.0)
    assert found.value == pytest.approx(0) and not found.is_significant  # 1.5 and 0.5 are equally far from 1
    nearer = verdict.difference_of(sums(base + 0.4), sums(base), "one", right=1.0)
    assert nearer.is_significant and nearer.is_better
    assert verdict.difference_of(sums(base), sums(base), "real") is None


def test_slope_and_end_of_a_curve():
    curves = np.arange(1, 9)[None, None] * np.array([0.5, 1.5])[:, None, None] + np.zeros((2, 6, 8))
    found = sums(curves.sum(axis=2), curves)
    assert verdict.value_of(found, "slope").by_seed == pytest.approx((0.5, 1.5))
    assert verdict.value_of(found, "end").by_seed == pytest.approx((0.5 * 7.5, 1.5 * 7.5))
    assert verdict.curve_of(found) == pytest.approx(curves[:, 0])


def test_only_seeds_that_both_have_are_compared():
    base = np.arange(30.0).reshape(3, 10)
    found = verdict.difference_of(sums(base), sums(base).of([2, 0]), "higher")
    assert found.by_seed == pytest.approx((0, 0)) and len(found.by_seed) == 2


# ---------------------------------------------------------------------------------------------------------- training


def test_what_the_logs_say_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = plan.read(write_plan(tmp_path), [], tmp_path / "out")
    for number, one in enumerate(found.of("both")):
        (one.folder / "along").mkdir(parents=True)
        (one.folder / "along" / "scores.jsonl").touch()
        lines = [
            {
                "task": "diffusion",
                "step": step,
                "loss": 1.0,
                "precision": ("bf16", "fp32")[number % 2],
                "terms": {"bound": 1.0, "gradient_share_bound": step / 100 + number},
            }
            for step in range(1, 9)
        ]
        lines += [{"task": "eye", "step": 1, "terms": {"gradient_share_bound": 99.0}}]
        lines += [{"task": "diffusion", "step": 8, "evaluation": {}, "alarms": ["it freezes"] * number}]
        (one.folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    trained = training_logs.read(found)
    assert list(trained) == ["both"], "the other arm has no finished cell"
    assert trained["both"].early == {"gradient_share_bound": pytest.approx((0.015, 1.015))}
    assert trained["both"].late == {"gradient_share_bound": pytest.approx((0.075, 1.075))}
    assert trained["both"].alarms == ("seed 1, step 8: it freezes",)
    text = "\n".join(training_logs.markdown(trained))
    assert "| both (2) | 52 (1.5 to 102); 58 (7.5 to 108) | 1 |" in text and "Alarm of both, seed 1" in text
    assert "in different precisions, which contributes to their differences: both bf16 (seed 0), fp32 (seed 1)." in text
    monkeypatch.setattr(plan.Plan, "stages_of", lambda self, cell: ("diffusion", "eye", "decoder"))
    assert training_logs.read(found)["both"].late == {"gradient_share_bound": (99, 99)}, "of the last that took steps"
    (found.of("both")[0].folder / "log.jsonl").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        training_logs.read(found)


# ------------------------------------------------------------------------------------------------------------- cells


def test_a_claim_keeps_others_out_and_dies_with_its_process(tmp_path: Path):
    other = children.start("test_ablate:claims", tmp_path / "cell")
    while not other.stdout:
        assert other.poll() is None, other.stderr
        time.sleep(0.02)
    assert other.stdout == "True\n"
    with cell.claimed(tmp_path / "cell") as is_ours:
        assert not is_ours
    other.send_signal(signal.SIGKILL)
    other.wait()
    with cell.claimed(tmp_path / "cell") as is_ours:
        assert is_ours


def claims() -> None:
    """Runs in a process of its own: claims a cell, says so, and keeps it until it is killed."""
    with cell.claimed(Path(sys.argv[1])) as ours:
        print(ours, flush=True)
        signal.pause()


@pytest.mark.slow
def test_the_whole_of_it(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    def run(entrance, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["main", *map(str, arguments)])
        code = exit_code(entrance)
        return code, *capsys.readouterr()

    def of_arm(plan: plan.Plan, one: plan.Cell) -> cost.Cost:
        if one.arm.name not in costs:
            costs[one.arm.name] = measure_cost(plan, one)
        return costs[one.arm.name]

    # What an arm costs is measured by the first command that says it; the next ones say the same.
    costs, measure_cost = {}, cost.of_arm
    monkeypatch.setattr(cost, "of_arm", of_arm)
    monkeypatch.setattr(cost, "VIDEOS", 2)
    few = ["num_videos=3", "num_frames=4", "window=4"]
    measured = {"protocol": str(ROOT / "configs/eval/small.yaml"), "metrics": ["sprites"], "set": few}
    changes = [f"reuse={tiny_model}", "train.diffusion.num_steps=4", "train.diffusion.checkpoint_every=2"]
    changes += ["data.num_clips=8", "data.num_val_clips=2", "sample.num_frames=2", "sample.num_steps=1"]
    path = write_plan(tmp_path, set=changes, stages=["eye", "diffusion"], measured={"along": measured})
    out = tmp_path / "out"  # no arm has an eye

    code, told, error = run(ablate.main, path, "--out", out, "--dry-run")
    assert code == 0, error
    assert "4 of 4 cells are open" in told and "hours" in told and not out.exists()

    killed = children.start("cdcd_video.ablate.__main__:main", path, "--out", out, "--only", "both")
    while not list(out.glob("both-0/checkpoints/diffusion/*")):
        assert killed.poll() is None, killed.stderr
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    code, _, error = run(ablate.main, path, "--out", out)
    assert code == 0, error
    table = (out / "table.md").read_text()
    assert (
        "| none (2) | both (2) |" in table
        and "; " in table.split("| right kind")[1].split("\n")[0]
        and "| truth |" in table
    )
    assert "Not finished" not in table
    assert "frame frame: share" in table and "| none (2) |" in table.split("## Training")[1]
    lines = json.loads((out / "table.json").read_text())
    right = [line for line in lines if line["metric"] == "does_right_thing"]
    assert {line["arm"] for line in right} == {"none", "both"} and all(
        len(line["value"]["by_seed"]) == 2 for line in right
    )

    _, told, _ = run(ablate.main, path, "--out", out)
    assert "All 4 cells are finished" in told and (out / "table.md").read_text() == table

    # A cell is reproducible from its run folder, whatever happened on the way.
    config = config_file.load(out / "both-0" / "config.yaml", type(plan.read(path, [], out).cells[0].config))
    assert config.seed == 0
    again = ["--config", out / "both-0" / "config.yaml", "--out", tmp_path / "again", "--stages", "diffusion"]
    code, _, error = run(train.main, *again)
    assert code == 0, error
    files = [folder / "model" / "denoiser.safetensors" for folder in (out / "both-0", tmp_path / "again")]
    weights = [load_file(file) for file in files]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])

    code, _, error = run(ablate.main, path, "--out", tmp_path / "nothing", "--table")
    assert code == 2 and "no finished cell" in error
    code, _, error = run(ablate.main, path, "--out", out, "--only", "neither")
    assert code == 2 and error.startswith("error: ") and "neither" in error
