"""Each half of a caption's token states is read at the same size; weights from before read them as they read them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_model import ROOT
from torch import Tensor, nn

from cdcd_video.baselines.build import build_baseline
from cdcd_video.config import BASELINES, Config, DenoiserConfig, config_file
from cdcd_video.model import load_model
from cdcd_video.networks.conditional_transformer import normalized_halves
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_encoder import StepTextEncoder
from cdcd_video.records import TextStates

LEVELS, PATCHES, TEXT = (3, 2), 4, 16
TABLE = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
SHAPE = dict(levels=LEVELS, table=TABLE, num_patches=PATCHES, groups=1, text_width=TEXT)


def text(scale: float = 1.0) -> TextStates:
    """Three captions; the word half of the size that CLIP gives it, times `scale`."""
    stream = torch.Generator().manual_seed(1)
    words, last = (torch.randn(3, 5, TEXT // 2, generator=stream) for _ in range(2))
    is_word = torch.arange(5) < torch.tensor([[5], [3], [4]])
    embedding = nn.functional.normalize(torch.randn(3, 8, generator=stream), dim=-1)
    return TextStates(torch.cat([scale * words / 30, last], -1), is_word, embedding)


def condition(said: TextStates, *, is_in_values: bool) -> Condition:
    stream = torch.Generator().manual_seed(2)
    codes = torch.randint(6, (2, 3, PATCHES), generator=stream)
    source, first = TABLE[codes] if is_in_values else codes
    has_first, seconds = torch.tensor([True, True, False]), torch.full((3,), 0.125)
    return Condition(source, first, has_first, seconds, seconds, said)


def answers(kind: str, said: TextStates, *, normalised_text: bool) -> Tensor:
    """What a network says; its weights are alike at every call."""
    cfg = DenoiserConfig(width=64, num_layers=2, num_heads=2, normalised_text=normalised_text)
    torch.manual_seed(3)
    if kind == "eye":
        return StepTextEncoder(2, PATCHES, TEXT, 32, normalised_text=normalised_text).encode_text(said)
    network = Denoiser(cfg, **SHAPE) if kind == "denoiser" else build_baseline(BASELINES[kind](), cfg, **SHAPE)
    for parameter in network.parameters():  # fresh heads are zero
        nn.init.normal_(parameter, std=0.2)
    known = condition(said, is_in_values=kind == "gaussian")
    values, end = condition(said, is_in_values=True).source, torch.ones(3)
    given = {"denoiser": (known.source, end), "gaussian": (values, end), "categorical_flow": (values, end)}
    return network(*given.get(kind, (known.source,)), known)


NETWORKS = ["denoiser", "gaussian", "categorical_flow", "autoregressive", "eye"]


@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_how_large_clip_makes_the_words_does_not_matter(kind: str):
    small, large = (answers(kind, text(scale), normalised_text=True) for scale in (1.0, 30.0))
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-4)
    small, large = (answers(kind, text(scale), normalised_text=False) for scale in (1.0, 30.0))
    assert float((small - large).abs().max()) > 1e-2, "as it was"


@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_reading_words_at_their_size_is_reading_levelled_states(kind: str):
    said = text()
    level = replace(said, tokens=normalized_halves(said.tokens))
    assert torch.equal(answers(kind, said, normalised_text=True), answers(kind, level, normalised_text=False))


def test_each_half_of_each_token_has_mean_0_and_deviation_1():
    tokens = text().tokens
    halves = normalized_halves(tokens).unflatten(-1, (2, -1))
    assert halves.mean(-1).abs().max() < 1e-6
    torch.testing.assert_close(halves.square().mean(-1), torch.ones(3, 5, 2), rtol=1e-4, atol=0)
    given = tokens.double().unflatten(-1, (2, -1))
    exact = (given - given.mean(-1, keepdim=True)) / given.std(-1, correction=0, keepdim=True)
    torch.testing.assert_close(halves.double(), exact, rtol=0, atol=1e-4)
    assert normalized_halves(torch.zeros(1, 1, TEXT)).abs().max() == 0, "the empty caption stays empty"


def test_older_models_are_recognised_by_their_config(tiny_model, tmp_path):
    """The same weights, read as their config says: a folder that does not name the dial goes on as it did."""
    assert load_model(tiny_model).denoiser.normalised_text
    older = Path(shutil.copytree(tiny_model, tmp_path / "older"))
    lines = (older / "config.yaml").read_text().splitlines(keepends=True)
    (older / "config.yaml").write_text("".join(line for line in lines if "normalised_text" not in line))
    assert not load_model(older).denoiser.normalised_text
    config = config_file.load(ROOT / "configs" / "tiny.yaml", Config)
    assert config.denoiser.normalised_text and "normalised_text: true" in config_file.dump(config)
