"""`precision: auto`: chosen by what the machine has, settled when a run begins, kept wherever it goes on."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from fixtures_model import ROOT, write_model
from shapes import as_without_checks

from cdcd_video import ImageToVideo
from cdcd_video.config import Config, TrainStages, config_file
from cdcd_video.config.fingerprint import identity_text
from cdcd_video.engine import distributed, precision
from cdcd_video.engine.precision import best_for
from cdcd_video.errors import UserError
from cdcd_video.model import load_model
from cdcd_video.sampling import pretrained_pipeline
from cdcd_video.training import resolved
from cdcd_video.training.model_card import write_card
from cdcd_video.training.resolved import foreseen, slow_ones
from cdcd_video.training.training_run import TrainingRun

CPU = torch.device("cpu")
STAGES = tuple(TrainStages.model_fields)
VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch):
    """This machine as its processor is, whatever the suite runs under."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def machine(monkeypatch: pytest.MonkeyPatch, best: str) -> None:
    """Lets runs begin as on a machine of that precision."""
    monkeypatch.setattr(resolved, "best_for", lambda device: (best, "this machine is made up"))


def tiny(*changes: str) -> Config:
    return config_file.load(
        ROOT / "configs" / "tiny.yaml", Config, ["data.num_clips=2", "data.num_val_clips=2", *changes]
    )


def asked(config: Config) -> list[str]:
    return [getattr(config.train, stage).precision for stage in STAGES]


