"""Models for tests: one with random weights, built in a second, and the config of one that has learned a little."""

import json
from pathlib import Path

import torch

from cdcd_video.config import Config, config_file
from cdcd_video.data.sprites import VOCABULARY
from cdcd_video.model import FORMAT, build_codec, build_denoiser, save_module
from cdcd_video.networks.clip import FrozenClip, built_in

ROOT = Path(__file__).resolve().parent.parent
WORDS = " ".join(VOCABULARY)


def write_model(folder: Path, *changes: str) -> Path:
    """Writes a model folder of `configs/tiny.yaml`, with changes, with random weights; the same bits every time."""
    config = config_file.load(ROOT / "configs" / "tiny.yaml", Config, changes)
    tokenizer = built_in.train_tokenizer(VOCABULARY, config.clip.vocabulary, config.clip.max_tokens)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = built_in.build_clip(config.clip, config.data.size_px, len(tokenizer), tokenizer.eos_token_id)
        built_in.save_clip(tower, tokenizer, [WORDS], folder / "clip")
        frozen = FrozenClip(folder / "clip")
        codec = build_codec(config, frozen)
        denoiser = build_denoiser(config, codec, frozen.text_width)
    save_module(codec, folder / "codec.safetensors")
    save_module(denoiser, folder / "denoiser.safetensors")
    (folder / "config.yaml").write_text(config_file.dump(config))
    (folder / "model.json").write_text(json.dumps({"format": FORMAT}))
    return folder


SHORT = tuple(
    f"train.{stage}.num_steps={steps}"
    for stage, steps in dict(clip=10, codec=40, decoder=10, diffusion=60, refine=10).items()
)
"""Enough to see that it learns."""


def trained_config(*changes: str) -> Config:
    """`configs/tiny.yaml` with fewer steps, and what else is asked for."""
    return config_file.load(ROOT / "configs" / "tiny.yaml", Config, [*SHORT, *changes])
