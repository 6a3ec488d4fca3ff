"""A whole model with random weights, built in a second: enough for everything but beauty."""

import json
from pathlib import Path

import pytest
import torch

from cdcd_video import clip, configfile
from cdcd_video.config import Config
from cdcd_video.data.sprites import VOCABULARY
from cdcd_video.model import FORMAT, build_codec, build_denoiser, save_module
from cdcd_video.pretrained import FrozenClip

ROOT = Path(__file__).resolve().parent.parent
WORDS = " ".join(VOCABULARY)


def write_model(folder: Path) -> Path:
    """Writes a model folder of `configs/tiny.yaml` with random weights; the same bits every time."""
    config = configfile.load(ROOT / "configs" / "tiny.yaml", Config)
    tokenizer = clip.train_tokenizer(VOCABULARY, config.clip.vocabulary, config.clip.max_tokens)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = clip.build_clip(config.clip, config.data.size_px, len(tokenizer), tokenizer.eos_token_id)
        clip.save_clip(tower, tokenizer, [WORDS], folder / "clip")
        frozen = FrozenClip(folder / "clip")
        codec = build_codec(config, frozen)
        denoiser = build_denoiser(config, codec, frozen.text_width)
    save_module(codec, folder / "codec.safetensors")
    save_module(denoiser, folder / "denoiser.safetensors")
    (folder / "config.yaml").write_text(configfile.dump(config))
    (folder / "model.json").write_text(json.dumps({"format": FORMAT}))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the random model; tests that damage it copy it first."""
    return write_model(tmp_path_factory.mktemp("model"))
