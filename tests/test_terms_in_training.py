"""The terms of `loss.contrast.extra` in whole runs: what is logged, resumed and handed on, and what a run without them is."""

import json
import shutil

import numpy as np
import pytest
import torch
from fixtures_model import ROOT, write_model
from safetensors.torch import load_file, save_file

from cdcd_video.config import CONTRAST_TERMS, Config, config_file
from cdcd_video.config.fingerprint import identity_text
from cdcd_video.config.registries import STEP_TERMS, WITH_FIELDS
from cdcd_video.data.pairs import sample_pairs
from cdcd_video.data.shots import Shots
from cdcd_video.engine import checkpoint
from cdcd_video.engine.checkpoint import latest
from cdcd_video.errors import UserError
from cdcd_video.training.code_stages import DiffusionStage, RefineStage
from cdcd_video.training.training_run import TrainingRun

EVERY = tuple(f"loss.contrast.extra.{name}=0.1" for name in STEP_TERMS)
SHORT = (
    *("loss.contrast.frame_frame=0", "loss.contrast.frame_text=0", "data.num_clips=12", "data.num_val_clips=4"),
    *("train.diffusion.num_steps=6", "train.diffusion.checkpoint_every=2", "train.diffusion.log_every=1"),
    *("train.refine.num_steps=4", "train.refine.checkpoint_every=2", "train.refine.log_every=1"),
    *("train.diffusion.evaluate_every=6", "train.refine.evaluate_every=4", "data.max_objects=2"),
)


def tiny(*changes: str) -> Config:
    return config_file.load(ROOT / "configs" / "tiny.yaml", Config, changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> TrainingRun:
    """Both stages with all terms, on codes that differ: a codec with larger weights than random ones have."""
    folder = tmp_path_factory.mktemp("every")
    model = write_model(folder / "model", "clip.max_tokens=40")
    codec = load_file(model / "codec.safetensors")
    codec["projection.mix.2.weight"] = 60 * codec["projection.mix.2.weight"]
    save_file(codec, model / "codec.safetensors")
    run = TrainingRun(tiny(f"reuse={model}", "clip.max_tokens=40", *SHORT, *EVERY), folder / "run", ["test"])
    run.train()
    return run


def test_every_term_is_logged_with_its_share_of_the_gradient(run):
    lines = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    logged = {
        stage: [line["terms"] for line in lines if line.get("task") == stage and "terms" in line]
        for stage in ("diffusion", "refine")
    }
    assert len(logged["diffusion"]) == 6 and len(logged["refine"]) == 4
    for stage, terms in logged.items():
        names = set(STEP_TERMS) - ({"own_negatives"} if stage == "diffusion" else set())
        for step, values in enumerate(terms):
            assert {name for name in STEP_TERMS if name in values} == names
            assert all(0 <= values[f"{name}_wins"] <= 1 and values[name] >= 0 for name in names)
            shares = {name: values[f"gradient_share_{name}"] for name in names}
            is_late = step >= len(terms) / 2
            assert (shares.pop("alignment") == 0) == is_late, "it ends at half of the stage"
            assert min(shares[name] for name in ("difference", "flow_contrast")) > 0
    own = logged["refine"][0]["own_negatives"]
    assert 0.3 < own / (2 * np.log(2)) < 1, "at first the model is its earlier self; tokens that are known count as 0"
    assert max(values["counterfactual"] for values in logged["diffusion"]) > 0
    evaluations = [line for line in lines if "val_bound" in str(line)]
    assert evaluations and all("val_difference" in str(line) and "val_alignment" in str(line) for line in evaluations)


def test_a_run_that_was_cut_goes_on_to_the_same_bits(run, tmp_path):
    """The reference of `refine` is where the stage began, and not where it was taken up again."""
    cut = TrainingRun(run.config, tmp_path / "cut", ["test"])
    shutil.copytree(run.out, cut.out, dirs_exist_ok=True)
    shutil.rmtree(latest(cut.out, "refine").folder)
    assert latest(cut.out, "refine").step == 2
    cut.train()
    for part in ("model", "ema", "optimizer"):
        one, other = (load_file(latest(out, "refine").folder / f"{part}.safetensors") for out in (run.out, cut.out))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one), part
    assert [
        name for name in load_file(latest(run.out, "refine").folder / "model.safetensors") if name.startswith("heads.")
    ]
    assert not [
        name for name in load_file(run.folder / "denoiser.safetensors") if "head" in name or "alignment" in name
    ]


