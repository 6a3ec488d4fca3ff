"""The model that comes with the package: its size, its recipe, and that it still does what it was shipped for."""

import re
from pathlib import Path

import numpy as np
import pytest

from cdcd_video import ImageToVideo
from cdcd_video.ablate import plan
from cdcd_video.config import Config, TrainStages, config_file
from cdcd_video.config.fingerprint import BEFORE
from cdcd_video.data.sprites import sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.metrics.single_step import GATE_WORLD, gate
from cdcd_video.metrics.sprites_metrics import score
from cdcd_video.model import SHIPPED, saved_config
from cdcd_video.training.trained_parts import take_over

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 25_000_000
NUM_SCENES = 10


@pytest.fixture(scope="module")
def pipe() -> ImageToVideo:
    return ImageToVideo.from_pretrained("sprites", device="cpu")


@pytest.fixture(scope="module")
def scenes() -> list:
    return [sample_scene(7, index, "val", world=GATE_WORLD) for index in range(NUM_SCENES)]


def test_it_is_small():
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < MAX_BYTES


def test_its_recipe_is_in_the_repository(pipe):
    """As it was trained: in bf16; `compile` changes speed only."""
    then = [*(f"train.{stage}.precision=bf16" for stage in TrainStages.model_fields), "name=sprites"]
    assert pipe.model.config == config_file.load(ROOT / "configs" / "sprites_wide.yaml", Config, then)


def test_the_recipe_of_the_first_model_stays():
    """As it was trained: in bf16, and before there were the fields whose default has changed since."""
    then = [*(f"train.{stage}.precision=bf16" for stage in TrainStages.model_fields), "name=sprites"]
    first = saved_config(ROOT / "tests" / "first_model_config.yaml")
    assert first == config_file.load(ROOT / "configs" / "sprites_v1.yaml", Config, then, BEFORE)


def test_one_step_from_a_still_frame_goes_where_the_sentence_says(pipe, scenes):
    figures = gate(pipe, scenes, pipe.defaults(), gaps=(1,))["gap1"]
    assert figures["right"]["ratio"] > 0.7
    assert figures["shuffled"]["ratio"] < 0.3


def test_its_videos_do_what_the_sentence_says(pipe, scenes):
    times = np.arange(16) / 8
    starts = np.stack([render(scene, times[:1])[0] for scene in scenes])
    drawn = pipe.sample(starts, [scene.caption for scene in scenes], pipe.defaults(), range(NUM_SCENES))
    scores = [score(frames, scene, times) for frames, scene in zip(drawn, scenes, strict=True)]
    assert np.mean([one.all_right for one in scores]) >= 0.8
    assert np.mean([one.identity_iou.mean() for one in scores]) > 0.75
    assert np.mean([one.background_psnr_db[-1] for one in scores]) > 30


REUSES = [
    path
    for path in sorted((ROOT / "configs").glob("*.yaml")) + sorted((ROOT / "configs" / "ablations").glob("*.yaml"))
    if re.search(r"reuse[:=] ?\w+$", path.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("path", REUSES, ids=lambda path: path.stem)
def test_what_reuses_a_shipped_model_has_its_codec(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A codec that is shipped anew must not break them."""
    monkeypatch.chdir(ROOT)
    is_ablation = path.parent.name == "ablations"
    config = plan.read(path, [], tmp_path).cells[0].config if is_ablation else config_file.load(path, Config)
    take_over(config.reuse, config, tmp_path / "model", None)
    assert (tmp_path / "model" / "codec.safetensors").is_file()
