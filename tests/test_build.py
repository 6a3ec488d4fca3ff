"""The composition root: what a run folder refuses, what it takes over, and in which order it trains."""

import json
import math
import shutil
from collections.abc import Callable

import pytest
import torch
from fixtures_model import ROOT
from safetensors.torch import load_file

from cdcd_video.config import Config, config_file
from cdcd_video.engine import checkpoint
from cdcd_video.engine.checkpoint import latest, load_weights
from cdcd_video.errors import UserError
from cdcd_video.model import build_codec, load_model
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.training.latent_encoder import FrameEncoder, codes_digest
from cdcd_video.training.stage_order import STAGES
from cdcd_video.training.training_data import open_clips
from cdcd_video.training.training_run import TrainingRun

SMALL = ("data.num_clips=2", "data.num_val_clips=2")


def tiny(*changes: str) -> Config:
    return config_file.load(ROOT / "configs" / "tiny.yaml", Config, [*SMALL, *changes])


@pytest.fixture
def start(tmp_path) -> Callable[..., TrainingRun]:
    """Opens the run folder `run` with the tiny config, some values changed."""
    return lambda *changes: TrainingRun(tiny(*changes), tmp_path / "run", ["test"])


@pytest.mark.parametrize("key, known", [("motions", "moves up and left"), ("backgrounds", "checker")])
def test_unknown_words_of_the_world_are_named_with_the_known_ones(key, known):
    config = tiny(f"data.{key}=[plaid]")
    with pytest.raises(UserError, match=f"data.{key} holds 'plaid', which is unknown; use some of .*{known}"):
        open_clips(config, "train")


def test_the_world_is_the_one_of_the_config():
    clips = open_clips(tiny("data.num_clips=12", "data.motions=[stays still]"), "train")
    assert len(clips) == 12 and all(clips.caption(clip).endswith("stays still") for clip in range(12))
    assert clips.frames(0, [0]).shape == (1, 32, 32, 3) and clips.num_frames(0) == 8


# ------------------------------------------------------------------------------------------------------------- reuse


def test_reuse_takes_over_clip_and_codec(start, tiny_model):
    run = start(f"reuse={tiny_model}")
    run.train([])
    for name in ("codec.safetensors", "clip/model.safetensors", "clip/tokenizer.json"):
        assert (run.folder / name).read_bytes() == (tiny_model / name).read_bytes(), name


def test_reuse_finds_the_model_of_a_run_folder(start, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "earlier" / "model")
    run = start(f"reuse={tmp_path / 'earlier'}")
    run.train([])
    assert (run.folder / "codec.safetensors").is_file()


@pytest.mark.parametrize("change, section", [("codec.groups=1", "codec"), ("clip.joint_width=32", "clip")])
def test_reuse_of_another_kind_of_codec_is_refused(change, section, start, tiny_model):
    run = start(f"reuse={tiny_model}", change)
    with pytest.raises(UserError, match=f"`{section}` of .* differs from this config's .*; make them equal"):
        run.train([])
    assert not (run.folder / "codec.safetensors").exists()


def test_reuse_does_not_ask_how_the_codec_learned(start, tiny_model):
    """The model may be older than the dial, or its user may have turned it: its codes mean what they mean."""
    run = start(f"reuse={tiny_model}", "codec.still_tolerance=0")
    run.train([])
    assert (run.folder / "codec.safetensors").is_file()


def test_reuse_of_nothing_is_refused(start, tmp_path):
    with pytest.raises(UserError, match="holds no trained codec; train it first, or give another run folder"):
        start(f"reuse={tmp_path / 'absent'}").train()


# ------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize(
    "reuse, expected",
    [
        ("", ["clip", "codec", "decoder", "diffusion", "refine"]),
        ("reuse=x", ["diffusion", "refine"]),
        ("loss.contrast.text_eye=step", list(STAGES)),
    ],
)
def test_stages_run_in_order_whatever_the_order_asked_for(reuse, expected, start, monkeypatch):
    trained = []
    for stage in STAGES:
        method = f"_train_{'step_encoder' if stage == 'eye' else stage}"
        monkeypatch.setattr(TrainingRun, method, lambda self, stage=stage: trained.append(stage))
    monkeypatch.setattr("cdcd_video.training.training_run.take_over", lambda *given: None)
    start(*filter(None, [reuse])).train(STAGES[::-1])
    assert trained == expected


@pytest.mark.parametrize("stage", ["codec", "decoder", "diffusion", "refine"])
def test_a_stage_before_the_clip_says_what_is_missing(stage, start):
    with pytest.raises(UserError, match="no trained CLIP yet; train the stage `clip` first") as told:
        start().train([stage])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("stage", ["decoder", "diffusion", "refine"])
def test_a_stage_before_the_codec_says_what_is_missing(stage, start, tiny_model):
    run = start()
    shutil.copytree(tiny_model / "clip", run.folder / "clip")
    with pytest.raises(UserError, match="no trained codec yet; train the stage `codec` first") as told:
        run.train([stage])
    assert "\n" not in str(told.value)


def test_refining_before_there_is_a_denoiser_says_what_is_missing(start, tiny_model):
    run = start()
    shutil.copytree(tiny_model, run.folder)
    with pytest.raises(UserError, match="no checkpoint of diffusion; train it first"):
        run.train(["refine"])


# ----------------------------------------------------------------------------------------------- learned temperatures


