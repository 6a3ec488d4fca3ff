"""`init`: what a run begins with when it begins with another model."""

import os
import signal
from pathlib import Path

import pytest
import torch
from fixtures_model import ROOT
from safetensors.torch import load_file

from cdcd_video import ImageToVideo
from cdcd_video.config import Config, config_file
from cdcd_video.engine import checkpoint
from cdcd_video.errors import UserError
from cdcd_video.metrics.latent import health
from cdcd_video.model import SHIPPED, build_codec, build_denoiser, saved_config
from cdcd_video.networks.clip import built_in
from cdcd_video.training.code_stages import DiffusionStage
from cdcd_video.training.initial_weights import begin_with, saved_tokenizer
from cdcd_video.training.training_run import TrainingRun

FEW = ("data.num_clips=4", "data.num_val_clips=2")


def run_of(folder: Path, *changes: str) -> TrainingRun:
    config = config_file.load(ROOT / "configs" / "tiny.yaml", Config, [*FEW, *changes])
    return TrainingRun(config, folder, ["test"])


def one_step(*stages: str) -> list[str]:
    return [f"train.{stage}.{key}" for stage in stages for key in ("num_steps=1", "learning_rate=1e-12", "ema_decay=0")]


def test_every_part_begins_with_the_models_weights(tiny_model: Path, tmp_path: Path, capsys):
    """Trained for one step at no rate, so that what is saved is what the run began with."""
    stages = ("clip", "codec", "diffusion")
    run = run_of(tmp_path / "run", f"init={tiny_model}", *one_step(*stages), "train.refine.num_steps=1")
    run.train(stages)
    said = capsys.readouterr().err
    files = {"CLIP": "clip/model", "codec": "codec", "denoiser": "denoiser"}
    for part, file in files.items():
        there, here = (load_file(folder / f"{file}.safetensors") for folder in (tiny_model, run.folder))
        assert f"init: the {part} begins with all {len(here)} tensors of {tiny_model}" in said
        assert there.keys() == here.keys()
        for name, value in there.items():
            torch.testing.assert_close(here[name], value, atol=1e-5, rtol=1e-3, msg=f"{part} {name}")
    assert (run.folder / "clip" / "tokenizer.json").read_text() == (tiny_model / "clip" / "tokenizer.json").read_text()


def test_a_resumed_run_does_not_begin_again(tiny_model: Path, tmp_path: Path, capsys):
    changes = (
        f"init={tiny_model}",
        "train.clip.num_steps=2",
        "train.clip.checkpoint_every=1",
        "train.clip.learning_rate=1e-2",
    )
    whole = run_of(tmp_path / "one", *changes)
    whole.train(["clip"])
    wanted = checkpoint.load_weights(whole.out, "clip", "model")
    checkpoint.latest(whole.out, "clip").folder.rename(tmp_path / "away")
    capsys.readouterr()
    run_of(tmp_path / "one", *changes).train(["clip"])
    assert "init:" not in capsys.readouterr().err
    again = checkpoint.load_weights(whole.out, "clip", "model")
    assert all(torch.equal(again[name], value) for name, value in wanted.items())


def test_a_run_that_was_killed_while_it_first_saved_begins_with_the_model_again(
    tiny_model: Path, tmp_path: Path, capsys
):
    """Its folder of checkpoints is there, and no checkpoint in it."""
    changes = (f"init={tiny_model}", *one_step("clip"))
    (checkpoint.home(tmp_path / "run", "clip") / f"{checkpoint._WRITING}step-00000001").mkdir(parents=True)
    run_of(tmp_path / "run", *changes).train(["clip"])
    assert "init: the CLIP begins with all" in capsys.readouterr().err


