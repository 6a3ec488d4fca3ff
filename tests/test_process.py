"""The forward process against transition matrices written out from its definition."""

import dataclasses
import itertools

import pytest
import torch
from worlds import KINDS, chi_square_p_value, kinds, log_posterior, log_reverse, prior, sample_reverse, transition

from cdcd_video.diffusion import process as processes
from cdcd_video.diffusion.process import InterpolatingProcess
from cdcd_video.diffusion.schedule import SCHEDULES, sample_times

pytestmark = pytest.mark.sweep  # over kinds and schedules

K = 4
TIMES = (0.0, 0.2, 0.45, 0.8, 1.0)
PAIRS = tuple(itertools.combinations(TIMES, 2))


def every_case(*ranges: int) -> list[torch.Tensor]:
    """All combinations, as columns of shape (B, 1)."""
    return list(torch.cartesian_prod(*[torch.arange(size) for size in ranges]).unsqueeze(-1).unbind(1))


def at(time: float, like: torch.Tensor) -> torch.Tensor:
    return torch.full((len(like),), time, dtype=torch.float64)


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-13)


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(params=SCHEDULES)
def process(request, kind: str) -> InterpolatingProcess:
    return kinds(K, SCHEDULES[request.param])[kind]


def test_the_marginal_is_the_product_of_the_steps(process):
    x0, source = every_case(K, K + 1)
    product = torch.eye(K + 1, dtype=torch.float64)
    for s, t in itertools.pairwise(TIMES):
        product = product @ transition(process, s, t, source[:, 0])
        expected = product[torch.arange(len(x0)), x0[:, 0]]
        close(process.log_marginal(x0, at(t, x0), source)[:, 0].exp(), expected)


def test_steps_compose(process):
    source = torch.arange(K + 1)
    for s, t in PAIRS:
        composed = transition(process, 0.0, s, source) @ transition(process, s, t, source)
        close(composed, transition(process, 0.0, t, source))


def test_the_posterior_is_bayes_on_the_matrices(process):
    x0, x_t, source = every_case(K, K + 1, K + 1)
    row = torch.arange(len(x0))
    for s, t in PAIRS:
        q = log_posterior(process, x0, x_t, at(s, x0), at(t, x0), source)[:, 0].exp()
        close(q.sum(-1), torch.ones_like(q[:, 0]))
        joint = transition(process, 0.0, s, source[:, 0])[row, x0[:, 0]]
        joint = joint * transition(process, s, t, source[:, 0])[row, :, x_t[:, 0]]
        total = joint.sum(-1, keepdim=True)
        possible = total[:, 0] > 0  # x_t may not be able to come from x0; that case has its own test
        assert torch.equal(possible, ~process.posterior(x_t, at(s, x0), at(t, x0), source).is_impossible(x0)[:, 0])
        close(q[possible], (joint / total)[possible])


def test_the_distribution_of_an_earlier_code_is_the_enumerated_mixture_without_its_mask(process):
    """sum_j q(x_s | x_t, x_0 = j) p(x_0 = j), by Bayes on the matrices; its gradient by autograd through that sum."""
    x_t, source = every_case(K + 1, K + 1)
    row, generator = torch.arange(len(x_t)), torch.Generator().manual_seed(3)
    logits = torch.randn(len(x_t), 1, K, generator=generator, dtype=torch.float64).mul_(2).requires_grad_()
    for s, t in PAIRS:
        p0 = logits.softmax(-1)
        joint = transition(process, 0.0, s, source[:, 0])[:, :K]  # (B, x_0, x_s), and below for this x_t
        joint = joint * transition(process, s, t, source[:, 0])[row, :, x_t[:, 0]].unsqueeze(1)
        total = joint.sum(-1, keepdim=True)
        step = process.posterior(x_t, at(s, x_t), at(t, x_t), source)
        # A code that no redraw can give was never redrawn, whatever is said of x_0.
        posterior = torch.where(total > 0, joint / total, torch.eye(K + 1, dtype=torch.float64)[x_t])
        expected = torch.einsum("bj,bjs->bs", p0[:, 0], posterior)[:, :K]
        expected = expected / expected.sum(-1, keepdim=True)
        possible = (total > 0).any(1)[:, 0]
        distribution = step.code_distribution(p0)[:, 0]
        close(distribution[possible], expected[possible])
        close(distribution.sum(-1), torch.ones_like(distribution[:, 0]))
        close(distribution.detach(), step.log_reverse(p0.detach().log())[:, 0, :K].softmax(-1))
        upstream = torch.randn(distribution.shape, generator=generator, dtype=torch.float64) * possible[:, None]
        sums = (distribution * upstream).sum(), (expected * upstream).sum()
        ours, theirs = (torch.autograd.grad(one, logits, retain_graph=True)[0] for one in sums)
        torch.testing.assert_close(ours[possible], theirs[possible], rtol=1e-10, atol=1e-12)
        part = step.head(3)
        assert torch.equal(part.code_distribution(p0[:3]), step.code_distribution(p0)[:3]) and part.num_codes == K


