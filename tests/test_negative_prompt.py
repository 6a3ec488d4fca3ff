"""Guidance away from a sentence: exact on a world that can be written down, then on whole models."""

import itertools
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import worlds
from shapes import unchecked

from cdcd_video import ImageToVideo, SamplingWarning
from cdcd_video.config import SamplingParams
from cdcd_video.networks.conditioning import Condition, concatenated, empty_text, with_empty_captions
from cdcd_video.records import TextStates
from cdcd_video.sampling.code_sampler import DiscreteSampler
from cdcd_video.sampling.roll_out import roll_out

K, N, SCALE = 3, 2, 1.7
PROCESS = worlds.kinds(K)["uniform"]
WANTED, AWAY, EMPTY = (worlds.world(K, N, seed) for seed in range(3))


def text(which: float, length: int = 2) -> TextStates:
    """A caption of the world `which`."""
    return TextStates(torch.full((1, length, 1), which), torch.ones(1, length).bool(), torch.ones(1, 1))


class PerfectDenoiser:
    """Knows p(x_0 | x_t) of the world that a caption is of; 0, as the empty caption is, stands for the third."""

    def prepare(self, condition: Condition, keys_values: object = None) -> SimpleNamespace:
        return SimpleNamespace(which=condition.text.tokens[:, 0, 0], keys_values=())

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor, prepared: SimpleNamespace) -> torch.Tensor:
        of = {1.0: WANTED, 2.0: AWAY, 0.0: EMPTY}
        rows = [worlds.oracle(of[which], PROCESS) for which in prepared.which.tolist()]
        return torch.cat([row(x_t[[at]], t[[at]]) for at, row in enumerate(rows)])


@dataclass(frozen=True)
class Guided(worlds.World):
    """What guidance makes of two worlds, written down: p_away^(1 - s) p_wanted^s of every code, normalised."""

    away: worlds.World = AWAY

    def log_posterior(self, process, x_t, t):
        wanted, away = (world.log_posterior(process, x_t, t).exp() for world in (WANTED, self.away))
        power = wanted**SCALE * away ** (1 - SCALE)
        return (power / power.sum(-1, keepdim=True)).log()


def sampler_and_condition(negative: TextStates | None, copies: int = 1) -> tuple[DiscreteSampler, Condition]:
    with unchecked():
        sampler = DiscreteSampler(PerfectDenoiser(), PROCESS, None, None)
    source, seconds = WANTED.source.repeat(1, copies), torch.ones(1)
    return sampler, Condition(source, source, torch.ones(1).bool(), seconds, seconds, text(1.0), negative)


CASES = pytest.mark.parametrize(("negative", "away"), [(text(2.0), AWAY), (text(2.0, length=3), AWAY), (None, EMPTY)])


@CASES
def test_every_probability_is_the_formulas(negative: TextStates | None, away: worlds.World):
    sampler, condition = sampler_and_condition(negative)
    with unchecked():
        denoise = sampler._denoise(condition, SamplingParams(guidance=SCALE))
        for codes, time in itertools.product(itertools.product(range(K), repeat=N), (0.25, 0.5, 1.0)):
            x_t, t = torch.tensor([codes]), torch.tensor([time])
            wanted = Guided(K, WANTED.p, WANTED.source, away).log_posterior(PROCESS, x_t, t)
            torch.testing.assert_close(denoise(x_t, t), wanted, rtol=1e-9, atol=1e-9)


@CASES
def test_what_is_sampled_has_the_enumerated_distribution(negative: TextStates | None, away: worlds.World):
    copies, steps = 6000, 3
    sampler, condition = sampler_and_condition(negative, copies)
    params = SamplingParams(guidance=SCALE, num_steps=steps, temperature=1.0)
    with unchecked():
        codes = sampler.next_frame(condition, params, [torch.Generator().manual_seed(0)])
    counts = (codes.view(-1, N) * torch.tensor([K, 1])).sum(-1).bincount(minlength=K**N)
    jumps = worlds.jumps([1.0, 2 / 3, 1 / 3, 0.0])
    law = worlds.exact_law(Guided(K, WANTED.p, WANTED.source, away), PROCESS, jumps)
    other = worlds.exact_law(Guided(K, WANTED.p, WANTED.source, EMPTY if away is AWAY else AWAY), PROCESS, jumps)
    assert worlds.chi_square_p_value(counts, law) > 1e-3
    assert worlds.chi_square_p_value(counts, other) < 1e-9, "the test would see the other sentence"


