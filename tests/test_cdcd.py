"""CDCD's loss against the numbers of upstream, against dense sums, and against exact likelihoods."""

import dataclasses
import itertools
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from chains import chain_of, numbers
from torch import Tensor
from worlds import World, exact_law, jumps, world

from cdcd_video.contrast.cdcd import CdcdLoss, CdcdWeights, Negatives, cdcd_loss
from cdcd_video.diffusion.posterior import Posterior
from cdcd_video.diffusion.process import DiscreteProcess
from cdcd_video.diffusion.upstream_quirks import RIGHT, UPSTREAM, Quirks
from cdcd_video.diffusion.vq_diffusion import MaskAndReplace, cdcd_chain

PLAIN = CdcdWeights()
MODES = {
    "none": (PLAIN, ()),
    "intra_step10": (PLAIN, ("intra step",)),
    "intra_sample10": (PLAIN, ("intra sample",)),
    "inter_step10": (PLAIN, ("inter step",)),
    "inter_sample10": (PLAIN, ("inter sample",)),
    "intra_step10_maskw": (CdcdWeights(masked=2.0, visible=0.5), ("intra step",)),
    "inter_sample10_nonadaptive": (CdcdWeights(auxiliary_time="flat", contrast_time="flat"), ("inter sample",)),
    "both_step_noaux": (CdcdWeights(auxiliary=0.0), ("intra step", "inter step")),
}
WORLDS = ("k50", "k2887")


class Given(NamedTuple):
    """The inputs of one of upstream's runs; the logits were half-precision numbers."""

    chain: MaskAndReplace
    posterior: Posterior
    logits: Tensor
    x0: Tensor
    s: Tensor
    p_t: Tensor
    negatives: dict[str, Tensor]
    out: dict[str, Tensor]

    def loss(self, mode: str, logits: Tensor, quirks: Quirks = UPSTREAM) -> CdcdLoss:
        weights, kinds = MODES[mode]
        groups = []
        for kind in kinds:
            place, level = kind.split()
            groups.append(Negatives(self.negatives[place], {"intra": 5e-5, "inter": 5e-6}[place], level))
        return cdcd_loss(self.posterior, logits, self.x0, self.s, self.p_t, weights, tuple(groups), quirks)


@pytest.fixture(scope="module", params=WORLDS)
def given(request, shared_dir: Path) -> Given:
    stored = numbers(shared_dir, f"loss_{request.param}")
    chain = cdcd_chain(int(stored["in.K"]), int(stored["in.T"]))
    x0, x_t, step = (stored[f"in.{name}"].long() for name in ("x0", "xt", "t"))
    s, t = step.double() / chain.num_steps, (step + 1).double() / chain.num_steps
    negatives = {place: stored[f"in.neg_{place}"].long() for place in ("intra", "inter")}
    out = {name.removeprefix("out."): value for name, value in stored.items()}
    posterior = chain.posterior(x_t, s, t, x0)
    return Given(chain, posterior, stored["in.logits"], x0, s, stored["in.pt"], negatives, out)


# --------------------------------------------------------------------------------------------------- upstream's numbers


@pytest.mark.shared
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_values_and_gradient_are_upstreams(given: Given, mode: str, dtype: torch.dtype, tolerance: float):
    """Against upstream in float64, whose share of replaced codes has eight digits: that is most of our error there."""
    logits = given.logits.to(dtype).requires_grad_()
    ours = given.loss(mode, logits)
    assert ours.total.dtype == dtype and ours.per_sample.dtype == torch.float64
    torch.testing.assert_close(ours.per_sample, given.out[f"{mode}.vb_loss_f64"], rtol=tolerance, atol=0)
    torch.testing.assert_close(ours.total.double(), given.out[f"{mode}.loss_f64"], rtol=tolerance, atol=0)
    expected = given.out.get(f"{mode}.grad_logits_f64")
    if expected is not None:
        (gradient,) = torch.autograd.grad(ours.total, logits)
        # Worked out in float64 and stored in float32: half its last bit is 6e-8 of the largest entry.
        limit = (1e-7 if dtype == torch.float64 else 1e-5) * float(expected.abs().max())
        torch.testing.assert_close(gradient.double(), expected.double(), rtol=0, atol=limit)