def test_in_mask_diffusion_a_hidden_token_follows_the_model_and_a_visible_one_itself():
    x_t = torch.tensor([[0, K, 3, K]])
    p0 = torch.rand(1, 4, K, generator=torch.Generator().manual_seed(0)).softmax(-1)
    process, ends = kinds(K)["mask"], (torch.tensor([0.25]), torch.tensor([0.5]))
    distribution = process.posterior(x_t, *ends, torch.zeros_like(x_t)).code_distribution(p0)
    torch.testing.assert_close(distribution[0, 1::2], p0[0, 1::2])
    assert torch.equal(distribution[0, ::2], torch.nn.functional.one_hot(x_t[0, ::2], K).float())


def test_the_reverse_step_is_the_posterior_summed_over_x0(process):
    x_t, source = every_case(K + 1, K + 1)
    row = torch.arange(len(x_t))
    generator = torch.Generator().manual_seed(1)
    log_p0 = torch.randn(len(x_t), 1, K, generator=generator, dtype=torch.float64).mul(2).log_softmax(-1)
    for s, t in PAIRS:
        joint = transition(process, 0.0, s, source[:, 0])[:, :K]  # (B, x_0, x_s), and below for this x_t
        joint = joint * transition(process, s, t, source[:, 0])[row, :, x_t[:, 0]].unsqueeze(1)
        total = joint.sum(-1, keepdim=True)
        p0 = log_p0[:, 0].exp() * (total[..., 0] > 0)
        expected = (torch.where(total > 0, joint / total, 0.0) * p0.unsqueeze(-1)).sum(1) / p0.sum(-1, keepdim=True)
        possible = p0.sum(-1) > 0
        p = log_reverse(process, log_p0, x_t, at(s, x_t), at(t, x_t), source)[:, 0].exp()
        close(p.sum(-1), torch.ones_like(p[:, 0]))
        close(p[possible], expected[possible])


def test_the_reverse_step_survives_certainty_and_has_gradients(process):
    x_t, source = every_case(K + 1, K + 1)
    for s, t in PAIRS:
        logits = torch.zeros(len(x_t), 1, K)
        logits[..., 0] = 1e4
        logits.requires_grad_()
        log_p = log_reverse(process, logits.log_softmax(-1), x_t, at(s, x_t), at(t, x_t), source)
        torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(len(x_t), 1))
        (gradient,) = torch.autograd.grad(log_p.exp().square().sum(), logits)
        assert gradient.isfinite().all()


def test_s_0_is_x0_itself(process):
    x0, x_t, source = every_case(K, K + 1, K + 1)
    log_q = log_posterior(process, x0, x_t, at(0.0, x0), at(0.7, x0), source)
    possible = ~process.posterior(x_t, at(0.0, x0), at(0.7, x0), source).is_impossible(x0)
    assert (log_q.argmax(-1) == x0)[possible].all()
    assert (log_q.max(-1).values == 0)[possible].all()
    assert (log_q[..., K] == -torch.inf).all()


