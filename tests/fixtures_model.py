"""Models for tests: one with random weights, built in a second, and the config of one that has learned a little."""

import json
from pathlib import Path

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


SHORT = tuple(
    f"train.{stage}.num_steps={steps}"
    for stage, steps in dict(clip=10, codec=40, decoder=10, diffusion=60, refine=10).items()
)
"""Enough to see that it learns."""


def trained_config(*changes: str) -> Config:
    """`configs/tiny.yaml` with fewer steps, and what else is asked for."""
    return configfile.load(ROOT / "configs" / "tiny.yaml", Config, [*SHORT, *changes])
