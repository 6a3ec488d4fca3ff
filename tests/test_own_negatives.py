"""The term `own_negatives`: the mean over the reference's samples by enumeration, what minimises it, and its stage."""

import pytest
import torch
from together import BATCH, NUM_CODES, SIZES, TOKENS, code_pair, codec, generator, uneven

from cdcd_video.config import ContrastConfig, DiffusionConfig, LossConfig
from cdcd_video.contrast_terms.own_negatives import likelihood_ratio_loss
from cdcd_video.diffusion import process as processes
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.objective import diffusion_objective
from cdcd_video.training.step_draws import make_step_draws

CODES = 4


def test_it_is_the_mean_over_all_samples_of_the_reference():
    stream = generator("ratio")
    log_p, log_reference = torch.randn(2, 3, 2, CODES, generator=stream).double().log_softmax(-1)
    x0 = torch.randint(CODES, (3, 2), generator=stream)
    nats, ratio = likelihood_ratio_loss(log_p, log_reference, x0)
    for row in range(3):
        for n in range(2):
            p, q = log_p[row, n].exp(), log_reference[row, n].exp()
            discriminator = p / (p + q)  # s(log p / q), that of a GAN with these two densities
            expected = -discriminator[x0[row, n]].log() - (q * (1 - discriminator).log()).sum()
            torch.testing.assert_close(nats[row, n], expected)
            torch.testing.assert_close(ratio[row, n], (p / q)[x0[row, n]].log())


def test_the_distribution_of_the_data_minimises_it_whatever_the_reference():
    """Over all codes of the data: no slope at the truth, more loss elsewhere, and 2 log 2 where nothing was learned yet."""
    stream = generator("data")
    data = torch.randn(CODES, generator=stream).double().log_softmax(-1)
    reference = torch.randn(CODES, generator=stream).double().log_softmax(-1)

    def mean_loss(logits):
        log_p = logits.log_softmax(-1).expand(CODES, 1, CODES)
        nats, _ = likelihood_ratio_loss(log_p, reference.expand(CODES, 1, CODES), torch.arange(CODES)[:, None])
        return (data.exp() * nats[:, 0]).sum()

    logits = data.clone().requires_grad_()
    least = mean_loss(logits)
    assert torch.autograd.grad(least, logits)[0].abs().max() < 1e-12
    for scale in (0.1, 0.5, 2.0):
        assert mean_loss(data + scale * torch.randn(CODES, generator=stream)) > least
    assert float(mean_loss(reference)) == pytest.approx(2 * torch.tensor(2.0, dtype=torch.float64).log())
    (slope,) = torch.autograd.grad(mean_loss(at := reference.clone().requires_grad_()), at)
    difference = reference.exp() - data.exp()
    torch.testing.assert_close(slope, difference / 2)  # half the slope of the cross-entropy, at first


def test_in_a_step_the_earlier_self_is_asked_the_same_and_stays():
    space, batch = codec().requires_grad_(False), code_pair(0)
    shape = dict(
        levels=space.levels, table=space.table, num_patches=space.num_patches, groups=space.groups, text_width=8
    )
    torch.manual_seed(1)
    denoiser, earlier = uneven(Denoiser(SIZES, **shape)), uneven(Denoiser(SIZES, **shape), seed=2)
    earlier.requires_grad_(False)
    cfg = DiffusionConfig(num_steps=4, full_share=0.2, caption_dropout=0.3)
    loss = LossConfig(bound=0.0, auxiliary=0.0, contrast=ContrastConfig(extra={"own_negatives": 0.5}, share=0.6))
    process = processes.mask(NUM_CODES)
    draws = make_step_draws(batch, cfg, loss, torch.Generator().manual_seed(3))
    asked = []
    for network in (denoiser, earlier):
        network.register_forward_hook(lambda module, given, out: asked.append((*given, out)))

    terms = diffusion_objective(denoiser, process, space, batch, draws, cfg, loss, reference=earlier)
    (x_t, t, condition, logits), (x_t_then, t_then, condition_then, logits_then) = asked
    rows = round(0.6 * BATCH)
    assert torch.equal(x_t[:rows], x_t_then) and torch.equal(t[:rows], t_then)
    assert torch.equal(condition.source[:rows], condition_then.source)
    assert torch.equal(condition.text.tokens[:rows], condition_then.text.tokens) and not logits_then.requires_grad
    expected = []
    for row in range(rows):
        for n in range(TOKENS):
            if x_t[row, n] < NUM_CODES:  # in mask diffusion a visible token is known
                expected.append(torch.zeros(()))
                continue
            p, q = logits[row, n].softmax(0), logits_then[row, n].softmax(0)
            expected.append(-(p / (p + q))[batch.target[row, n]].log() - (q * (q / (p + q)).log()).sum())
    assert 0 < sum(value.requires_grad for value in expected) < len(expected)
    torch.testing.assert_close(terms.total, 0.5 * torch.stack(expected).mean())
    assert float(terms.shares()["gradient_share_own_negatives"]) == pytest.approx(1)

    asked.clear()
    without = diffusion_objective(denoiser, process, space, batch, draws, cfg, loss)
    assert len(asked) == 1 and "own_negatives" not in without.parts, (
        "a stage without an earlier self leaves the term out"
    )
