"""The term `counterfactual`: wrong sentences, the posterior of the right one, and what minimises it, by enumeration."""

import itertools
import re

import numpy as np
import pytest
import torch
from together import BATCH, NUM_CODES, SIZES, TOKENS, code_pair, codec, generator, uneven
from torch import Tensor

from cdcd_video.config import ContrastConfig, DiffusionConfig, LossConfig
from cdcd_video.contrast_terms.counterfactual import sentence_nats
from cdcd_video.data.counterfactual_captions import exchanged_caption, moved_captions
from cdcd_video.data.sprites import World, sample_scene
from cdcd_video.data.sprites_words import HELD_OUT_SHAPE_MOTION, MOTIONS, VERBS
from cdcd_video.diffusion import process as processes
from cdcd_video.networks.conditioning import with_dropped_captions
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.objective import diffusion_objective
from cdcd_video.records import CodePair, WrongSentences
from cdcd_video.training.step_draws import make_step_draws
from cdcd_video.training.wrong_sentences import counterfactual_caption, other_captions

TWO = "the small red circle moves left slowly and the blue star stays still"


# ------------------------------------------------------------------------------------------------------- the sentences


def test_phrases_are_exchanged_and_motions_replaced():
    assert exchanged_caption(TWO) == "the small red circle stays still and the blue star moves left slowly"
    assert exchanged_caption(exchanged_caption(TWO)) == TWO
    assert exchanged_caption("the red circle moves left") is None
    assert exchanged_caption("the red circle grows and the blue star grows") is None
    assert exchanged_caption("the red star moves left and the blue circle bounces left and right") is not None
    assert exchanged_caption("the red circle moves up and the blue star moves left") is None, (
        "a star that moves up is held out"
    )
    moved = moved_captions("the red square moves left quickly")
    assert "the red square moves up and left quickly" in moved and "the red square stays still" in moved
    assert (
        len(moved) == len(set(moved)) == len(MOTIONS) - 2 and "the red square moves down and left quickly" not in moved
    )
    assert set(moved_captions("the red square moves")) == {
        f"the red square {verb}" for verb in VERBS if verb != "moves"
    }
    assert not [said for said in moved_captions(TWO) if "circle spins" in said]
    few = ("moves left", "moves right")
    assert moved_captions("the red square moves left", few) == ("the red square moves right",)
    assert moved_captions("the red square moves", few) == (), "no other verb has a motion here"
    for foreign in (
        "a man walks",
        "the red square",
        "the red square flies",
        f"{TWO} and the red star grows",
        "the",
        "",
    ):
        assert moved_captions(foreign) == () and exchanged_caption(foreign) is None


@pytest.mark.parametrize("version", ["v1", "v2", "open"])
def test_every_sentence_of_the_world_has_a_wrong_one_without_held_out_pairs(version):
    rng, seen = np.random.default_rng(0), set()
    for number in range(60):
        scene = sample_scene(0, number, "train", world=World(version=version))
        wrong = counterfactual_caption(scene.caption, rng)
        assert wrong is not None and wrong != scene.caption
        whats = [f"{sprite.colour} {sprite.shape} " for sprite in scene.objects]
        assert all(what in wrong for what in whats), "the same objects"
        pairs = [rf"{shape} {motion}(?! and (?:left|right))" for shape, motion in HELD_OUT_SHAPE_MOTION]
        assert not [pair for pair in pairs if re.search(pair, wrong)], wrong
        seen.add(len(scene.objects))
    assert seen == {1, 2}


def test_other_captions_are_those_of_the_next_row_with_another_sentence():
    sentence = np.array([7, 7, 8, 9])
    assert other_captions(np.array([0, 1, 2, 3]), sentence).tolist() == [2, 2, 3, 0]
    assert other_captions(np.array([0, 1, 0]), sentence).tolist() == [0, 1, 0]


# ------------------------------------------------------------------------------------------------------------ the loss


def test_it_is_minus_the_log_of_the_posterior_and_left_out_sentences_do_not_count():
    stream = generator("sentences")
    right, wrong = torch.randn(3, generator=stream).double(), torch.randn(3, 2, generator=stream).double()
    is_wrong = torch.tensor([[True, True], [True, False], [False, False]])
    nats, wins = sentence_nats(right, wrong, is_wrong)
    for row in range(3):
        all_of = [right[row], *(score for score, counts in zip(wrong[row], is_wrong[row], strict=True) if counts)]
        posterior = right[row].exp() / sum(score.exp() for score in all_of)
        torch.testing.assert_close(nats[row], -posterior.log())
        assert wins[row] == float(max(all_of) == right[row])
    assert nats[2] == 0 and wins[2] == 1