LEARNED = (
    "loss.contrast.frame_frame=0.1",
    "loss.contrast.frame_text=0.1",
    "loss.contrast.learn_temperature=true",
    "train.diffusion.num_steps=8",
    "train.diffusion.checkpoint_every=3",
    "train.diffusion.log_every=4",
    "train.refine.num_steps=3",
)


def test_learned_temperatures_are_trained_resumed_and_handed_on_but_no_part_of_the_model(start, tiny_model, tmp_path):
    run = start(f"reuse={tiny_model}", *LEARNED)
    run.train()
    ends = {stage: latest(run.out, stage).folder for stage in ("diffusion", "refine")}
    last = {stage: load_file(folder / "model.safetensors") for stage, folder in ends.items()}
    names = [f"temperatures.log_scales.{term}" for term in ("frame_frame", "frame_text")]
    begun = math.log(1 / run.config.loss.contrast.temperature)
    averaged = load_file(ends["diffusion"] / "ema.safetensors")
    for name in names:  # Refining goes on from the averaged temperature: three steps at its rate are not far.
        assert abs(last["refine"][name] - averaged[name]) < 4e-3
    # Frames of a random codec are all alike: only the sentence has something to learn from.
    assert begun != last["diffusion"][names[1]] != averaged[names[1]] != last["refine"][names[1]]
    lines = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    told = [line["terms"] for line in lines if "terms" in line]
    assert all(
        {"frame_frame_temperature", "frame_text_temperature", "gradient_share_bound"} <= set(terms) for terms in told
    )

    # Cut off after 6 steps and taken up again: the same bits.
    cut = TrainingRun(run.config, tmp_path / "cut", ["test"])
    shutil.copytree(run.out, cut.out, dirs_exist_ok=True)
    shutil.rmtree(checkpoint.home(cut.out, "refine"))
    shutil.rmtree(latest(cut.out, "diffusion").folder)
    assert latest(cut.out, "diffusion").step == 6
    cut.train()
    for stage, folder in ends.items():
        again = latest(cut.out, stage).folder
        assert again.name == folder.name
        for part in ("model", "ema", "optimizer"):
            one, other = (load_file(home / f"{part}.safetensors") for home in (folder, again))
            assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

    file = run.folder / "denoiser.safetensors"
    assert not [name for name in load_file(file) if "temperature" in name]
    model = load_model(run.folder)
    averaged = load_file(ends["refine"] / "ema.safetensors")
    for name, value in model.denoiser.state_dict().items():
        assert torch.equal(value, averaged[f"denoiser.{name}"].half().float()), name


def test_without_a_term_there_is_no_temperature_to_learn(start, tiny_model):
    weights = "loss.contrast.frame_frame=0", "loss.contrast.frame_text=0"
    run = start(f"reuse={tiny_model}", *LEARNED, *weights, "train.diffusion.num_steps=1")
    run.train(["diffusion"])
    assert not [name for name in load_weights(run.out, "diffusion") if name.startswith(("temperatures", "denoiser."))]


# ------------------------------------------------------------------------------------------------------------ identity


def test_the_identity_of_codes_knows_what_makes_them_and_nothing_else(tiny_model):
    clip = FrozenClip(tiny_model / "clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = build_codec(tiny(), clip)
    before = codes_digest(codec, clip)

    def after_a_change_of(module: torch.nn.Module) -> str:
        parameter = next(module.parameters())
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(0.5)
        digest = codes_digest(codec, clip)
        with torch.no_grad():
            parameter.copy_(kept)
        return digest

    assert after_a_change_of(codec.decoder) == before and after_a_change_of(codec.embed_head) == before
    assert after_a_change_of(codec.projection) != before
    assert codes_digest(codec, clip) == before

    # How it learned is no part of what its codes mean: not of the digest, and not of what a cache says of itself.
    facts = dict(data="d", num_items=1, fps=8.0, max_frames=None, recipe={})
    plan = FrameEncoder(tiny(), clip, codec, torch.device("cpu")).plan(**facts).values()
    codec.cfg = codec.cfg.model_copy(update={"still_tolerance": 0.0})
    assert codes_digest(codec, clip) == before and "still_tolerance" not in plan["codec"]
    assert FrameEncoder(tiny(), clip, codec, torch.device("cpu")).plan(**facts).values() == plan
    clip.digest = "another"
    assert codes_digest(codec, clip) != before


@pytest.mark.parametrize(
    "changes, words",
    [
        (["loss.cdcd.inter=1e-3", "train.refine.batch_size=8"], "a batch of 8 has only 7 other samples"),
        (["diffusion.process.kind=cdcd", "diffusion.num_steps=1"], "the process cdcd needs at least 2"),
        (
            ["diffusion.process.kind=cdcd", "diffusion.num_steps=8", "sample.num_steps=9"],
            r"at least sample.num_steps \(9\)",
        ),
        (
            [
                "data.size_px=16",
                "loss.contrast.frame_frame=0.1",
                "loss.contrast.shuffled=1",
                "loss.contrast.num_chunks=9",
            ],
            "loss.contrast.num_chunks is 9, but a frame has 8 codes; use fewer chunks",
        ),
        (
            ["data.size_px=16", "loss.cdcd.intra=1e-3", "loss.cdcd.num_chunks=9"],
            "loss.cdcd.num_chunks is 9, but a frame has 8 codes; use fewer chunks",
        ),
        (
            ["diffusion.process={kind: bridge}", "sample.order=purity"],
            "only the process mask has other orders than ancestral",
        ),
    ],
)
def test_parts_of_a_config_that_do_not_fit(changes, words):
    with pytest.raises(UserError, match=words):
        tiny(*changes)
