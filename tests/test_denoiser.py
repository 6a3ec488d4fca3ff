"""The denoiser's shapes, what it may see, and that preparing once changes nothing."""

import pytest
import torch

from cdcd_video.config import DenoiserConfig
from cdcd_video.networks.codec.quantizer import FiniteScalarQuantizer
from cdcd_video.networks.conditional_transformer import time_embedding
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.denoiser import Denoiser, digit_rows
from cdcd_video.records import TextStates

LEVELS, PATCHES, GROUPS = (3, 2), 4, 2
NUM_CODES, TOKENS = 6, PATCHES * GROUPS


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    table = FiniteScalarQuantizer(LEVELS).table
    cfg = DenoiserConfig(width=32, num_layers=2, num_heads=2)
    model = Denoiser(cfg, levels=LEVELS, table=table, num_patches=PATCHES, groups=GROUPS, text_width=8)
    for parameter in model.parameters():  # fresh heads are zero; a test of what is seen needs them to speak
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def condition(seed: int = 0, batch: int = 3) -> Condition:
    generator = torch.Generator().manual_seed(seed)

    def codes():
        return torch.randint(NUM_CODES, (batch, TOKENS), generator=generator)

    text = TextStates(
        torch.randn(batch, 5, 8, generator=generator), torch.ones(batch, 5, dtype=torch.bool), torch.zeros(batch, 4)
    )
    gap, age = torch.rand(2, batch, generator=generator)
    return Condition(codes(), codes(), torch.tensor([True] * batch), gap, age, text)


def changed(given: Condition, **changes) -> Condition:
    return Condition(**{**given.__dict__, **changes})


def test_logits_are_over_codes_and_never_over_the_mask(denoiser):
    x_t = torch.full((3, TOKENS), denoiser.mask_id)
    assert denoiser(x_t, torch.ones(3), condition()).shape == (3, TOKENS, NUM_CODES)


def test_preparing_once_gives_the_same_logits(denoiser):
    given, t = condition(), torch.tensor([0.2, 0.7, 1.0])
    x_t = torch.randint(NUM_CODES + 1, (3, TOKENS), generator=torch.Generator().manual_seed(9))
    assert torch.equal(denoiser(x_t, t, given), denoiser(x_t, t, denoiser.prepare(given)))


@pytest.mark.parametrize("name", ["source", "first", "gap_s", "age_s", "text"])
def test_every_input_matters(denoiser, name):
    given, other = condition(0), condition(1)
    x_t, t = torch.full((3, TOKENS), denoiser.mask_id), torch.ones(3)
    after = denoiser(x_t, t, changed(given, **{name: getattr(other, name)}))
    assert (after - denoiser(x_t, t, given)).abs().max() > 1e-4


def test_a_withheld_first_frame_has_no_effect(denoiser):
    given = changed(condition(0), has_first=torch.zeros(3, dtype=torch.bool))
    x_t, t = torch.full((3, TOKENS), denoiser.mask_id), torch.ones(3)
    assert torch.equal(denoiser(x_t, t, given), denoiser(x_t, t, changed(given, first=condition(1).first)))


def test_padding_words_are_not_read(denoiser):
    given = condition(0)
    is_word = given.text.is_word.clone()
    is_word[:, 3:] = False
    tokens = given.text.tokens.clone()
    tokens[:, 3:] = 100.0
    x_t, t = torch.full((3, TOKENS), denoiser.mask_id), torch.ones(3)
    short = changed(given, text=TextStates(given.text.tokens, is_word, given.text.embedding))
    padded = changed(given, text=TextStates(tokens, is_word, given.text.embedding))
    torch.testing.assert_close(denoiser(x_t, t, short), denoiser(x_t, t, padded))


def test_a_fresh_denoiser_prefers_the_source():
    table = FiniteScalarQuantizer(LEVELS).table
    cfg = DenoiserConfig(width=32, num_layers=1, num_heads=2)
    fresh = Denoiser(cfg, levels=LEVELS, table=table, num_patches=PATCHES, groups=GROUPS, text_width=8)
    given = condition()
    logits = fresh(torch.full((3, TOKENS), fresh.mask_id), torch.ones(3), given)
    assert torch.equal(logits.argmax(-1), given.source)


def test_digits_agree_with_the_quantiser():
    quantizer = FiniteScalarQuantizer((4, 3, 2))
    rows = digit_rows((4, 3, 2))
    digits = torch.stack([part.argmax(-1) for part in rows.split([4, 3, 2], 1)], 1)
    assert torch.equal((digits * quantizer.radix).sum(-1), torch.arange(24))
    torch.testing.assert_close((digits - quantizer.middle) / quantizer.middle, quantizer.table)


def test_time_embeddings_differ():
    times = torch.tensor([0.0, 1 / 16, 0.125, 0.25, 0.5, 1.0, 2.0])
    assert torch.cdist(time_embedding(times), time_embedding(times)).add(torch.eye(7)).min() > 0.1