def test_what_does_not_fit_begins_anew_and_is_named(tiny_model: Path):
    config = config_file.load(tiny_model / "config.yaml", Config, ["codec.pixel_width=16", "codec.decoder_layers=3"])
    clip = built_in.build_clip(config.clip, config.data.size_px, config.clip.vocabulary, config.clip.vocabulary - 1)
    own = {name: value.clone() for name, value in clip.state_dict().items()}
    sentence = begin_with(str(tiny_model), "clip", clip)
    saved = load_file(tiny_model / "clip" / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    if saved[name].shape != own[name].shape:
        assert f"anew begin {name}" in sentence and torch.equal(clip.state_dict()[name], own[name])
    changed = [name for name, value in clip.state_dict().items() if not torch.equal(value, own[name])]
    assert changed and all(torch.equal(clip.state_dict()[name], saved[name].float()) for name in changed)


def test_other_token_ids_need_another_tokenizer(tiny_model: Path):
    config = config_file.load(tiny_model / "config.yaml", Config)
    assert saved_tokenizer(str(tiny_model), config.clip).model_max_length == config.clip.max_tokens
    assert saved_tokenizer(str(tiny_model), config.clip.model_copy(update={"max_tokens": 20})) is None


def test_a_model_that_is_not_there_is_reported_before_the_first_stage(tmp_path: Path):
    run = run_of(tmp_path / "run", "init=nowhere")
    with pytest.raises(UserError, match="there is no model 'nowhere': give a run folder, a model folder, or the name"):
        run.train(["clip"])


def test_a_run_can_be_sampled_from_before_it_has_ended(tiny_model: Path, tmp_path: Path, monkeypatch, capsys):
    """Its first sheet is there after the first logged step, and its model after the first checkpoint."""
    changes = (f"reuse={tiny_model}", "train.diffusion.num_steps=6", "train.diffusion.log_every=2")
    run = run_of(tmp_path / "run", *changes)
    objective, taken = DiffusionStage.objective, []

    def stopped_at_the_third(stage: DiffusionStage, *given):
        taken.append(1)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return objective(stage, *given)

    monkeypatch.setattr(DiffusionStage, "objective", stopped_at_the_third)
    with pytest.raises(SystemExit):
        run.train(["diffusion"])
    assert [file.name for file in sorted((run.out / "samples").iterdir())] == ["diffusion-00000002.png"]
    pipe = ImageToVideo.from_pretrained(run.out)
    assert f"warning: the model {run.folder} is unfinished (diffusion: 3 of 6 steps)" in capsys.readouterr().err
    averaged = checkpoint.load_weights(run.out, "diffusion", "ema")
    for name, value in pipe.model.denoiser.state_dict().items():
        torch.testing.assert_close(value, averaged[name], atol=1e-4, rtol=1e-3)

    monkeypatch.setattr(DiffusionStage, "objective", objective)
    run_of(tmp_path / "run", *changes).train(["diffusion"])
    capsys.readouterr()
    ImageToVideo.from_pretrained(run.out)
    assert "unfinished" not in capsys.readouterr().err


def test_a_bound_that_rises_twice_is_an_alarm():
    stage, seen, told = DiffusionStage.__new__(DiffusionStage), {}, []
    for bound in (0.674, 0.615, 0.6151, 0.619, 0.624, 0.61, 0.62):
        now = {"val_bound": bound}
        seen = now | stage.trends(seen, now)
        told.append((seen["val_bound_rises"], len(stage.alarms(seen, 0.1))))
    assert told == [(0, 0), (0, 0), (0, 0), (1, 0), (2, 1), (0, 0), (1, 0)]
    assert stage.trends({}, {"val_mse": 1.0}) == {}
    assert "has risen 2 times in a row; use more clips, or fewer steps" in health.alarms({"val_bound_rises": 2}, 0.1)[0]


def all_of(network: torch.nn.Module) -> str:
    return f"begins with all {len(network.state_dict())} tensors of sprites"


@pytest.mark.parametrize("name", ["actions_64_codec", "actions_64", "clips_20"])
def test_the_configs_that_begin_with_the_shipped_model_have_its_shapes(name: str):
    """All of codec and denoiser, and all of CLIP but what belongs to the words."""
    config = config_file.load(ROOT / "configs" / f"{name}.yaml", Config)
    assert config.init == "sprites"
    clip = ImageToVideo.from_pretrained("sprites", "cpu").model.clip
    codec = build_codec(config, clip)
    assert begin_with("sprites", "codec", codec) == f"the codec {all_of(codec)}"
    denoiser = build_denoiser(config, codec, clip.text_width)
    assert begin_with("sprites", "diffusion", denoiser) == f"the denoiser {all_of(denoiser)}"
    shipped = saved_config(SHIPPED / "sprites" / "config.yaml")
    assert config.denoiser.num_layers == shipped.denoiser.num_layers  # no block is left out
    own_clip = built_in.build_clip(config.clip, config.data.size_px, 300, 1)
    words = "text_model.embeddings.token_embedding.weight, text_model.embeddings.position_embedding.weight"
    assert begin_with("sprites", "clip", own_clip).endswith(f"anew begin {words}")
