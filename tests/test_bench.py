"""The benchmark runs, says what it measured, and answers mistakes with a sentence; the measuring itself is right."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_upstream import fake_checkout
from torch.autograd import DeviceType
from torch.utils.flop_counter import FlopCounterMode

from cdcd_video.config import Config, config_file
from cdcd_video.errors import UserError, exit_code
from cdcd_video.kernels import tiled
from cdcd_video.tools.bench import __main__ as bench
from cdcd_video.tools.bench import (
    attention_cost,
    busy,
    busy_side,
    config_parts,
    loss_cost,
    sampling_side,
    side_process,
    train_cost,
    train_side,
)
from cdcd_video.tools.bench.flops import step_flops
from cdcd_video.tools.bench.loss_side import SIDES, measured
from cdcd_video.tools.bench.side_process import in_child, measure, peak_over_base, product_rate
from cdcd_video.tools.bench.upstream_shapes import Shape
from cdcd_video.tools.dry_run.trial_networks import Line
from cdcd_video.training.resolved import settled

CPU = torch.device("cpu")
TINY = Path(__file__).resolve().parent.parent / "configs" / "tiny.yaml"


@pytest.fixture
def run_bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `bench` with its sides in this process, which has loaded torch already; -> exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        monkeypatch.setattr(side_process, "in_child", lambda module, request, keep_pages: measured(request))
        try:
            code = exit_code(bench.main)
        except SystemExit as left:  # argparse's own sentences
            code = left.code
        return code, *capsys.readouterr()

    return run


def test_bench_loss_without_a_checkout(run_bench, tmp_path: Path):
    file = tmp_path / "loss.json"
    options = ("--shape", "tiny", "--repeats", "1", "--negatives", "2", "3", "--device", "cpu")
    code, out, err = run_bench("loss", *options, "--json", str(file), "--upstream", str(tmp_path / "nowhere"))
    assert code == 0 and "nowhere is not a folder" in err and "instead" in err
    found = json.loads(file.read_text())
    assert found["other_is"] == "plain" and found["upstream_commit"] is None
    for name in ("ours", "other"):
        assert found[name]["cpu_s"] > 0 and found[name]["wall_s"] > 0 and found[name]["peak_bytes"] >= 0
    assert found["ours"]["n"] == 10 and found["other"]["n"] == 1
    assert found["ratio"] == found["other"]["cpu_s"] / found["ours"]["cpu_s"]
    assert found["negatives_ratio"] > 0
    peaks = [found[name]["peak_bytes"] for name in ("ours", "other")]
    assert found["memory_ratio"] == (peaks[0] / peaks[1] if all(peaks) else None)
    if side_process.can_keep_pages():
        kept = [found[name]["kept_pages"]["cpu_s"] for name in ("ours", "other")]
        assert found["ratio_kept_pages"] == kept[1] / kept[0] and "pages kept" in out
    assert {"cpu", "cores", "threads", "load_average"} <= set(found["machine"]) and found["commit"]
    assert {"torch", "python", "numpy", "cdcd_video"} <= set(found["versions"])
    assert "plain reference" in out and "peak memory" in out and "with 3 negatives" in out


def test_bench_loss_with_a_checkout_of_something_else(run_bench, tmp_path: Path):
    folder = str(fake_checkout(tmp_path))
    code, out, err = run_bench("loss", "--shape", "tiny", "--repeats", "1", "--device", "cpu", "--upstream", folder)
    assert code == 0 and "is not CDCD's at 667f9c0" in err and "ours          upstream" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["loss", "--shape", "huge"], "huge"),
        (["loss", "--shape", "tiny", "--negatives", "0", "1"], "at least 1"),
        (["loss", "--shape", "tiny", "--device", "abacus"], "abacus"),
        (["loss", "--json", "no/such/folder/x.json"], "no/such/folder"),
        (["attention", "--repeats", "0"], "at least 1"),
        (["cake"], "cake"),
    ],
    ids=["shape", "negatives", "device", "json", "repeats", "work"],
)
def test_mistakes_are_sentences(run_bench, arguments: list[str], sentence: str):
    code, _, err = run_bench(*arguments)
    assert code == 2 and sentence in err


def test_ours_and_the_plain_reference_do_the_same_work():
    """They draw their own x_t, so that only the mean can be compared here; the numbers are, in test_plain."""
    shape = Shape(batch=16, num_tokens=32, num_codes=11, num_steps=4)
    logits = torch.zeros(shape.batch, shape.num_tokens, shape.num_codes)
    ours, plain = (SIDES[name](shape, logits, None) for name in ("ours", "plain"))
    means = [torch.stack([work(3) for _ in range(20)]) for work in (ours, plain)]
    error = float(sum(one.var() / len(one) for one in means) ** 0.5)
    assert abs(means[0].mean() - means[1].mean()) < 4 * error < 0.2 * means[0].mean()


def test_a_checkout_is_the_other_side(tmp_path: Path):
    request = {"side": "upstream", "upstream": str(fake_checkout(tmp_path)), "shape": "tiny", "device": "cpu"}
    found = in_child(loss_cost.SIDE, request | {"negatives": [2], "warm_up": 0, "repeats": 1})
    assert found["times"][0]["n"] == 1 and found["times"][0]["cpu_s"] > 0


def test_a_side_that_fails_is_a_sentence():
    with pytest.raises(UserError, match="measurement of cake ended with exit code 1"):
        in_child("cdcd_video.tools.absent", {"side": "cake"})


def test_measure_takes_turns_and_counts_only_what_it_should():
    order: list[str] = []
    first, second = measure([lambda: order.append("a"), lambda: order.append("b")], warm_up=1, repeats=2, device=CPU)
    assert order == ["a", "b"] * 3 and first["n"] == second["n"] == 2


def test_measure_tells_work_from_waiting():
    (found,) = measure([lambda: time.sleep(0.05)], warm_up=0, repeats=3, device=CPU)
    assert found["wall_s"] >= 0.05 > 10 * found["cpu_s"]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system cannot put its mark back")
def test_peak_over_base_sees_what_is_freed_again():
    size = 64 << 20
    torch.zeros(4 * size, dtype=torch.uint8).fill_(1)  # a higher peak before does not count
    found = peak_over_base(lambda: torch.zeros(size, dtype=torch.uint8).fill_(1), CPU)
    assert 0.9 * size < found < 1.5 * size


def test_the_table_names_the_bars_only_where_they_hold():
    times = {"cpu_s": 0.1, "wall_s": 0.1, "system_s": 0.0, "n": 30, "peak_bytes": 10**8}
    result = dict(ours=times, other=times, many=times, clock="cpu_s", other_is="upstream", device="cpu")
    result |= dict(ratio=1.0, ratio_kept_pages=None, memory_ratio=0.04, negatives_ratio=1.1)
    result |= dict(negatives=10, many_negatives=100, shape={"name": "cub"})
    lines = "\n".join(loss_cost.table(result))
    assert "target: at least 200x" in lines and "target: at most 1/25" in lines and "1/25.0" in lines
    assert "target" not in "\n".join(loss_cost.table(result | {"other_is": "plain"}))


# ------------------------------------------------------------------------------------------------------ bench train


def test_bench_train_without_a_checkout(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    file = tmp_path / "train.json"
    options = ["bench", "train", "--shape", "tiny", "--repeats", "1", "--negatives", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*options, "--json", str(file)])
    monkeypatch.setattr(
        side_process, "in_child", lambda module, request, keep_pages=False: train_side.measured(request)
    )
    rate = {"cpu": 1e9, "wall": 1e9}
    monkeypatch.setattr(train_side, "product_rate", lambda *_: {"mm": rate, "best": rate})
    # Profiling takes longer than all that is profiled, so the first profile stands for those that follow.
    profiles: list[object] = []
    monkeypatch.setattr(
        train_side,
        "profile",
        lambda step: profiles[0] if profiles else profiles.append(side_process.profile(step)) or profiles[0],
    )
    assert exit_code(bench.main) == 0
    out, found = capsys.readouterr().out, json.loads(file.read_text())
    assert found["other_is"] == "plain" and found["machine"]["threads"] == 1
    assert [row["name"] for row in found["configurations"]] == [case.name for case in train_cost.CASES]
    for row in found["configurations"]:
        beside = found["other"] if row["has_contrast"] else found["other_without_contrast"]
        assert row["ratio"] == beside["cpu_s"] / row["cpu_s"] and row["flops"] > 0
        assert row["share_mm"] == pytest.approx(row["flops"] / row["cpu_s"] / 1e9)
    assert found["ratio"] == found["configurations"][0]["ratio"] and "memory_ratio" in found
    assert "plain reference" in out and "heads of 32" in out and "target" not in out


def test_both_sides_of_a_step_have_the_same_network():
    request = {"precision": "fp32", "negatives": 2, "device": "cpu", "mlp": 64, "checkpoint_activations": False}
    shape, trunk = Shape(batch=4, num_tokens=16, num_codes=11, num_steps=4), train_side.TRUNKS["tiny"]
    ours, plain = (train_side.SIDES[name](shape, trunk, request) for name in ("ours", "plain"))
    assert ours.num_weights == plain.num_weights and ours.flops == plain.flops


def test_the_flops_are_those_that_torch_counts():
    shape, trunk = Shape(batch=2, num_tokens=64, num_codes=37, num_steps=4), train_side.TRUNKS["tiny"]
    request = {"device": "cpu", "negatives": 0, "precision": "fp32", "checkpoint_activations": False}
    task = train_side.CubTask(shape, trunk, request, 96)
    with FlopCounterMode(display=False) as counter:
        task.objective(task.examples, torch.Generator().manual_seed(0)).total.backward()
    # Clocks, modulation and the three reads are the small part that the formula leaves out; at this size they are seen.
    assert step_flops(shape, trunk, 96) == pytest.approx(counter.get_total_flops(), rel=0.08)


def test_the_product_rate_is_a_rate():
    found = product_rate(torch.float32, CPU, side=64, repeats=2)
    assert found["best"]["cpu"] >= found["mm"]["cpu"] > 1e6 and found["best"]["wall"] >= found["mm"]["wall"] > 1e6


# ------------------------------------------------------------------------------------------------------- bench draw


def test_bench_draw_without_a_checkout(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    file = tmp_path / "draw.json"
    options = ["bench", "draw", "--shape", "tiny", "--steps", "1", "4", "--other-steps", "2", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", [*options, "--videos", "2", "--device", "cpu", "--json", str(file)])
    rate = {"cpu": 1e9, "wall": 1e9}
    monkeypatch.setattr(sampling_side, "product_rate", lambda *_: {"mm": rate, "best": rate})
    monkeypatch.setattr(
        side_process, "in_child", lambda module, request, keep_pages=False: sampling_side.measured(request)
    )
    assert exit_code(bench.main) == 0
    out, found = capsys.readouterr().out, json.loads(file.read_text())
    assert found["other_is"] == "plain" and found["steps"] == [1, 2, 4] and found["default_steps"] == 1
    ours, other = found["ours"]["default"]["times"], found["other"]["default"]["times"]
    assert found["ratio"] == other[0]["cpu_s"] / ours[1]["cpu_s"]
    assert found["ratio_truncated"] == other[1]["cpu_s"] / ours[3]["cpu_s"]
    assert found["ratio_of_defaults"] == pytest.approx(80 * other[0]["cpu_s"] / 2 / ours[0]["cpu_s"])
    assert [row["steps"] for row in found["sprites"]] == [1, 4]
    for row in found["sprites"]:
        assert row["right"]["n"] == 2 and row["right"]["low"] <= row["right"]["value"] <= row["right"]["high"]
        assert row["single"]["cpu_ms_per_frame"] > 0 and row["together"]["videos_per_s"] > 0
    assert [row["is_default"] for row in found["sprites"]] == [True, False]
    assert "target" not in out and "sprites, the shipped model" in out and "[" in out


def test_both_walks_draw_codes():
    shape, trunk = Shape(batch=2, num_tokens=16, num_codes=11, num_steps=8), train_side.TRUNKS["tiny"]
    request = {"device": "cpu", "precision": "fp32", "mlp": None}
    for name in ("ours", "plain"):
        draw = sampling_side.SIDES[name](shape, trunk, request)
        for is_truncated in (False, True):
            codes = draw(4, is_truncated)
            assert codes.shape == (2, 16) and codes.min() >= 0 and codes.max() < 11
            assert len(codes.unique()) > 3, "a model that knows nothing draws everything"


# -------------------------------------------------------------------------------------------------- bench attention


def test_bench_attention_measures_every_way_that_serves(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    file = tmp_path / "attention.json"
    options = ["--shapes", "tiny", "cub, words", "--repeats", "1", "--json", str(file)]
    monkeypatch.setitem(attention_cost.SHAPES, "cub, words", (1, 2, 1024, 77, 12))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(tiled, "serves", lambda q, k: False)
    monkeypatch.setattr(sys, "argv", ["bench", "attention", *options])
    assert exit_code(bench.main) == 0
    out, rows = capsys.readouterr().out, json.loads(file.read_text())["rows"]
    assert [(row["shape"], row["precision"]) for row in rows] == [
        (name, kind) for name in ("tiny", "cub, words") for kind in ("float32", "bfloat16")
    ]
    for row in rows:
        assert row["forward_s"].keys() == row["backward_s"].keys() and row["forward_s"]["compiled"] is None
        assert all(row[part]["torch, fused"] > 0 for part in ("forward_s", "backward_s"))
    assert rows[2]["flops_forward"] == 4 * 1 * 2 * 1024 * 77 * 12
    assert "written out" in out and " - " in out


# ----------------------------------------------------------------------------------------------------- bench config


def test_bench_config_measures_the_stages_and_drawings_of_a_config(
    monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path
):
    file, counted = tmp_path / "config.json", {}
    options = ["--stages", "codec", "diffusion", "--steps", "1", "2", "--together", "2", "--repeats", "1"]
    rate = {"fp32": 1e9, "bf16": 2e9}
    monkeypatch.setattr(config_parts, "rates", lambda device: rate)

    def dry_run(line, name):
        """What it counts is the business of `test_explain`; here it need only be given what it takes."""
        assert type(line) is Line and name in line.stages
        counted[name] = 10**6 + len(counted)
        return SimpleNamespace(flops=counted[name])

    monkeypatch.setattr(config_parts, "measure_shapes", dry_run)
    given = ["--config", str(TINY), "--round", "2", "--device", "cpu", "--json", str(file)]
    given += ["--set", "train.codec.accumulate=2"]
    monkeypatch.setattr(sys, "argv", ["bench", "config", *given, *options])
    assert exit_code(bench.main) == 0
    out, found = capsys.readouterr().out, json.loads(file.read_text())
    assert [row["stage"] for row in found["stages"]] == ["codec", "diffusion"]
    config = settled(config_file.load(TINY, Config, ["train.codec.accumulate=2"]), CPU)
    for row in found["stages"]:
        train = getattr(config.train, row["stage"])
        assert row["flops"] == counted[row["stage"]] > 0 and row["n"] == 2
        assert row["share_mm"] == pytest.approx(row["flops"] / row["s"] / rate[row["precision"]])
        assert row["precision"] == train.precision
        assert row["examples_per_s"] * row["s"] == pytest.approx(train.batch_size * train.accumulate) == row["batch"]
        assert row["profile"] and row["idle"] is None and row["peak_bytes"] > 0
    assert [(row["steps"], row["videos"], row["is_default"]) for row in found["drawings"]] == [
        (1, 1, False), (1, 2, False), (2, 1, True), (2, 2, True)
    ]  # fmt: skip
    for row in found["drawings"]:
        assert row["frames"] == 8 and row["s_per_frame"] * 7 * row["videos_per_s"] == pytest.approx(1)
    assert "tiny train.codec.accumulate=2; " in out and "(the default)" in out
    # Which operator takes longest hangs on the processor, and on whether oneDNN, torch or our kernels serve it.
    assert re.search(r"diffusion: .*\w+::\w+", out)
    assert all(any("::" in part["name"] for part in row["profile"]) for row in found["stages"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--repeats", "0"], "at least 1"), (["--stages", "eye"], "tiny has no stage 'eye'; choose from clip, codec")],
)
def test_bench_config_answers_mistakes(monkeypatch: pytest.MonkeyPatch, capsys, arguments: list[str], sentence: str):
    monkeypatch.setattr(config_parts, "rates", lambda device: {"fp32": 1e9, "bf16": 2e9})
    monkeypatch.setattr(sys, "argv", ["bench", "config", "--config", str(TINY), "--device", "cpu", *arguments])
    assert exit_code(bench.main) == 2 and sentence in capsys.readouterr().err


def test_kernels_are_told_by_kind_and_by_name(monkeypatch: pytest.MonkeyPatch):
    add = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul> >(int)"
    named = {
        add: 3e6,
        add.replace("add", "mul"): 2e6,
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy<4u, unsigned int>": 1e6,
        "nvjet_sm90_tst_192x192_64x4_2x1_v_bz_coopB_bias_TNN": 1e6,
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm>(x)": 1e6,
        "triton_poi_fused__to_copy_add_mul_3": 1e6,
        "void pytorch_flash::flash_fwd_kernel<x>": 1e6,
    }
    rows = [(name, DeviceType.CUDA, spent, False) for name, spent in named.items()]
    rows += [("aten::add", DeviceType.CPU, 9e6, False), ("Optimizer.step#AdamW.step", DeviceType.CUDA, 9e6, True)]

    class Profile:
        def __init__(self, activities):
            assert torch.profiler.ProfilerActivity.CUDA in activities

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def key_averages(self):
            names = ("key", "device_type", "self_device_time_total", "is_user_annotation")
            return [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows]

    called: list[int] = []
    monkeypatch.setattr(torch.profiler, "profile", Profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    kinds, kernels, seconds = config_parts.kernels_of(lambda: called.append(1))
    assert seconds == pytest.approx(10) and called == [1]
    assert {row["name"]: round(row["s"]) for row in kinds} == {
        "elementwise": 5,
        "matrix products": 2,
        "copies": 1,
        "compiled": 1,
        "attention": 1,
    }
    assert kernels[0] == {"name": "vectorized_elementwise_kernel", "share": 0.5, "s": 5.0}
    assert {"CatArrayBatchedCopy", "Kernel2", "flash_fwd_kernel"} <= {row["name"] for row in kernels}


# ------------------------------------------------------------------------------------------------------- bench busy


def test_bench_busy_sets_both_ways_side_by_side(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    seen: list[str | None] = []

    def side(command: list[str], env: dict[str, str], **_: object) -> SimpleNamespace:
        request = json.loads(command[-1])
        assert request == {"checkpoint": "sprites", "videos": 2} and "MKL_NUM_THREADS" not in env
        seen.append(env.get("OMP_NUM_THREADS"))
        clock = {None: 3.0, "1": 2.0}[seen[-1]] + len(seen)
        found = {"load_s": 1.0, "wall_s": clock, "cpu_s": 1.5, "torch_threads": 2, "threads": 1}
        return SimpleNamespace(returncode=0, stdout=json.dumps(found) + "\n")

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setattr(busy, "subprocess", SimpleNamespace(run=side, PIPE=subprocess.PIPE))
    file = tmp_path / "busy.json"
    options = ["--videos", "2", "--busy", "0", "--repeats", "3", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["bench", "busy", *options])
    assert exit_code(bench.main) == 0
    assert seen == [None, "1", "1", None, None, "1"]
    found = json.loads(file.read_text())
    assert found["median_wall_s"] == {"as it is": 7.0, "one thread": 5.0} and found["ratio"] == 7 / 5
    assert {"cpu", "cores", "load_average"} <= set(found["machine"]) and found["versions"]["torch"]
    assert "1.40 (target: at most 1.5)" in capsys.readouterr().out


def test_bench_busy_leaves_nobody_working(monkeypatch: pytest.MonkeyPatch):
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command))
        return started[-1]

    monkeypatch.setattr(busy, "subprocess", SimpleNamespace(Popen=start))
    with pytest.raises(KeyboardInterrupt), busy.busy(2):
        assert [process.poll() for process in started] == [None, None]
        raise KeyboardInterrupt
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2


def test_bench_busys_side_samples_and_says_how_long(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    request = {"checkpoint": str(tiny_model), "videos": 1}
    monkeypatch.setattr(sys, "argv", ["side", json.dumps(request)])
    assert exit_code(busy_side.main) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["threads"] == 1 and found["wall_s"] > 0 and found["torch_threads"] == torch.get_num_threads()