@pytest.mark.shared
def test_at_least_one_gradient_is_stored_of_each_world(given: Given):
    assert "intra_step10.grad_logits_f64" in given.out


@pytest.mark.shared
def test_the_terms_of_each_token_are_upstreams(given: Given):
    """At the first step, s = 0, our KL is the decoder's -log p(x_0 | x_t); upstream has that apart, at every step."""
    ours = given.loss("none", given.logits.double())
    is_first = (given.s == 0.0)[:, None]
    kl = torch.where(is_first, given.out["token_decoder_nll_f64"], given.out["token_kl_f64"])
    torch.testing.assert_close(ours.kl[..., 0], kl, rtol=1e-8, atol=2e-9)
    torch.testing.assert_close(ours.cross_entropy[..., 0], given.out["token_ce_f64"], rtol=1e-12, atol=1e-12)
    log_p = given.posterior.log_reverse(given.logits.double().log_softmax(-1))
    decoder = -log_p.gather(-1, given.x0.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(decoder, given.out["token_decoder_nll_f64"], rtol=1e-8, atol=1e-8)


@pytest.mark.shared
@pytest.mark.parametrize("place", ["intra", "inter"])
def test_the_sums_of_each_negative_are_upstreams(given: Given, place: str):
    ours = given.loss(f"{place}_step10", given.logits.double())
    is_first = (given.s == 0.0)[:, None]
    kl, ce, decoder = (given.out[f"neg_{place}_{name}_f64"] for name in ("kl", "ce", "decoder_nll"))
    # The planted replaced tokens are a larger part here than of the loss: their KL hangs on upstream's eight digits.
    torch.testing.assert_close(ours.kl[..., 1:].sum(1), torch.where(is_first, decoder, kl), rtol=3e-9, atol=0)
    torch.testing.assert_close(ours.cross_entropy[..., 1:].sum(1), ce, rtol=1e-9, atol=0)


@pytest.mark.shared
def test_what_the_first_step_is_weighed_by(given: Given):
    """`first_step_unweighted`, off: the tokens' weights count there as well. All other steps are as they were."""
    upstream, right = (
        given.loss("intra_step10_maskw", given.logits.double(), dataclasses.replace(UPSTREAM, first_step_unweighted=on))
        for on in (True, False)
    )
    assert torch.equal(upstream.per_sample[given.s > 0], right.per_sample[given.s > 0])
    is_masked = given.posterior.x_t == given.posterior.num_codes
    weight = torch.where(is_masked, 2.0, 0.5)
    nats = right.kl[..., 0] + 5e-4 * 2.0 * right.cross_entropy[..., 0] - 5e-5 * right.kl[..., 1:].mean(-1)
    for row in (given.s == 0).nonzero().flatten().tolist():
        for loss, each in ((upstream, torch.ones_like(weight)), (right, weight)):
            expected = (each[row] * nats[row]).sum() / given.p_t[row]
            assert float(loss.per_sample[row]) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.shared
def test_what_pushing_the_truth_away_adds(given: Given):
    """`punish_truth`, off: a negative's tokens that hold the true code are left out, and none are pushed but those."""
    upstream, right = (
        given.loss("intra_step10", given.logits.double(), dataclasses.replace(UPSTREAM, punish_truth=on))
        for on in (True, False)
    )
    is_true = (given.negatives["intra"] == given.x0.unsqueeze(1)).transpose(1, 2)
    assert 0.05 < is_true.double().mean() < 0.25  # one token in eight
    pushed = 5e-5 * (1.0 + given.s) * (right.kl[..., 1:] * is_true).sum((1, 2)) / 10 / given.p_t
    assert (pushed > 0).all()
    torch.testing.assert_close(right.per_sample - upstream.per_sample, pushed, rtol=1e-6, atol=0)


# -------------------------------------------------------------------------------------------------------- dense sums

K, S = 6, 8


class Case(NamedTuple):
    """The arguments of `cdcd_loss` before its weights, and what they were made from."""

    chain: DiscreteProcess
    posterior: Posterior
    logits: Tensor
    x0: Tensor
    s: Tensor
    p_t: Tensor

    def loss(self, weights: CdcdWeights, *negatives: Negatives, quirks: Quirks = RIGHT) -> CdcdLoss:
        return cdcd_loss(*self[1:], weights, negatives, quirks)

    def codes(self, num: int, seed: int = 7) -> Tensor:
        size, num_tokens = self.x0.shape
        return torch.randint(K, (size, num, num_tokens), generator=torch.Generator().manual_seed(seed))


def case(name: str = "much replaced", size: int = 5, num_tokens: int = 9) -> Case:
    """One sample at the first step, one at the last, and others between them."""
    chain, generator = chain_of(name, K, S), torch.Generator().manual_seed(0)
    x0 = torch.randint(K, (size, num_tokens), generator=generator)
    earlier = torch.randint(S, (size,), generator=generator)
    earlier[:2] = torch.tensor([0, S - 1])
    s, t = earlier.double() / S, (earlier + 1).double() / S
    posterior = chain.posterior(chain.sample(x0, t, x0, generator), s, t, x0)
    logits = torch.randn(size, num_tokens, K, generator=generator, dtype=torch.float64).mul(2)
    return Case(chain, posterior, logits, x0, s, 0.1 + torch.rand(size, generator=generator))


def dense(given: Case, weights: CdcdWeights, *negatives: Negatives, quirks: Quirks = RIGHT) -> Tensor:
    """(B,): the same from (K+1)-wide laws, candidate after candidate, as the formula is written."""
    log_p0 = given.logits.log_softmax(-1)
    log_p = given.posterior.log_reverse(log_p0)

    def divergence(codes):
        q = given.posterior.log_posterior(codes).exp()
        return (torch.xlogy(q, q) - torch.where(q > 0, q * log_p, 0.0)).sum(-1)

    def cross_entropy(codes):
        return -log_p0.gather(-1, codes.unsqueeze(-1)).squeeze(-1)

    s = given.s.unsqueeze(-1)
    over_time = {"falling": 2.0 - s, "rising": 1.0 + s, "flat": 1.0}
    nats = divergence(given.x0)
    nats = nats + weights.auxiliary * over_time[weights.auxiliary_time] * cross_entropy(given.x0)
    for group in negatives:
        pushed = torch.zeros_like(nats)
        for codes in group.codes.unbind(1):
            away = (divergence if group.mode == "step" else cross_entropy)(codes)
            pushed = pushed + torch.where((codes != given.x0) | quirks.punish_truth, away, 0.0)
        nats = nats - over_time[weights.contrast_time] * group.weight * pushed / group.codes.shape[1]
    seen = torch.where(given.posterior.x_t == K, weights.masked, weights.visible)
    seen = torch.where((s == 0.0) & quirks.first_step_unweighted, 1.0, seen)
    return (seen * nats).sum(-1) / given.p_t


@pytest.mark.sweep
@pytest.mark.parametrize("quirks", [RIGHT, UPSTREAM], ids=["right", "upstream"])
@pytest.mark.parametrize("modes", list(itertools.product(["step", "sample"], repeat=2)), ids=" ".join)
@pytest.mark.parametrize("name", ["cdcd", "much replaced", "replace"])
def test_two_groups_are_the_dense_sum(name, modes, quirks):
    made = case(name)
    weights = CdcdWeights(0.3, "rising", "flat", masked=1.7, visible=0.6)
    groups = [
        Negatives(made.codes(num, num), weight, mode)
        for num, weight, mode in zip((4, 3), (0.5, 0.2), modes, strict=True)
    ]
    leaf = made.logits.clone().requires_grad_()
    ours = made._replace(logits=leaf).loss(weights, *groups, quirks=quirks)
    expected = dense(made._replace(logits=leaf), weights, *groups, quirks=quirks)
    torch.testing.assert_close(ours.per_sample, expected.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.total, expected.detach().sum() / made.x0.numel(), rtol=1e-10, atol=1e-10)
    (gradient,), (dense_gradient,) = (
        torch.autograd.grad(total, leaf) for total in (ours.total, expected.sum() / made.x0.numel())
    )
    torch.testing.assert_close(gradient, dense_gradient, rtol=0, atol=1e-10 * float(dense_gradient.abs().max()))


@pytest.mark.sweep
@pytest.mark.parametrize("mode", ["step", "sample"])
@pytest.mark.parametrize("num", [1, 3, 9, 10, 100])
def test_there_may_be_any_number_of_negatives(num, mode):
    made = case()
    negatives = Negatives(made.codes(num), 0.4, mode)
    ours = made.loss(PLAIN, negatives)
    assert ours.kl.shape == ours.cross_entropy.shape == (*made.x0.shape, 1 + num)
    torch.testing.assert_close(ours.per_sample, dense(made, PLAIN, negatives), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", ["step", "sample"])
def test_neither_the_order_of_negatives_nor_that_of_groups_matters(mode):
    made = case()
    codes, other = made.codes(6), Negatives(made.codes(3, 1), 0.1, "sample")
    first = made.loss(PLAIN, Negatives(codes, 0.4, mode), other)
    second = made.loss(PLAIN, other, Negatives(codes[:, [5, 2, 0, 1, 4, 3]], 0.4, mode))
    torch.testing.assert_close(first.total, second.total, rtol=1e-13, atol=0)
    torch.testing.assert_close(first.per_sample, second.per_sample, rtol=1e-13, atol=0)


@pytest.mark.parametrize("mode", ["step", "sample"])
def test_no_weight_is_no_negatives(mode):
    made = case()
    leaves = [made.logits.clone().requires_grad_() for _ in range(2)]
    none = made._replace(logits=leaves[0]).loss(PLAIN)
    weightless = made._replace(logits=leaves[1]).loss(PLAIN, Negatives(made.codes(4), 0.0, mode))
    torch.testing.assert_close(none.per_sample, weightless.per_sample, rtol=1e-14, atol=0)
    gradients = [
        torch.autograd.grad(loss.total, leaf)[0] for loss, leaf in zip((none, weightless), leaves, strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-16)


def test_a_negative_that_is_the_truth_is_no_negative():
    made = case()
    truth = Negatives(made.x0.unsqueeze(1).expand(-1, 3, -1), 0.4, "step")
    assert torch.equal(made.loss(PLAIN, truth).per_sample, made.loss(PLAIN).per_sample)
    punished = made.loss(PLAIN, truth, quirks=Quirks(punish_truth=True)).per_sample
    plain = made.loss(CdcdWeights(auxiliary=0.0)).per_sample
    difference = made.loss(PLAIN).per_sample - punished
    torch.testing.assert_close(difference, 0.4 * (1.0 + made.s) * plain, rtol=1e-10, atol=1e-12)


def test_time_weights_rise_and_fall():
    """a(s) and c(s) by the differences that they make: 2 - s, 1 + s and 1, where s is the earlier time."""
    made = case()
    negatives = Negatives(made.codes(4), 0.4, "step")
    bare = made.loss(CdcdWeights(auxiliary=0.0)).per_sample
    auxiliary = {
        kind: made.loss(CdcdWeights(auxiliary=0.3, auxiliary_time=kind)).per_sample - bare
        for kind in ("flat", "falling", "rising")
    }
    contrast = {
        kind: made.loss(CdcdWeights(auxiliary=0.0, contrast_time=kind), negatives).per_sample - bare
        for kind in ("flat", "rising")
    }
    torch.testing.assert_close(auxiliary["falling"], (2.0 - made.s) * auxiliary["flat"])
    torch.testing.assert_close(auxiliary["rising"], (1.0 + made.s) * auxiliary["flat"])
    torch.testing.assert_close(contrast["rising"], (1.0 + made.s) * contrast["flat"])
    assert (auxiliary["flat"] > 0).all() and (contrast["flat"] < 0).all()


def test_the_loss_is_in_nats_per_token_and_an_unlikely_step_counts_for_more():
    made = case()
    loss = made.loss(PLAIN)
    torch.testing.assert_close(loss.total, loss.per_sample.sum() / made.x0.numel())
    torch.testing.assert_close(made._replace(p_t=made.p_t / 4).loss(PLAIN).per_sample, 4 * loss.per_sample)


# ---------------------------------------------------------------------------------------------------- exact likelihoods


class Mistaken(World):
    """The same world, shown through a model that has learned nothing of it."""

    def log_posterior(self, process: DiscreteProcess, x_t: Tensor, t: Tensor) -> Tensor:
        phase = (
            x_t.unsqueeze(-1) + 2.0 * x_t.flip(-1).unsqueeze(-1) + torch.arange(self.num_codes) + 3.0 * t[:, None, None]
        )
        return (2.0 * torch.sin(phase)).log_softmax(-1)


def closed(name: str, num_codes: int, num_steps: int) -> MaskAndReplace:
    """The chain with all masked at time 1, so that the walk's start is the chain's own end.

    Upstream's constants leave 1e-5 there, and a bound needs one term more, which is infinite: the walk starts from
    [MASK] alone. See `test_upstreams_start_is_worth_a_ten_thousandth_of_a_nat`.
    """
    chain = chain_of(name, num_codes, num_steps)
    last = torch.ones_like(chain.kept)
    last[-1] = 0.0
    return dataclasses.replace(chain, kept=chain.kept * last, uniform=chain.uniform * last)


def exact_loss(tiny: World, chain: MaskAndReplace) -> Tensor:
    """(K ** N,): the loss without auxiliary term and negatives of every state, summed over all steps and all x_t."""
    num_states, num_tokens = tiny.states.shape
    seen = torch.cartesian_prod(*[torch.arange(tiny.num_codes + 1)] * num_tokens).view(-1, num_tokens)
    x0, x_t = tiny.states.repeat_interleave(len(seen), 0), seen.repeat(num_states, 1)
    total = torch.zeros(num_states, dtype=torch.float64)
    for i in range(chain.num_steps):
        s, t = (torch.full((len(x0),), time / chain.num_steps, dtype=torch.float64) for time in (i, i + 1))
        weight = chain.log_marginal(x0, t, x0).gather(-1, x_t.unsqueeze(-1)).sum((1, 2)).exp()
        logits = tiny.log_posterior(chain, x_t, t).clamp(min=-700.0)
        loss = cdcd_loss(chain.posterior(x_t, s, t, x0), logits, x0, s, torch.ones(len(x0)), CdcdWeights(auxiliary=0.0))
        total += torch.where(weight > 0, weight * loss.per_sample, 0.0).view(num_states, -1).sum(-1)
    return total


NAMES = ("cdcd", "much replaced", "never replaced")


@pytest.mark.parametrize("name", NAMES)
def test_for_one_token_the_perfect_denoiser_makes_the_bound_exact(name):
    tiny = world(4, 1)
    for num_steps in (2, 3, 7):
        torch.testing.assert_close(exact_loss(tiny, closed(name, 4, num_steps)), -tiny.p.log(), rtol=0, atol=1e-9)


@pytest.mark.sweep
@pytest.mark.parametrize("kind", [World, Mistaken])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_at_least_the_exact_negative_log_likelihood(name, kind):
    """Of every state, under the law that the walk draws from, worked out by multiplying its kernels over frames."""
    pair = world(3, 2)
    pair = kind(pair.num_codes, pair.p, pair.source)
    for num_steps in (3, 6):
        chain = closed(name, 3, num_steps)
        law = exact_law(pair, chain, jumps(i / num_steps for i in range(num_steps, -1, -1)))
        assert float(law.sum()) == pytest.approx(1.0, abs=1e-10)
        bound = exact_loss(pair, chain)
        torch.testing.assert_close(bound, pair.exact_bound(chain, num_steps), rtol=1e-9, atol=1e-9)
        assert (bound > -law.log() + 1e-6).all()
        assert float((pair.p * (bound + pair.p.log())).sum()) > 0.01  # and so it is above the data's own entropy


def test_upstreams_start_is_worth_a_ten_thousandth_of_a_nat():
    """One token: the sum falls short of -log p by what x_1 tells of x_0, since one code in 100,000 is not masked."""
    tiny = world(4, 1)
    shortfall = -tiny.p.log() - exact_loss(tiny, cdcd_chain(4, 20))
    assert (shortfall > 1e-6).all() and (shortfall < 1e-4).all()