def test_the_wrong_sentences_of_a_batch_are_of_its_scenes_and_the_same_again(run):
    caches = run._encoded().caches
    stage = make_stage(run, DiffusionStage)
    batch, again = stage.batch(3), stage.batch(3)
    assert torch.equal(batch.counterfactual.text.tokens, again.counterfactual.text.tokens)
    wrong, right = batch.counterfactual, batch.text
    assert wrong.is_wrong.any() and len(wrong.text.tokens) == len(right.tokens)
    length = min(wrong.text.tokens.shape[1], right.tokens.shape[1])
    differs = (wrong.text.tokens[:, :length] - right.tokens[:, :length]).abs().amax(2) > 1e-3
    differs = differs.any(1) | (wrong.text.is_word.sum(1) != right.is_word.sum(1))
    assert torch.equal(differs, wrong.is_wrong), (
        "a sentence that the tower cuts off before it differs is not a wrong one"
    )
    begins = (wrong.text.tokens[:, :4] - right.tokens[:, :4]).abs().amax((1, 2)) < 1e-3
    assert begins.all(), "the same objects"
    latents = type(stage)(stage.denoiser, stage.codec, stage.process, stage.config, *caches, stage.device)
    of_others = latents.batch(3).counterfactual.text
    said = caches[0].text(np.arange(len(caches[0].sentence)))
    assert all((said.embedding - row).abs().amax(1).min() < 1e-6 for row in of_others.embedding), (
        "captions of other clips"
    )
    plain = type(stage)(stage.denoiser, stage.codec, stage.process, tiny(*SHORT), *caches, stage.device).batch(3)
    assert plain.counterfactual is None and plain.after is None
    for name in ("source", "target", "first", "caption", "has_first", "before"):
        assert torch.equal(getattr(plain, name), getattr(batch, name)), f"{name} does not depend on the terms"


def make_stage(run: TrainingRun, kind: type[DiffusionStage]) -> DiffusionStage:
    """A stage as a run makes it, without training it."""
    made = []
    run._fit = lambda task, *given, **identity: made.append(task)
    run._save = lambda *given: None
    try:
        getattr(run, "_train_diffusion" if kind is DiffusionStage else "_train_refine")()
    finally:
        del run._fit, run._save
    return made[0]


def test_the_reference_of_refine_is_the_model_that_the_stage_begins_with(run):
    stage = make_stage(run, RefineStage)
    start = checkpoint.load_weights(run.out, "diffusion", "ema")
    for name, value in stage.reference.state_dict().items():
        assert torch.equal(value, start[f"denoiser.{name}"]), name
    assert not [value for value in stage.reference.parameters() if value.requires_grad]
    trained = {id(value) for value in stage.model.parameters()}
    assert not trained & {id(value) for value in stage.reference.parameters()}


def test_the_frame_after_lies_one_gap_after_the_target_or_is_not_there():
    shots = Shots.of(np.array([8, 5]), None)
    pairs = sample_pairs(shots, 400, np.random.default_rng(0), max_gap=3, start_share=0.2)
    gap, last = pairs.target - pairs.source, np.array([8, 5])[pairs.clip] - 1
    fits = pairs.target + gap <= last
    assert 0.2 < fits.mean() < 0.9
    assert (pairs.after == np.where(fits, pairs.target + gap, pairs.target)).all()


def test_terms_are_weighted_under_extra_and_change_no_identity_while_they_are_off():
    assert set(WITH_FIELDS) | set(STEP_TERMS) == set(CONTRAST_TERMS.built_in)
    plain = tiny().loss.contrast
    assert identity_text(tiny("loss.contrast.extra={}").loss.contrast) == identity_text(plain)
    assert "extra" not in identity_text(plain) and "difference" in identity_text(tiny(EVERY[0]).loss.contrast)
    assert not tiny("loss.contrast.extra.difference=0").loss.contrast.extra.get("difference")
    with pytest.raises(UserError, match=r"frame_frame has a weight of its own; set it as loss\.contrast\.frame_frame"):
        tiny("loss.contrast.extra.frame_frame=0.1")
    with pytest.raises(UserError, match="did you mean difference"):
        tiny("loss.contrast.extra.diference=0.1")
    with pytest.raises(UserError, match=r"loss\.contrast\.extra\.difference has a weight, but the baseline gaussian"):
        tiny("baseline.kind=gaussian", "loss.contrast.frame_frame=0", "loss.contrast.frame_text=0", EVERY[0])