def test_at_time_1_the_data_is_gone(process):
    x0, source = every_case(K, K + 1)
    first, other = (process.log_marginal(code, at(1.0, x0), source) for code in (x0, (x0 + 1) % K))
    assert torch.equal(first, other)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert torch.equal(prior(process, source, generators[0]), process.sample(x0, at(1.0, x0), source, generators[1]))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_uniform_share_makes_replace_and_mask_one(schedule):
    assert processes.replace(K, 0.0, SCHEDULES[schedule]) == processes.mask(K, SCHEDULES[schedule])


def test_a_bridge_from_an_empty_frame_is_mask_diffusion():
    x0, x_t = every_case(K, K + 1)
    empty = torch.full_like(x0, K)
    mask, bridge = processes.mask(K), processes.bridge(K)
    log_p0 = torch.randn(len(x0), 1, K, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    draws = [
        (
            process.sample(x0, at(0.6, x0), empty, torch.Generator().manual_seed(5)),
            sample_reverse(process, log_p0, x_t, at(0.3, x0), at(0.6, x0), empty, torch.Generator().manual_seed(5)),
        )
        for process in (mask, bridge)
    ]
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    for s, t in PAIRS:
        arguments = (x_t, at(s, x0), at(t, x0), empty)
        assert torch.equal(log_posterior(mask, x0, *arguments), log_posterior(bridge, x0, *arguments))
        assert torch.equal(log_reverse(mask, log_p0, *arguments), log_reverse(bridge, log_p0, *arguments))


def test_a_code_that_no_redraw_gives_is_carried_over():
    bridge = processes.bridge(K)
    x_t, source = torch.tensor([[2]]), torch.tensor([[0]])
    log_p0 = torch.tensor([[[0.0, -torch.inf, -torch.inf, -torch.inf]]])  # a model that is sure, and wrong
    arguments = (x_t, torch.tensor([0.3]), torch.tensor([0.6]), source)
    assert log_reverse(bridge, log_p0, *arguments)[0, 0].tolist() == [-torch.inf, -torch.inf, 0, -torch.inf, -torch.inf]
    assert sample_reverse(bridge, log_p0, *arguments, torch.Generator()).item() == 2


def test_an_impossible_code_has_no_information_and_is_lost():
    bridge = processes.bridge(K)
    x_t, source = torch.full((1, 2000), K), torch.zeros(1, 2000, dtype=torch.int64)
    log_p0 = torch.full((1, 2000, K), 1 / K).log()
    arguments = (x_t, torch.tensor([0.0]), torch.tensor([0.5]), source)
    x_0 = sample_reverse(bridge, log_p0, *arguments, torch.Generator().manual_seed(0))
    assert chi_square_p_value(x_0.flatten().bincount(minlength=K + 1), torch.tensor([0.25] * 4 + [0.0])) > 1e-4
    row = log_posterior(bridge, torch.ones_like(x_t), *arguments)[0, 0]
    assert row.exp().tolist() == [0, 1, 0, 0, 0]


def test_samples_follow_the_distributions(process):
    """20,000 draws of each law; a law off by 0.02 in one entry of 0.25 would have p < 1e-9."""
    count = 20_000
    generator = torch.Generator().manual_seed(11)
    p0 = torch.tensor([0.1, 0.2, 0.3, 0.4])
    log_p0 = p0.log().expand(1, count, K)
    p_values = []
    for x0, x_t, source in ((0, 0, 1), (0, 1, 1), (2, K, 3), (1, 2, 2), (3, 3, 3), (1, K, K)):
        a, b, c = (torch.full((1, count), code) for code in (x0, x_t, source))
        s, t = torch.tensor([0.35]), torch.tensor([0.75])
        drawn = process.sample(a, t, c, generator).flatten().bincount(minlength=K + 1)
        p_values.append(chi_square_p_value(drawn, process.log_marginal(a, t, c)[0, 0].exp()))
        drawn = sample_reverse(process, log_p0, b, s, t, c, generator).flatten().bincount(minlength=K + 1)
        p_values.append(chi_square_p_value(drawn, log_reverse(process, log_p0.double(), b, s, t, c)[0, 0].exp()))
    assert min(p_values) > 1e-4  # 12 laws x 12 parameters: a false alarm about once in 70 seeds, and the seed is fixed


def test_a_posterior_over_many_steps_is_those_of_single_steps_chained(process):
    """Exact skipping: the jump 0.8 -> 0.2 is 0.8 -> 0.45 and then 0.45 -> 0.2, given x_0."""
    x0, x_t, source = every_case(K, K + 1, K + 1)
    long = log_posterior(process, x0, x_t, at(0.2, x0), at(0.8, x0), source).exp()
    half = log_posterior(process, x0, x_t, at(0.45, x0), at(0.8, x0), source).exp()
    rest = torch.stack(
        [
            log_posterior(process, x0, torch.full_like(x0, code), at(0.2, x0), at(0.45, x0), source).exp()
            for code in range(K + 1)
        ],
        -2,
    )
    possible = ~process.posterior(x_t, at(0.2, x0), at(0.8, x0), source).is_impossible(x0)
    torch.testing.assert_close((half.unsqueeze(-2) @ rest).squeeze(-2)[possible], long[possible], rtol=0, atol=1e-13)


def test_time_must_go_back():
    x = torch.zeros(1, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="s must be below t"):
        processes.mask(K).posterior(x, torch.tensor([0.5]), torch.tensor([0.5]), x)


def test_shares_must_sum_to_1():
    with pytest.raises(ValueError, match="shares"):
        processes.hybrid(K, 0.8, 0.3)
    assert processes.hybrid(K, 0.1, 0.9).source == 0.0  # though 1 - 0.9 - 0.1 is not 0 in floating point
    assert dataclasses.replace(processes.mask(K), mask=0.5, source=0.5).source == 0.5


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_falls_from_1_to_0_exactly(schedule):
    alpha = schedule(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert alpha[0] == 1.0 and alpha[-1] == 0.0
    assert (alpha[1:] < alpha[:-1]).all()


def test_times_are_spread_evenly_over_the_chain():
    times = sample_times(64, 32, torch.Generator().manual_seed(0))
    assert times.index.bincount(minlength=33).tolist() == [0] + [2] * 32
    assert (times.weight == 1).all()
    s, t = times.spans(32)
    torch.testing.assert_close(t - s, torch.full_like(t, 1 / 32))
    assert s.min() == 0 and t.max() == 1


@pytest.mark.parametrize("full_share", [0.0, 0.125, 0.5])
def test_importance_weights_keep_the_bound_unbiased(full_share):
    num_steps, batch = 8, 4096
    times = sample_times(batch, num_steps, torch.Generator().manual_seed(2), full_share)
    share = (times.index == num_steps).double().mean().item()
    assert share == pytest.approx(full_share + (1 - full_share) / num_steps, abs=2 / batch)
    losses = torch.linspace(3.0, 0.5, num_steps).square()
    estimate = (num_steps * times.weight * losses[times.index - 1]).mean()
    assert estimate.item() == pytest.approx(losses.sum().item(), rel=5e-3)
    assert times.weight.mean().item() == pytest.approx(1.0, abs=5e-3)


def test_each_sample_alone_has_every_step():
    generator = torch.Generator().manual_seed(0)
    first = torch.stack([sample_times(16, 5, generator).index[0] for _ in range(2000)])
    assert chi_square_p_value(first.bincount(minlength=6)[1:], torch.full((5,), 0.2)) > 1e-4


@pytest.mark.parametrize("num_steps, full_share", [(0, 0.0), (4, 1.0), (4, -0.1)])
def test_a_chain_without_steps_is_refused(num_steps, full_share):
    with pytest.raises(ValueError):
        sample_times(4, num_steps, torch.Generator(), full_share)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_reverse_step_of_16_bit_predictions_is_worked_out_in_float32(kind, dtype):
    process = kinds(K)[kind]
    x0, source = every_case(K, K)
    t = at(0.8, x0)
    x_t = process.sample(x0, t, source, torch.Generator().manual_seed(0))
    log_p0 = torch.randn(len(x0), 1, K, generator=torch.Generator().manual_seed(1)).log_softmax(-1).to(dtype)
    posterior = process.posterior(x_t, at(0.45, x0), t, source)
    ours = posterior.log_reverse(log_p0)
    assert ours.dtype == torch.float32 and torch.equal(ours, posterior.log_reverse(log_p0.float()))
