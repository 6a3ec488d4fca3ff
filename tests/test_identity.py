"""Checkpoints from before a dial was there go on; a dial that is turned makes another run."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

from cdcd_video import config as dials
from cdcd_video.config import Config, baselines, config_file, processes, train_section
from cdcd_video.config.fingerprint import BEFORE, FIRST, identity_text, of_codes, saved_config, unnamed_in
from cdcd_video.training.resolved import settled

ROOT = Path(__file__).resolve().parent.parent

WRITTEN = {
    "tiny clip": "541441a2797a339e",
    "tiny codec": "20274d07efc7332c",
    "tiny denoiser": "cfb3dc160b91f02f",
    "tiny diffusion": "d5c7bd9c951bd30d",
    "tiny loss": "bbd78894bea95011",
    "tiny train.clip": "535be29acd81f3f4",
    "tiny train.diffusion": "a0c5f5c1295e6f64",
    "tiny train.refine": "7365784be5b19bd9",
    "tiny train.eye": "4a0813215a44e7fc",
    "tiny train.decoder": "64780c1f16ae50e6",
    "sprites clip": "6bc5dfbcab2f8d78",
    "sprites codec": "8ffa9cd3200de78e",
    "sprites denoiser": "642c651f2ff8e8ba",
    "sprites diffusion": "8d44d7c26a0eafad",
    "sprites loss": "e285530df6edc6f6",
    "sprites train.clip": "c5a6659675b1424e",
    "sprites train.diffusion": "4c7011698a8bbcd6",
    "sprites train.refine": "727f7ff606b06a07",
    "sprites train.eye": "4a0813215a44e7fc",
    "sprites train.decoder": "2e7daafe84c5627f",
}
"""What checkpoints of the first days hold: the beginning of the SHA-256 of each section. They must stay true for ever:
where this fails, a dial was added that `identity_text` tells although it stands at its default, or one was renamed."""


EARLIER = {"sprites": "sprites_v1"}
"""The name that a config of those days has now."""


@pytest.mark.parametrize("name", WRITTEN)
def test_checkpoints_of_the_first_days_know_their_config(name: str):
    file, path = name.split()
    then = [f"train.{stage}.precision=bf16" for stage in dials.TrainStages.model_fields]  # the default of those days
    section = config_file.load(ROOT / "configs" / f"{EARLIER.get(file, file)}.yaml", Config, then, BEFORE)
    for part in path.split("."):
        section = getattr(section, part)
    assert hashlib.sha256(identity_text(section).encode()).hexdigest()[:16] == WRITTEN[name]


def test_a_later_field_is_in_the_identity_where_it_is_changed():
    class CdcdContrastConfig(dials.CdcdContrastConfig):
        sharper: float = 1.0
        """Newer than any checkpoint."""

    class LossConfig(dials.LossConfig):
        cdcd: CdcdContrastConfig = CdcdContrastConfig()
        newest: tuple[int, ...] = (1, 2)
        """Likewise."""

    old = identity_text(dials.LossConfig(bound=0.25))
    assert identity_text(LossConfig(bound=0.25)) == old
    assert identity_text(LossConfig(bound=0.25, newest=(1, 3))) != old
    turned = LossConfig(bound=0.25, cdcd=CdcdContrastConfig(sharper=2.0))
    assert json.loads(identity_text(turned))["cdcd"]["sharper"] == 2.0
    assert "newest" not in json.loads(identity_text(turned))
    assert identity_text(dials.LossConfig(bound=0.5)) != old, "an old dial is told at its default too"


def test_a_later_section_has_its_changed_fields_in_the_identity():
    assert json.loads(identity_text(dials.PictureConfig())) == {}
    assert json.loads(identity_text(dials.PictureConfig(perceptual=0.5))) == {"perceptual": 0.5}


def saved(tmp_path: Path, *, without: bool, changes: tuple[str, ...] = ()) -> Path:
    """The config of a run as it lies in its folder: of today, or of before there were the dials of `BEFORE`."""
    text = config_file.dump(config_file.load(ROOT / "configs" / "tiny.yaml", Config, changes))
    if without:
        text = "\n".join(
            line for line in text.splitlines() if not re.match(r"  (still_tolerance|normalised_text):", line)
        )
    (tmp_path / "config.yaml").write_text(text)
    return tmp_path / "config.yaml"


def test_a_config_older_than_a_field_keeps_its_meaning(tmp_path: Path):
    old = saved_config(saved(tmp_path, without=True))
    assert (old.codec.still_tolerance, old.denoiser.normalised_text) == (0.0, False)
    new = saved_config(saved(tmp_path, without=False))
    assert (new.codec.still_tolerance, new.denoiser.normalised_text) == (3.0, True)
    for name, now in (("codec", new.codec), ("denoiser", new.denoiser)):
        assert json.loads(identity_text(now)).items() > json.loads(identity_text(getattr(old, name))).items()
        assert identity_text(now) != identity_text(getattr(old, name)), "a checkpoint of another kind"
    assert of_codes(old.codec) == of_codes(new.codec), "the codes of the same weights are the same"
    first = saved_config(ROOT / "tests" / "first_model_config.yaml")  # of the model that was shipped with version 0.1.0
    assert (first.codec.still_tolerance, first.denoiser.normalised_text) == (0.0, False)


@pytest.mark.parametrize(
    "turned", ["codec.still_tolerance=1", "codec.still_tolerance=0", "denoiser.normalised_text=false"]
)
def test_a_run_older_than_a_field_continues_as_it_began(turned: str, tmp_path: Path):
    cpu, today = torch.device("cpu"), config_file.load(ROOT / "configs" / "tiny.yaml", Config)
    file = saved(tmp_path, without=True)
    old = (saved_config(file), unnamed_in(file))
    went_on = settled(today, cpu, *old)
    assert (went_on.codec.still_tolerance, went_on.denoiser.normalised_text) == (0.0, False)
    changed = settled(config_file.load(ROOT / "configs" / "tiny.yaml", Config, [turned]), cpu, *old)
    key, _, value = turned.partition("=")
    assert json.dumps(getattr(getattr(changed, key.split(".")[0]), key.split(".")[1])) in (value, value + ".0")
    named = saved(tmp_path, without=False, changes=(turned,))
    assert unnamed_in(named) == {"codec": {}, "denoiser": {}}
    kept = settled(today, cpu, saved_config(named), unnamed_in(named))
    assert (kept.codec.still_tolerance, kept.denoiser.normalised_text) == (3.0, True), "as the user says; else refused"


def test_what_changes_no_number_is_not_in_the_identity():
    one, other = (dials.DenoiserTrainConfig(checkpoint_activations=is_on) for is_on in (True, False))
    assert identity_text(one) != identity_text(other)
    assert identity_text(one, but={"checkpoint_activations"}) == identity_text(other, but={"checkpoint_activations"})


def test_no_first_field_is_gone():
    """A dial that is removed or renamed makes old checkpoints unreadable: raise `engine.checkpoint.FORMAT` then."""
    sections = {**vars(baselines), **vars(processes), **vars(train_section), **vars(dials)}
    for name, first in FIRST.items():
        assert set(first.split()) <= set(sections[name].model_fields), name