# --------------------------------------------------------------------------------------------------- what a machine has


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f avx512_bf16 amx_tile", "bf16"),
        ("fpu avx512f amx_bf16 amx_tile amx_int8", "bf16"),
        ("fpu avx avx2 fma", "fp32"),
        ("fpu avx512f avx512bw avx512vl avx512_vnni avx512_fp16", "fp32"),
        ("fpu avx2 avx_ne_convert", "fp32"),
        ("fp asimd bf16 i8mm svebf16", "fp32"),  # ARM's words: not known to be fast
        ("", "fp32"),
    ],
)
def test_a_processor_with_bf16_instructions_gets_bf16(flags: str, expected: str, tmp_path: Path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(
        "".join(f"processor\t: {n}\nflags\t\t: {flags}\nbugs\t\t: a\n\n" for n in range(2))
    )
    found = precision._cpu_flags(tmp_path / "cpuinfo")
    assert found == frozenset(flags.split())
    monkeypatch.setattr(precision, "_cpu_flags", lambda: found)
    best, why = best_for(CPU)
    assert best == expected and ("has no avx512_bf16 or amx_bf16" in why) == (best == "fp32")


def test_processors_of_two_kinds_have_what_both_have(tmp_path: Path):
    (tmp_path / "cpuinfo").write_text("flags\t: avx2 avx512_bf16\n\nflags\t: avx2\nvmx flags\t: amx_bf16\n")
    assert precision._cpu_flags(tmp_path / "cpuinfo") == {"avx2"}
    assert precision._cpu_flags(tmp_path / "absent") == frozenset()
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert precision._cpu_flags(tmp_path / "arm") == frozenset()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ATEN_CPU_CAPABILITY", "avx2", "fp32"),
        ("ATEN_CPU_CAPABILITY", "default", "fp32"),
        ("ATEN_CPU_CAPABILITY", "avx512", "bf16"),
        ("ATEN_CPU_CAPABILITY", "", "bf16"),
        ("ONEDNN_MAX_CPU_ISA", "AVX2", "fp32"),
        ("ONEDNN_MAX_CPU_ISA", "avx2_vnni_2", "fp32"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", "fp32"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI", "fp32"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", "bf16"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", "bf16"),
        ("ONEDNN_MAX_CPU_ISA", "AVX10_1_512_AMX", "bf16"),
        ("ONEDNN_MAX_CPU_ISA", "DEFAULT", "bf16"),
        ("DNNL_MAX_CPU_ISA", "SSE41", "fp32"),
    ],
)
def test_a_limit_set_for_torch_or_onednn_counts(variable: str, value: str, expected: str, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(precision.torch.backends.mkldnn, "is_available", lambda: True)
    assert best_for(CPU) == ("bf16", "this processor has avx512_bf16")
    monkeypatch.setenv(variable, value)
    best, why = best_for(CPU)
    assert best == expected and (f"{variable}={value}" in why) == (expected == "fp32")


def test_without_onednn_there_is_no_fast_bf16(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setattr(precision.torch.backends.mkldnn, "is_available", lambda: False)
    assert best_for(CPU)[0] == "fp32" and "without oneDNN" in best_for(CPU)[1]


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16"), ((12, 0), "bf16")]
)
def test_a_gpu_has_bf16_from_capability_8(capability, expected, monkeypatch):
    monkeypatch.setattr(precision.torch.cuda, "get_device_capability", lambda device: capability)
    best, why = best_for(torch.device("cuda", 0))
    assert best == expected and ".".join(map(str, capability)) in why


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_of_another_maker_is_asked(has: bool, monkeypatch):
    monkeypatch.setattr(precision.torch, "version", SimpleNamespace(hip="6.4"))
    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", lambda: has)
    assert best_for(torch.device("cuda"))[0] == ("bf16" if has else "fp32")


def test_other_devices_get_what_is_right_everywhere():
    assert best_for(torch.device("mps"))[0] == "fp32"


# ------------------------------------------------------------------------------------------------------------- configs


def test_no_shipped_config_names_a_precision():
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        assert "precision" not in path.read_text(encoding="utf-8"), path
    assert asked(tiny()) == ["auto"] * len(STAGES)


def test_a_precision_that_is_named_is_meant(monkeypatch):
    machine(monkeypatch, "fp32")
    config = resolved.settled(tiny("train.codec.precision=bf16"), CPU)
    assert asked(config) == ["fp32", "bf16", "fp32", "fp32", "fp32", "fp32"]
    assert slow_ones(config, ["clip", "codec"], CPU).startswith("codec: bf16 will be slow here")
    assert not slow_ones(config, ["clip", "decoder"], CPU)


def test_the_dry_run_foresees_it_for_a_device_that_is_not_here_too(monkeypatch):
    def absent(name: str):
        raise UserError(f"no {name}")

    machine(monkeypatch, "fp32")
    found, told = foreseen(tiny())
    assert set(asked(found)) == {"fp32"} and "use fp32 here: this machine is made up." in told
    begun = resolved.settled(tiny("train.clip.precision=bf16"), CPU)
    found, told = foreseen(tiny(), begun)
    assert asked(found) == asked(begun) and told.endswith("A run that has started keeps its own.")
    monkeypatch.setattr(resolved, "device_for", absent)
    found, told = foreseen(tiny("device=cuda"))
    assert set(asked(found)) == {"bf16"} and "as on a cuda device with bf16; this machine has none" in told


# ---------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize(("first", "later"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_run_keeps_its_precision_on_another_machine(first: str, later: str, tmp_path: Path, monkeypatch, capsys):
    machine(monkeypatch, first)
    begun = TrainingRun(tiny(), tmp_path / "run", ["test"])
    assert set(asked(begun.config)) == {first} and "bf16" not in capsys.readouterr().err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["precision"] == dict.fromkeys(["clip", "codec", "decoder", "diffusion", "refine"], first)
    (tmp_path / "run" / "log.jsonl").write_text("")
    assert f"- precision: {first}\n" in write_card(tmp_path / "run", {}).read_text()
    (tmp_path / "run" / "checkpoints" / "clip" / "step-00000001").mkdir(parents=True)

    machine(monkeypatch, later)
    again = TrainingRun(tiny(), tmp_path / "run", ["test"])
    assert again.config == begun.config
    assert [identity_text(getattr(again.config.train, stage)) for stage in STAGES] == [
        identity_text(getattr(begun.config.train, stage)) for stage in STAGES
    ], "checkpoints know each other"
    assert ("will be slow here" in capsys.readouterr().err) == (first == "bf16")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(run["precision"].values()) == {first} and ("precision_is_slow" in run) == (first == "bf16")
    with pytest.raises(UserError, match="another config"):
        TrainingRun(tiny(f"train.codec.precision={later}"), tmp_path / "run", ["test"])
    assert set(asked(TrainingRun(tiny(), tmp_path / "new", ["test"]).config)) == {later}


def test_a_run_from_before_goes_on_in_what_its_config_names(tmp_path: Path, monkeypatch):
    machine(monkeypatch, "fp32")
    begun = resolved.settled(tiny(*(f"train.{stage}.precision=bf16" for stage in STAGES)), CPU)
    (tmp_path / "config.yaml").write_text(config_file.dump(begun))
    (tmp_path / "checkpoints" / "clip" / "step-00000001").mkdir(parents=True)
    assert TrainingRun(tiny(), tmp_path, ["test"]).config == begun


def test_the_main_process_decides_for_all(tmp_path: Path, monkeypatch):
    machine(monkeypatch, "bf16")
    main = TrainingRun(tiny(), tmp_path, ["test"])
    machine(monkeypatch, "fp32")
    alike = []
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    monkeypatch.setattr(distributed, "by_main", lambda work: None)
    monkeypatch.setattr(distributed, "check_alike", lambda what, number: alike.append((what, number)))
    other = TrainingRun(tiny(), tmp_path, ["test"])
    assert other.config == main.config and [what for what, _ in alike] == ["the config"]


def test_a_card_names_stages_that_differ(tmp_path: Path, monkeypatch):
    machine(monkeypatch, "fp32")
    TrainingRun(tiny("train.codec.precision=bf16"), tmp_path, ["test"])
    (tmp_path / "log.jsonl").write_text("")
    told = "clip fp32, codec bf16, decoder fp32, diffusion fp32, refine fp32"
    assert f"- precision: {told}\n" in write_card(tmp_path, {}).read_text()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["train"]["clip"]["precision"] == "fp32"


# ----------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("kind", [None, "gaussian", "categorical_flow", "autoregressive"])
def test_a_video_in_bf16_is_that_of_fp32_but_for_rounding(kind: str | None, tmp_path: Path):
    without = ["loss.contrast.frame_frame=0", "loss.contrast.frame_text=0"]
    folder = write_model(tmp_path, *([f"baseline.kind={kind}", *without] if kind else []))
    start = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    exact, rounded = (ImageToVideo.from_pretrained(folder, "cpu", precision) for precision in ("fp32", "bf16"))
    params = exact.defaults(num_frames=3, temperature=0.0)
    codes = exact.encode(start)
    frames = [pipe.decode(codes[:, None], start) for pipe in (exact, rounded)]
    away = np.abs(frames[0].astype(int) - frames[1])
    assert away.max() > 0 and away.mean() < 3, "the decoder rounds"
    videos = [pipe.sample(start, ["the red circle moves right"], params, [0]) for pipe in (exact, rounded)]
    assert videos[1].shape == videos[0].shape and (videos[1][:, 0] == start).all()
    assert not torch.is_autocast_enabled("cpu")


def test_sampling_is_in_bf16_only_on_gpus_that_have_it(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    assert ImageToVideo.from_pretrained(tiny_model, "cpu").precision == "fp32"
    monkeypatch.setattr(pretrained_pipeline, "device_for", lambda name: torch.device("cuda"))
    monkeypatch.setattr(pretrained_pipeline, "load_model", lambda name, device: load_model(name, "cpu"))
    for best in ("bf16", "fp32"):
        monkeypatch.setattr(precision, "best_for", lambda device, best=best: (best, "why"))
        assert ImageToVideo.from_pretrained(tiny_model).precision == best
        assert ImageToVideo.from_pretrained(tiny_model, precision="fp32").precision == "fp32"
    with pytest.raises(UserError, match="precision is fp16; it must be auto, bf16 or fp32"):
        as_without_checks(monkeypatch, ImageToVideo, "from_pretrained")
        ImageToVideo.from_pretrained(tiny_model, precision="fp16")
