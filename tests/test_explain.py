"""What `train.py --dry-run` tells: true, complete, and without leaving a trace."""

import contextlib
import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_model import ROOT

import train
from cdcd_video.config import Config, config_file
from cdcd_video.data.sprites import VOCABULARY
from cdcd_video.engine.precision import best_for
from cdcd_video.errors import UserError
from cdcd_video.model import build_codec, build_denoiser
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.transformer import PLAIN_UP_TO, attend
from cdcd_video.tools import stand_in_clip
from cdcd_video.tools.dry_run import explain, trial_steps
from cdcd_video.tools.dry_run.cost_meters import MemoryMeter, count_flops
from cdcd_video.tools.dry_run.costs import _time_lines
from cdcd_video.tools.dry_run.number_format import lasting, scaled
from cdcd_video.tools.dry_run.sections import config_lines
from cdcd_video.tools.dry_run.shape_only import shape_only
from cdcd_video.tools.dry_run.tensor_table import Table
from cdcd_video.tools.dry_run.trial_clips import look_at_data
from cdcd_video.tools.dry_run.trial_networks import Line
from cdcd_video.tools.dry_run.trial_sampling import sampling_section
from cdcd_video.tools.dry_run.trial_steps import MeasuredStage
from cdcd_video.training.resolved import foreseen
from cdcd_video.training.stage_order import stages_of

