"""InfoNCE against an explicit softmax over all pairs, and each term's part in the gradient."""

import math

import pytest
import torch
import worlds
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import examples
from torch import Tensor
from torch.nn.functional import normalize

from cdcd_video.contrast.cdcd import with_negatives
from cdcd_video.contrast.gradient_shares import gradient_shares
from cdcd_video.contrast.info_nce import batch_info_nce, info_nce
from cdcd_video.diffusion.loss_reference import auxiliary, divergence
from cdcd_video.networks.clip.built_in import contrastive_loss


def unit(*shape: int, seed: int) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def some(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.6


def by_hand(anchor, positive, negatives, is_negative, temperature, own=None, is_own=None) -> Tensor:
    """One anchor after the other, one pair after the other, as shares of exponentials."""
    nats = []
    for row in range(len(anchor)):
        pull = (anchor[row] @ positive[row] / temperature).exp()
        pushes = [
            (anchor[row] @ negatives[m] / temperature).exp() for m in range(len(negatives)) if is_negative[row, m]
        ]
        if own is not None:
            pushes += [(anchor[row] @ own[row, m] / temperature).exp() for m in range(own.shape[1]) if is_own[row, m]]
        nats.append(-(pull / (pull + sum(pushes))).log())
    return torch.stack(nats)


# ----------------------------------------------------------------------------------------------------- value, gradient


@pytest.mark.parametrize("has_own", [False, True])
def test_it_equals_the_formula_written_out_with_its_gradient(has_own):
    given_ = [unit(4, 8, seed=0), unit(4, 8, seed=1), unit(5, 8, seed=2), torch.tensor(0.2, dtype=torch.float64)]
    own, is_own = (unit(4, 3, 8, seed=3), some(4, 3, seed=5)) if has_own else (None, None)
    is_negative = some(4, 5, seed=4)
    assert 0 < is_negative.sum() < 20
    leaves = [value.clone().requires_grad_() for value in (*given_, *([own] if has_own else []))]
    anchor, positive, negatives, temperature, *rest = leaves
    rest = [*rest, is_own] if has_own else []
    nats, wins = info_nce(anchor, positive, negatives, is_negative, temperature, *rest)
    expected = by_hand(anchor, positive, negatives, is_negative, temperature, *rest)
    torch.testing.assert_close(nats, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(nats @ upstream, leaves), torch.autograd.grad(expected @ upstream, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    for row in range(4):
        scores = [anchor[row] @ negatives[m] for m in range(5) if is_negative[row, m]]
        scores += [anchor[row] @ own[row, m] for m in range(3) if is_own[row, m]] if has_own else []
        assert bool(wins[row]) == all(bool(anchor[row] @ positive[row] > score) for score in scores)


def test_gradients_by_finite_differences():
    leaves = [unit(3, 4, seed=seed).requires_grad_() for seed in (0, 1, 2)]
    own, temperature = unit(3, 2, 4, seed=3).requires_grad_(), torch.tensor(0.3, dtype=torch.float64).requires_grad_()

    def pay(anchor, positive, negatives, own, temperature):
        masks = some(3, 3, seed=4), some(3, 2, seed=5)
        return info_nce(anchor, positive, negatives, masks[0], temperature, own, masks[1])[0]

    assert torch.autograd.gradcheck(pay, (*leaves, own, temperature))


@pytest.mark.parametrize("symmetric", [False, True])
def test_in_a_batch_positives_are_each_others_negatives_both_ways_if_asked(symmetric):
    anchor, positive = unit(5, 6, seed=0).requires_grad_(), unit(5, 6, seed=1).requires_grad_()
    group = torch.tensor([0, 0, 1, 2, 1])
    own, is_own = unit(5, 2, 6, seed=2), some(5, 2, seed=3)
    is_negative = group[:, None] != group
    nats, wins = batch_info_nce(anchor, positive, is_negative, 0.3, own, is_own, symmetric=symmetric)
    expected = by_hand(anchor, positive, positive, is_negative, 0.3, own, is_own)
    won = info_nce(anchor, positive, positive, is_negative, 0.3, own, is_own)[1]
    if symmetric:
        expected = (expected + by_hand(positive, anchor, anchor, is_negative, 0.3)) / 2
        won = (won + info_nce(positive, anchor, anchor, is_negative, 0.3)[1]) / 2
        assert 0.5 in won, "a row that wins in one direction only"
    assert torch.equal(wins, won)
    torch.testing.assert_close(nats, expected, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(value.sum(), (anchor, positive)) for value in (nats, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_symmetric_loss_is_that_of_clip():
    """Cross-entropy of the matrix of scores along both of its sides (Radford et al. 2021, fig. 3)."""
    anchor, positive = unit(6, 8, seed=0), unit(6, 8, seed=1)
    scores, labels = anchor @ positive.T / 0.07, torch.arange(6)
    expected = (
        torch.nn.functional.cross_entropy(scores, labels) + torch.nn.functional.cross_entropy(scores.T, labels)
    ) / 2
    nats, _ = batch_info_nce(anchor, positive, ~torch.eye(6, dtype=torch.bool), 0.07, symmetric=True)
    torch.testing.assert_close(nats.mean(), expected)


# ------------------------------------------------------------------------------------------------------------- its ends


@pytest.mark.parametrize("num", [0, 3])
def test_an_anchor_without_negatives_has_no_loss_and_no_gradient(num):
    anchor, positive = unit(4, 8, seed=0).requires_grad_(), unit(4, 8, seed=1).requires_grad_()
    temperature = torch.tensor(0.1, dtype=torch.float64).requires_grad_()
    nobody = torch.zeros(4, num, dtype=torch.bool)
    nats, wins = info_nce(anchor, positive, unit(num, 8, seed=2), nobody, temperature, unit(4, num, 8, seed=3), nobody)
    assert torch.equal(nats, torch.zeros(4, dtype=torch.float64)) and wins.all()
    for gradient in torch.autograd.grad(nats.sum(), (anchor, positive, temperature)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_it_lies_between_nothing_and_its_bound_and_reaches_it(temperature):
    anchor = unit(1, 8, seed=0)
    for num in (1, 7):
        everyone = torch.ones(1, num, dtype=torch.bool)
        bound = math.log(1 + num) + 2 / temperature
        worst, wins = info_nce(anchor, -anchor, anchor.expand(num, 8), everyone, temperature)
        assert bound - math.log(1 + 1 / num) - 1e-9 <= float(worst) <= bound and not wins.any()
        best, wins = info_nce(anchor, anchor, -anchor.expand(num, 8), everyone, temperature)
        assert 0 <= float(best) <= num * math.exp(-2 / temperature) + 1e-12 and wins.all()


def test_equal_scores_cost_the_logarithm_of_the_choices_and_win_nothing():
    anchor = torch.ones(1, 2, dtype=torch.float64) / math.sqrt(2)
    for num in (1, 7):
        nats, wins = info_nce(anchor, anchor, anchor.expand(num, 2), torch.ones(1, num, dtype=torch.bool), 0.1)
        assert float(nats) == pytest.approx(math.log(num + 1), rel=1e-12) and not wins.any()


def test_equal_cosines_win_nothing_whatever_is_rounded_where():
    """The positive's cosine is a sum of products and the negatives' a matrix product: their last bits need not agree."""
    for seed in range(20):
        anchor, near = (unit(5, 512, seed=seed + step).float() for step in (0, 1))
        for positive in (near, near * (1 + 3e-7)):
            _, wins = info_nce(anchor, positive, near, torch.eye(5, dtype=torch.bool), 0.01)
            assert not wins.any()
        further = normalize(near - 1e-3 * anchor, dim=-1)
        assert info_nce(anchor, near, further, torch.eye(5, dtype=torch.bool), 0.01)[1].all()


@pytest.mark.parametrize("temperature", [0.01, 10.0])
def test_how_near_a_tie_is_does_not_depend_on_the_temperature(temperature):
    anchor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for gap, is_won in ((0.5e-5, False), (2e-5, True)):
        rival = torch.tensor([[0.8 - gap, 0.6]], dtype=torch.float64)
        _, wins = info_nce(anchor, torch.tensor([[0.8, 0.6]]).double(), rival, torch.ones(1, 1).bool(), temperature)
        assert bool(wins) == is_won


def test_in_clips_own_training_equal_captions_retrieve_nothing():
    image, text = (unit(4, 512, seed=seed).float() for seed in (0, 1))
    caption = torch.arange(4)
    same = text[:1].expand(4, -1) * (1 + 3e-7 * torch.arange(4)[:, None])
    assert contrastive_loss(image, same, torch.tensor(100.0), caption).parts["retrieval"] == 0
    assert contrastive_loss(text, text, torch.tensor(100.0), caption).parts["retrieval"] == 1
    assert contrastive_loss(image, same, torch.tensor(100.0), 0 * caption).parts["retrieval"] == 1, (
        "one caption for all"
    )


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data(), batch=st.integers(1, 4), num=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_the_order_of_negatives_does_not_matter_and_the_bound_holds(data, batch, num, seed):
    anchor, positive, negatives = unit(batch, 4, seed=seed), unit(batch, 4, seed=seed + 1), unit(num, 4, seed=seed + 2)
    own, is_negative, is_own = (
        unit(batch, num, 4, seed=seed + 3),
        some(batch, num, seed=seed),
        some(batch, num, seed=seed + 1),
    )
    temperature = data.draw(st.floats(0.02, 2.0))
    order, own_order = (torch.tensor(data.draw(st.permutations(range(num)))) for _ in range(2))
    nats, wins = info_nce(anchor, positive, negatives, is_negative, temperature, own, is_own)
    again, wins_again = info_nce(
        anchor, positive, negatives[order], is_negative[:, order], temperature, own[:, own_order], is_own[:, own_order]
    )
    torch.testing.assert_close(nats, again, rtol=1e-10, atol=1e-10)
    assert torch.equal(wins, wins_again)
    counted = is_negative.sum(1) + is_own.sum(1)
    assert (nats >= 0).all() and (nats <= (1 + counted).log() + 2 / temperature + 1e-9).all()


def test_the_gradient_pulls_to_the_positive_and_away_from_negatives():
    anchor, positive, negatives = (unit(4, 8, seed=seed) for seed in (0, 1, 2))
    anchor.requires_grad_()
    info_nce(anchor, positive, negatives, torch.ones(4, 4, dtype=torch.bool), 0.1)[0].sum().backward()
    step = anchor - 1e-3 * anchor.grad
    assert ((step * positive).sum(-1) - (anchor * positive).sum(-1)).min() > 0


def test_cosines_are_not_rounded_to_16_bits():
    anchor, positive, negatives = (unit(4, 64, seed=seed).float() for seed in (0, 1, 2))
    everyone = torch.ones(4, 4, dtype=torch.bool)
    expected = info_nce(anchor, positive, negatives, everyone, 0.01)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(anchor, positive, negatives, everyone, 0.01)[0], expected)


# ---------------------------------------------------------------------------------------------------------- its shares


@pytest.mark.parametrize("kind", ["mask", "leaky bridge"])
def test_shares_are_those_of_the_plain_formulas_by_autograd(kind):
    process, stream = worlds.kinds(5)[kind], torch.Generator().manual_seed(0)
    x0, source, wrong = (torch.randint(5, (3, 4), generator=stream) for _ in range(3))
    t = torch.tensor([0.3, 0.7, 1.0], dtype=torch.float64)
    x_t = process.sample(x0, t, source, stream)
    posterior = process.posterior(x_t, t - 0.2, t, source)
    leaf = torch.randn(3, 4, 5, generator=stream, dtype=torch.float64).requires_grad_()
    logits = leaf * 2.0  # in a graph, as a denoiser's are
    on_kl, on_ce = torch.rand(2, 3, 4, 2, generator=stream, dtype=torch.float64)
    log_p0 = logits.log_softmax(-1)
    terms = dict(
        bound=(on_kl[..., 0] * divergence(posterior, log_p0, x0)).sum(),
        auxiliary=(on_ce[..., 0] * auxiliary(log_p0, x0)).sum(),
        cdcd=(on_kl[..., 1] * divergence(posterior, log_p0, wrong) + on_ce[..., 1] * auxiliary(log_p0, wrong)).sum(),
        frame_text=0.1 * logits.square().sum(),
    )
    norms = {name: torch.autograd.grad(term, logits, retain_graph=True)[0].norm() for name, term in terms.items()}
    candidates = torch.stack([x0, wrong], -1)
    shares = gradient_shares(logits, posterior, candidates, on_kl, on_ce, {"frame_text": terms["frame_text"]})
    assert set(shares) == set(norms)
    for name, norm in norms.items():
        torch.testing.assert_close(shares[name], norm / sum(norms.values()), rtol=1e-9, atol=1e-12)
    assert float(sum(shares.values())) == pytest.approx(1)
    terms["frame_text"].backward()  # the graph was kept
    assert leaf.grad is not None


def test_no_gradient_at_all_has_no_shares():
    process = worlds.kinds(5)["mask"]
    x0 = torch.zeros(1, 2, dtype=torch.int64)
    posterior = process.posterior(torch.full_like(x0, 5), torch.zeros(1), torch.ones(1), x0)
    nothing = torch.zeros(1, 2, 1, dtype=torch.float64)
    shares = gradient_shares(torch.zeros(1, 2, 5), posterior, with_negatives(x0, ()), nothing, nothing, {})
    assert shares == {"bound": 0, "auxiliary": 0}