def test_the_true_likelihoods_minimise_it():
    """Three sentences, two tokens of three codes: over all frames and pairs of sentences, the slope at the truth is 0, and other
    likelihoods cost more. So do those of a model that is sharpened as by guidance, which is the optimum of CCA."""
    sentences, tokens, codes = 3, 2, 3
    true = torch.randn(sentences, tokens, codes, generator=generator("world")).double().log_softmax(-1)
    prior = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)

    def mean_loss(logits: Tensor) -> Tensor:
        log_p, total = logits.log_softmax(-1), torch.zeros((), dtype=torch.float64)
        for c, other in itertools.permutations(range(sentences), 2):
            for frame in itertools.product(range(codes), repeat=tokens):
                weight = prior[c] * prior[other] * torch.stack([true[c, n, k] for n, k in enumerate(frame)]).sum().exp()
                right, wrong = (
                    torch.stack([log_p[which, n, k] for n, k in enumerate(frame)]).sum()[None] for which in (c, other)
                )
                total = total + weight * sentence_nats(right, wrong[None], torch.ones(1, 1, dtype=torch.bool))[0].sum()
        return total

    logits = true.clone().requires_grad_()
    least = mean_loss(logits)
    assert torch.autograd.grad(least, logits)[0].abs().max() < 1e-12
    marginal = (prior[:, None, None] * true.exp()).sum(0).log()
    for other in (true + 0.3 * torch.randn(true.shape, generator=generator("off")), true + (true - marginal)):
        assert mean_loss(other) > least + 1e-4


# ------------------------------------------------------------------------------------------------- in a training step


def world() -> tuple[Denoiser, CodePair]:
    space = codec()
    shape = dict(
        levels=space.levels, table=space.table, num_patches=space.num_patches, groups=space.groups, text_width=8
    )
    torch.manual_seed(1)
    batch = code_pair(0)
    text = type(batch.text)(
        *(part.roll(1, 0) for part in (batch.text.tokens, batch.text.is_word, batch.text.embedding))
    )
    is_wrong = batch.caption != batch.caption.roll(1, 0)
    return uneven(Denoiser(SIZES, **shape)), CodePair(
        **{**vars(batch), "counterfactual": WrongSentences(text, is_wrong)}
    )


def test_in_a_step_fully_corrupted_frames_are_compared_under_both_sentences():
    denoiser, batch = world()
    cfg = DiffusionConfig(num_steps=4, full_share=0.5, caption_dropout=0.3, source_jitter=0.0)
    loss = LossConfig(bound=0.0, auxiliary=0.0, contrast=ContrastConfig(extra={"counterfactual": 0.5}, share=0.8))
    process, space = processes.mask(NUM_CODES), codec().requires_grad_(False)
    draws = make_step_draws(batch, cfg, loss, torch.Generator().manual_seed(3))
    calls = []
    handle = denoiser.register_forward_hook(lambda module, given, out: calls.append((*given, out)))
    terms = diffusion_objective(denoiser, process, space, batch, draws, cfg, loss)
    handle.remove()
    (x_t, t, condition, logits), (other_x_t, other_t, other_condition, other_logits) = calls

    kept = with_dropped_captions(batch.text, cfg.caption_dropout, draws.caption_uniforms).tokens.any(2).any(1)
    counts = (t == 1) & kept & batch.counterfactual.is_wrong
    rows = [row for row in range(round(0.8 * BATCH)) if counts[row]]
    assert 1 < len(rows) < 0.8 * BATCH and torch.equal(other_x_t, x_t[rows]) and torch.equal(other_t, t[rows])
    assert torch.equal(other_condition.text.tokens, batch.counterfactual.text.tokens[rows])
    assert torch.equal(other_condition.source, condition.source[rows])
    expected = []
    for place, row in enumerate(rows):
        right, wrong = (
            sum(scores[n].log_softmax(0)[batch.target[row, n]] for n in range(TOKENS))
            for scores in (logits[row], other_logits[place])
        )
        expected.append(torch.nn.functional.softplus(wrong - right) / TOKENS)
    torch.testing.assert_close(terms.total, 0.5 * torch.stack(expected).mean())
    assert terms.parts["counterfactual"] == pytest.approx(float(torch.stack(expected).mean().detach()), rel=1e-5)

    shares = terms.shares()
    assert float(shares["gradient_share_counterfactual"]) == pytest.approx(1), "no other term has a weight"
    whole = torch.autograd.grad(terms.total, [logits, other_logits])
    slopes = [slope.abs().amax((1, 2)) for slope in whole]
    assert slopes[0][rows].min() > 0 and slopes[0].count_nonzero() == len(rows) and slopes[1].min() > 0


def test_a_batch_without_a_wrong_sentence_costs_nothing_and_keeps_its_graph():
    denoiser, batch = world()
    none = WrongSentences(batch.counterfactual.text, torch.zeros(BATCH, dtype=torch.bool))
    batch = CodePair(**{**vars(batch), "counterfactual": none})
    cfg = DiffusionConfig(num_steps=4)
    loss = LossConfig(bound=0.0, auxiliary=0.0, contrast=ContrastConfig(extra={"counterfactual": 1.0}))
    draws = make_step_draws(batch, cfg, loss, torch.Generator().manual_seed(3))
    terms = diffusion_objective(
        denoiser, processes.mask(NUM_CODES), codec().requires_grad_(False), batch, draws, cfg, loss
    )
    assert terms.parts["counterfactual"] == 0
    slopes = torch.autograd.grad(terms.total, list(denoiser.parameters()), allow_unused=True)
    assert not [slope for slope in slopes if slope is not None and slope.any()]
    assert sum(slope is not None for slope in slopes) > 10, "in several processes every step must use the same weights"