def test_captions_of_two_lengths_are_padded_to_the_longer():
    both = concatenated(text(1.0), text(2.0, length=4))
    assert both.is_word.tolist() == [[True, True, False, False], [True] * 4]
    assert both.tokens[0, :, 0].tolist() == [1, 1, 0, 0] and both.embedding.shape == (2, 1)
    given = sampler_and_condition(None)[1]
    plain = with_empty_captions(given).text
    assert torch.equal(plain.tokens, torch.cat([given.text.tokens, empty_text(given.text).tokens]))


def test_a_roll_out_leads_away_all_along_and_knows_its_sentences_from_another_videos():
    seen: list[TextStates | None] = []

    class Noting:
        def next_frame(self, condition, params, streams):
            seen.append(condition.negative)
            return condition.source

    negative = text(2.0)
    with unchecked():
        schedule = SimpleNamespace(turns=((0, "a"), (2, "b")))
        start = torch.zeros(1, N, dtype=torch.long)
        list(roll_out(Noting(), start, [schedule], lambda _: text(1.0), SamplingParams(num_frames=4), [], negative))
    assert len(seen) == 3 and all(one is negative for one in seen)
    sampler, condition = sampler_and_condition(negative)
    with unchecked():
        x_t, t = WANTED.source[None], torch.ones(1)
        first, second = (
            sampler._denoise(replace(condition, negative=one), SamplingParams(guidance=SCALE))(x_t, t)
            for one in (text(2.0), None)
        )
    assert not torch.allclose(first, second)


# ------------------------------------------------------------------------------------------------------ whole models

CAPTIONS = ["the red circle moves right", "the blue square moves up"]
DOWN = "the green star moves down"
LOOK = dict(num_frames=3, num_steps=2, temperature=1.0)


@pytest.fixture(scope="module")
def pipe() -> ImageToVideo:
    return ImageToVideo.from_pretrained("sprites", "cpu")  # with random weights no sentence matters


@pytest.fixture(scope="module")
def starts(pipe: ImageToVideo) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, pipe.size_px, pipe.size_px, 3), dtype=np.uint8)


def test_a_video_without_one_is_as_it_was_beside_one_that_has_one(pipe: ImageToVideo, starts: np.ndarray):
    params = pipe.defaults(guidance=3.0, **LOOK)
    plain = pipe.roll_out(starts, CAPTIONS, params, [0, 1])
    mixed = pipe.roll_out(starts, CAPTIONS, params, [0, 1], negatives=[DOWN, " "])
    assert torch.equal(plain[1], mixed[1]) and not torch.equal(plain[0], mixed[0])
    assert torch.equal(plain, pipe.roll_out(starts, CAPTIONS, params, [0, 1], negatives=["", ""]))


def test_away_from_the_caption_itself_is_no_guidance(pipe: ImageToVideo, starts: np.ndarray):
    """p_c^(1 - s) p_c^s = p_c for every s."""
    codes, said = pipe.encode(starts), pipe.model.clip.encode_text(CAPTIONS)
    seconds = torch.full((2,), 0.125)
    condition = Condition(codes, codes, torch.ones(2).bool(), seconds, seconds, said, said)
    with torch.no_grad():
        plain, guided = (
            pipe.sampler._denoise(condition, SamplingParams(guidance=scale))(codes, torch.ones(2))
            for scale in (1.0, 9.0)
        )
    torch.testing.assert_close(plain.log_softmax(-1), guided, rtol=1e-4, atol=1e-4)


def test_what_has_no_effect_is_noted(pipe: ImageToVideo, starts: np.ndarray):
    with pytest.warns(SamplingWarning, match="negative_prompt has no effect: guidance is 1.*guidance_scale above 1"):
        pipe(starts[0], CAPTIONS[0], negative_prompt=DOWN, guidance=1.0, num_frames=2)
    with pytest.warns(SamplingWarning, match="the model never saw the words 'blurry'"):
        pipe(starts[0], CAPTIONS[0], negative_prompt="the blurry star", guidance=2.0, num_frames=2)