TINY = ROOT / "configs" / "tiny.yaml"
SMALL_CODEC = ("train.codec.batch_size=4", "train.codec.precision=fp32")


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> str:
    """The dry run of the tiny config, as the command prints it."""
    folder, out = tmp_path_factory.mktemp("dry"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py", "--config", str(TINY), "--dry-run"])
        assert train.main() == 0
    assert not list(folder.iterdir()), "a dry run writes nothing"
    return out.getvalue()


def section(told: str, heading: str) -> list[str]:
    """The lines below a heading, up to the next empty line."""
    return re.search(rf"^{re.escape(heading)}.*\n-+\n((?:.+\n)+)", told, re.MULTILINE)[1].splitlines()


def test_the_config_is_printed_whole_and_can_be_read_back(told, tmp_path):
    lines = section(told, "Config")
    (tmp_path / "printed.yaml").write_text("\n".join(lines))
    assert config_file.load(tmp_path / "printed.yaml", Config) == config_file.load(TINY, Config)


def test_what_differs_from_the_default_is_marked_and_nothing_else(told):
    marks = {line.split(":")[0].strip(): line.partition("# default: ")[2] for line in section(told, "Config")}
    assert marks["num_clips"] == "6000" and marks["levels"] == "[8, 6, 5]" and marks["max_objects"] == "2"
    assert marks["name"] == marks["kind"] == marks["fps"] == marks["changed"] == marks["top_p"] == ""


def test_a_kind_that_is_not_the_usual_one_is_marked_with_the_usual_one():
    config = config_file.load(TINY, Config, ["diffusion.process.kind=bridge", "diffusion.process.uniform=0.05"])
    lines = [" ".join(line.split()) for line in config_lines(config, None)]
    assert 'kind: "bridge" # default: "mask"' in lines and "uniform: 0.05" in lines


def test_every_stage_and_every_scalar_is_told_with_its_meaning(told):
    for stage in stages_of(config_file.load(TINY, Config)):
        assert re.search(rf"^Tensors of a step of .*\b{stage}\b", told, re.MULTILINE)
    scalars = re.findall(r"^  (\w+) +\(\) +(\w+)(.*)$", told, re.MULTILINE)
    assert {"bound", "auxiliary", "frame_frame", "frame_text", "still", "clip_nats", "loss"} <= {s[0] for s in scalars}
    assert [name for name, _, meaning in scalars if not meaning.strip()] == []


def test_the_precision_that_auto_will_be_is_told_with_its_reason(told):
    best, why = best_for(torch.device("cpu") if not torch.cuda.is_available() else torch.device("cuda"))
    stages = {line.split()[0]: line.split()[-1] for line in section(told, "Stages, in order")[1:6]}
    assert stages == dict.fromkeys(stages_of(config_file.load(TINY, Config)), best)
    assert f"Stages with precision auto use {best} here: {why}." in told


def test_the_time_is_measured_where_it_is_trained_on_this_processor(told):
    line = next(line for line in section(told, "Stages, in order") if "On this processor" in line)
    spent = re.findall(r"(\w+) ([\d.e+-]+) (s|min|hours)\b", line.partition(": ")[2])
    assert [name for name, *_ in spent] == [*stages_of(config_file.load(TINY, Config))] and line.endswith(" in total.")
    assert all(float(number) > 0 for _, number, _ in spent) and "TFLOP/s" not in told


def test_on_a_gpu_the_time_is_counted_and_in_units_that_say_something():
    stage = MeasuredStage("codec", "fake", (8,), "", 3e13, 1, frozenset(), 1, 1.0, 1)
    config = config_file.load(TINY, Config)
    assert (
        _time_lines(config, [stage])[0].endswith("codec 60 s; 60 s in total.")
        and len(_time_lines(config, [stage])) == 1
    )
    assert "an assumed 30 TFLOP/s" in _time_lines(config, [stage])[0]
    part = replace(stage, step_s=2.0, timed_size=4)
    assert "of codec a smaller batch, extrapolated): codec 2.0 min; 2.0 min in total." in _time_lines(config, [part])[0]
    large = _time_lines(config, [replace(part, flops=3e15)])
    assert "On this processor" in large[0] and large[1].endswith("codec 1.7 hours; 1.7 hours in total.")
    told = [lasting(seconds) for seconds in (0.0123, 4, 59.6, 600, 7200, 50_000, 1e6)]
    assert told == ["0.01 s", "4 s", "60 s", "10 min", "2.0 hours", "14 hours", "12 days"]


def test_too_few_clips_are_told(told):
    few = section(told, "Stages, in order")
    assert any("Samples per training clip (32 clips)" in line for line in few) and not any(
        "too few" in line for line in few
    )


def test_the_eye_is_told_where_a_term_looks_with_it(tiny_model):
    config = config_file.load(TINY, Config, ["loss.contrast.text_eye=step", f"reuse={tiny_model}"])
    told = explain(config)
    assert "Tensors of a step of eye" in told
    assert re.search(r"^  step +\(B E\) +64 x 32 ", told, re.MULTILINE) and "eye_wins" in told


def test_shapes_are_those_of_the_config(told):
    # 32 pixels and patches of 8 make 16 patches; two groups make N = 32; levels 4 x 4 make K = 16.
    logits = re.findall(r"^  logits +\(B N K\) +(\S+ x \S+ x \S+) +(\w+)", told, re.MULTILINE)
    assert len(logits) >= 2 and {shape.split(" x ", 1)[1] for shape, _ in logits} == {"32 x 16"}
    assert {dtype for _, dtype in logits} == {"float32"}
    assert re.search(r"^  frames +\(B F H W 3\) +1 x 2 x 32 x 32 x 3 +uint8", told, re.MULTILINE)
    assert re.search(r"^  codes +\(2B P G\) +16 x 16 x 2 +int64", told, re.MULTILINE), "two frames of 8 pairs"


def test_parameters_are_counted_and_their_training_is_told(told, tiny_model):
    config, clip = config_file.load(TINY, Config), FrozenClip(tiny_model / "clip")
    codec = build_codec(config, clip)
    networks = {
        "denoiser": (build_denoiser(config, codec, clip.text_width), "trained in diffusion, refine"),
        "codec decoder": (codec.decoder, "trained in codec, decoder"),
        "codec embed head": (codec.embed_head, "trained in codec"),
    }
    lines = section(told, "Networks")
    for name, (network, role) in networks.items():
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        count = sum(parameter.numel() for parameter in network.parameters())
        assert line.split()[-len(role.split()) - 2 :] == [f"{count:,}", "parameters", *role.split()]


def test_fake_tensors_and_few_examples_tell_what_the_whole_batch_would(monkeypatch, tmp_path):
    """FLOPs and bytes of whole steps at the batch of 32: on fake tensors, on real ones, from real steps of 4 and 8."""
    stages = ("codec", "diffusion")
    changes = [f"train.{stage}.batch_size=32" for stage in stages]
    config = config_file.load(TINY, Config, [*changes, "train.codec.precision=bf16", "denoiser.num_layers=1"])

    def measured(
        how: str, names: tuple[str, ...] = stages, examples: tuple[int, ...] = (32,)
    ) -> dict[str, MeasuredStage]:
        line = Line(foreseen(config, None)[0], look_at_data(config), tmp_path / f"{how}-{examples[-1]}")
        found = {name: trial_steps.measure(line, name) for name in names}
        assert {(stage.how, stage.examples) for stage in found.values()} == {(how, examples)}
        return found

    def refuse(**_):
        raise trial_steps.DataDependentOutputException(None)

    with torch.random.fork_rng():
        real = measured("real")
        monkeypatch.setattr(trial_steps, "CHEAP", 0)
        fake = measured("fake")
        with monkeypatch.context() as patch:
            patch.setattr(trial_steps, "FakeTensorMode", refuse)
            continued = measured("real", ("codec",), (4, 8))
        monkeypatch.setattr(trial_steps, "CHEAP", 1e11)
        monkeypatch.setattr(trial_steps, "MOST_EXAMPLES", 16)  # larger than what is drawn
        assert measured("real", ("codec",), (8, 16))["codec"].flops == pytest.approx(real["codec"].flops, rel=0.01)
    for name, stage in fake.items():
        assert replace(stage, how="real") == real[name]
    for name, stage in continued.items():
        assert (stage.num_trained, stage.weights, stage.checkpoint) == tuple(
            getattr(real[name], key) for key in ("num_trained", "weights", "checkpoint")
        )
        assert stage.flops == pytest.approx(real[name].flops, rel=0.01), name
        assert stage.activations == pytest.approx(real[name].activations, rel=0.02), name


def test_missing_clips_are_noted_and_a_pretrained_clip_is_frozen(tiny_model, monkeypatch):
    """Only the first stage is measured: on fake tensors, as the CLIP has no numbers, the others take long."""
    monkeypatch.setattr("cdcd_video.training.stage_order.stages_of", lambda config: stages_of(config)[:1])
    data = ["data={kind: folder, path: nowhere, size_px: 32}", f"clip={{kind: pretrained, folder: {tiny_model}/clip}}"]
    told = explain(config_file.load(TINY, Config, data))
    assert "Note: the clips are missing: the prepared folder nowhere does not exist" in told
    assert "Tensors of a step of clip" not in told and re.search(r"CLIP image tower .* frozen", told)
    assert f"its CLIP stays in {tiny_model}/clip" in told


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    stand_in_clip.write(stand_in_clip.TINY, folder, 0, None, list(VOCABULARY))
    return folder


def test_a_clip_without_its_numbers_costs_what_it_costs(stand_in, monkeypatch, tmp_path):
    """Tensors, FLOPs and bytes of a step and of a drawing are those of the CLIP with its weights, and none is read."""
    config = config_file.load(TINY, Config, [f"clip={stand_in}", "codec.layers=[0, 1]", *SMALL_CODEC])

    def told(name: str) -> tuple:
        with torch.random.fork_rng():
            line = Line(config, look_at_data(config), tmp_path / name)
            stage = trial_steps.measure(line, "codec")
            return stage.tensors, stage.flops, stage.weights, stage.checkpoint, sampling_section(line), line.notes

    with monkeypatch.context() as patch:
        patch.setattr("cdcd_video.networks.clip.load_clip.read_tensors", lambda *_: pytest.fail("weights were read"))
        patch.setattr("cdcd_video.networks.clip.clip_files.hashlib", None)
        *shapes, (note,) = told("shapes")
    assert note.startswith("STAND-IN CLIP")
    monkeypatch.setattr(
        "cdcd_video.tools.dry_run.trial_networks.shape_only", lambda folder, _: (FrozenClip(folder), [])
    )
    assert shapes == list(told("numbers")[:-1])


def test_without_the_weights_the_shape_is_known_by_the_name(monkeypatch):
    """The true ViT-B/16, asked for its shapes; its cost is another test's."""
    captions = ["a man plays the guitar", "a dog"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "nowhere")
    clip, notes = shape_only("openai/clip-vit-base-patch16", captions)
    assert len(notes) == 1 and "only the shapes of CLIP are known" in notes[0] and "hf download" in notes[0]
    assert (clip.image_size, clip.num_patches, clip.vision_width, clip.joint_width) == (224, 196, 768, 512)
    assert {parameter.device.type for parameter in clip.parameters()} == {"meta"}
    seen = clip.encode_image(torch.zeros(1, 3, 224, 224), (0, 12))
    assert [tuple(states.shape) for states in seen.patches] == [(1, 196, 768)] * 2
    assert clip.encode_text(captions).tokens.shape[::2] == (2, 1024)
    with pytest.raises(UserError, match="neither an existing folder nor a known name"):
        shape_only("openai/none", captions)


def test_a_mistake_in_the_data_is_told():
    with pytest.raises(UserError, match="data.motions holds 'flies'"):
        explain(config_file.load(TINY, Config, ["data.motions=[flies]"]))


def test_a_quantiser_that_looks_at_its_data_is_measured_on_few_examples(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_steps, "CHEAP", 0)
    config = config_file.load(TINY, Config, ["codec.quantizer={kind: vq, num_codes: 16, width: 2}", SMALL_CODEC[1]])
    with torch.random.fork_rng():
        stage = trial_steps.measure(Line(config, look_at_data(config), tmp_path), "codec")
    assert (stage.how, stage.examples) == ("real", (4, 8)) and "16 x 16 x 2 x 2" in stage.tensors and stage.flops > 1e8


def test_the_meter_counts_what_is_alive_at_once():
    with MemoryMeter() as meter:
        a = torch.zeros(1000)
        b = a.view(10, 100).t() + 1  # a view holds nothing, its sum holds as much again
        del a
        b.mul_(2)
        c = torch.zeros(500)
    assert (meter.alive, meter.peak) == (6000, 8000)
    del b, c
    assert meter.alive == 0


def test_a_drawing_on_noise_costs_what_a_real_one_costs(tmp_path, monkeypatch):
    config = config_file.load(TINY, Config)
    with torch.random.fork_rng():
        line = Line(config, look_at_data(config), tmp_path)
        told = sampling_section(line)
        monkeypatch.setattr("cdcd_video.tools.dry_run.trial_sampling.unreal", lambda *_: contextlib.nullcontext())
        assert told == sampling_section(line) and "forward" not in vars(line.denoiser)


def test_numbers_are_readable():
    shown = [scaled(value, "B") for value in (0, 999, 1000, 12_345, 123_456_789, 2.5e12)]
    assert shown == ["0 B", "999 B", "1.0 kB", "12.3 kB", "123 MB", "2.5 TB"]


def test_a_tensor_of_another_shape_than_told_is_our_mistake():
    table = Table(B=2)
    table.add("x", torch.zeros(4, 3), "2B Q", "")
    with pytest.raises(AssertionError, match="y has the shape"):
        table.add("y", torch.zeros(2, 4), "B Q", "")


@pytest.mark.parametrize("num_keys", [PLAIN_UP_TO, 4 * PLAIN_UP_TO])
def test_attention_is_counted_however_many_keys_it_has(num_keys: int):
    queries, keys = torch.ones(2, 3, 8, 16, requires_grad=True), torch.ones(2, 3, num_keys, 16)
    flops, out = count_flops(lambda: attend(queries, keys, keys))
    products = 2 * 2 * 3 * 8 * num_keys * 16  # two FLOPs per multiply-add: batch, heads, queries, keys, width
    assert flops == 2 * products
    backward, _ = count_flops(lambda: out.sum().backward())
    assert backward >= products
