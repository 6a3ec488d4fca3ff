"""The bound in index space against dense sums over explicit transition matrices, and against exact likelihoods."""

import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from worlds import KINDS, kinds, transition, world

from cdcd_video.diffusion import process as processes
from cdcd_video.diffusion.loss_reference import auxiliary, chain_bound, variational_bound
from cdcd_video.diffusion.schedule import SCHEDULES

K = 5
STEPS = 6


def batch(process, num_codes=K, size=64, num_tokens=3, num_steps=STEPS, seed=0, dtype=torch.float64):
    """Logits, then the arguments of the bound: random, with coincidences of x_0, x_t and source in plenty."""
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.randint(num_codes, (size, num_tokens), generator=generator)
    source = torch.randint(num_codes + 1, (size, num_tokens), generator=generator)
    later = torch.randint(1, num_steps + 1, (size,), generator=generator)
    earlier = (torch.rand(size, generator=generator) * later).long()
    t, s = later.double() / num_steps, earlier.double() / num_steps
    x_t = process.sample(x0, t, source, generator)
    logits = torch.randn(size, num_tokens, num_codes, generator=generator, dtype=dtype)
    return logits, (x0, x_t, s, t, source)


def dense_bound(process, log_p0, x0, x_t, s, t, source):
    """The same divergence the plain way: (K+1)-wide q and p from the matrices, x_0 summed out."""
    rows = []
    num_codes = process.num_codes
    for b in range(len(x0)):
        start = transition(process, 0.0, s[b].item(), source[b])[:, :num_codes]
        step = transition(process, s[b].item(), t[b].item(), source[b])
        joint = start * step[torch.arange(x0.shape[1]), :, x_t[b]].unsqueeze(-2)  # (N, x_0, x_s)
        total = joint.sum(-1, keepdim=True)
        posterior = torch.where(total > 0, joint / total, 0.0)
        q = posterior[torch.arange(x0.shape[1]), x0[b]]
        p0 = log_p0[b].exp() * (total[..., 0] > 0)
        p = torch.einsum("nk,nkj->nj", p0 / p0.sum(-1, keepdim=True), posterior)
        terms = q * (q.clamp(min=1e-300).log() - torch.where(q > 0, p, 1.0).log())
        rows.append(terms.sum(-1))
    return torch.stack(rows)


@pytest.mark.sweep
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_the_dense_sum(kind, schedule):
    process = kinds(K, SCHEDULES[schedule])[kind]
    logits, arguments = batch(process, size=200)
    weight = torch.linspace(0.5, 2.0, logits[..., 0].numel(), dtype=torch.float64).view(logits.shape[:-1])
    results = []
    for bound in (variational_bound, dense_bound):
        leaf = (3 * logits).requires_grad_()
        nats = bound(process, leaf.log_softmax(-1), *arguments)
        results.append((nats.detach(), *torch.autograd.grad((weight * nats).sum(), leaf)))
    (ours, our_gradient), (dense, dense_gradient) = results
    assert dense.max() > 0.5 and dense_gradient.abs().max() > 0.1
    torch.testing.assert_close(ours, dense, rtol=0, atol=1e-10)
    torch.testing.assert_close(our_gradient, dense_gradient, rtol=0, atol=1e-10)


@pytest.mark.sweep
@pytest.mark.parametrize("num_codes", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_few_codes_are_no_special_case(kind, num_codes):
    process = kinds(num_codes)[kind]
    logits, arguments = batch(process, num_codes=num_codes)
    log_p0 = logits.log_softmax(-1)
    ours, dense = variational_bound(process, log_p0, *arguments), dense_bound(process, log_p0, *arguments)
    torch.testing.assert_close(ours, dense, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_near_float64(kind):
    process = kinds(240)[kind]
    logits, arguments = batch(process, num_codes=240, num_steps=100)
    wide = variational_bound(process, logits.log_softmax(-1), *arguments)
    narrow = variational_bound(process, logits.float().log_softmax(-1), *arguments)
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-5, atol=1e-5)
    half = variational_bound(process, logits.float().log_softmax(-1).bfloat16(), *arguments)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), wide, rtol=0.1, atol=0.05)


@pytest.mark.sweep
@pytest.mark.parametrize("scale", [30.0, 1e3, 1e5])
@pytest.mark.parametrize("kind", KINDS)
def test_extreme_logits_keep_value_and_gradient_finite(kind, scale):
    process = kinds(240)[kind]
    logits, arguments = batch(process, num_codes=240, num_steps=1000, dtype=torch.float32)
    leaf = (scale * logits).requires_grad_()
    nats = variational_bound(process, leaf.log_softmax(-1), *arguments)
    (gradient,) = torch.autograd.grad(nats.mean(), leaf)
    assert nats.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("kind", ["mask", "bridge"])
def test_a_confident_mistake_is_still_corrected(kind):
    """p(x_0) underflows in float32 here; its logarithm and the pull on the logits must not."""
    process = kinds(K)[kind]
    logits = torch.tensor([[[300.0, 0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
    here = torch.tensor([[K]] if kind == "mask" else [[3]])
    times = torch.tensor([0.5]), torch.tensor([0.75])
    nats = variational_bound(process, logits.log_softmax(-1), torch.tensor([[2]]), here, *times, here)
    (gradient,) = torch.autograd.grad(nats.sum(), logits)
    take = (0.5 - 0.25) / 0.75  # the share of masked (or source) places that the step settles
    assert nats.item() == pytest.approx(take * 300.0, rel=1e-3)
    torch.testing.assert_close(gradient[0, 0], take * torch.tensor([1.0, 0.0, -1.0, 0.0, 0.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_step_is_the_plain_cross_entropy(kind):
    process = kinds(K)[kind]
    logits, (x0, x_t, s, t, source) = batch(process)
    log_p0 = logits.log_softmax(-1)
    nats = variational_bound(process, log_p0, x0, x_t, torch.zeros_like(s), t, source)
    carried = process.posterior(x_t, torch.zeros_like(s), t, source).is_carried
    torch.testing.assert_close(nats, auxiliary(log_p0, x0).masked_fill(carried, 0.0))


def test_the_auxiliary_term_is_cross_entropy():
    logits, (x0, *_) = batch(processes.mask(K))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), x0.flatten(), reduction="none")
    torch.testing.assert_close(auxiliary(logits.log_softmax(-1), x0).flatten(), expected)


def test_an_impossible_pair_costs_infinitely_much():
    log_p0 = torch.full((1, 2, K), 1 / K).log()
    x0, x_t, source = torch.tensor([[1, 1]]), torch.tensor([[2, K]]), torch.tensor([[0, 0]])
    nats = variational_bound(processes.bridge(K), log_p0, x0, x_t, torch.tensor([0.2]), torch.tensor([0.5]), source)
    assert nats.tolist() == [[math.inf, math.inf]]


@pytest.mark.parametrize("kind", KINDS)
def test_for_one_token_the_perfect_denoiser_makes_the_bound_exact(kind):
    tiny = world(4, 1)
    for num_steps in (1, 2, 7):
        bound = tiny.exact_bound(kinds(4)[kind], num_steps)
        torch.testing.assert_close(bound, -tiny.p.log(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_for_more_tokens_the_bound_is_above_and_closes_with_steps(kind):
    """Tokens are drawn apart within a step: the cost of that is positive and shrinks about like 1 / S."""
    pair = world(3, 2)
    gaps = [(pair.p * (pair.exact_bound(kinds(3)[kind], steps) + pair.p.log())).sum().item() for steps in (1, 4, 16)]
    assert gaps[0] > 0.02
    assert all(after > 0 and after < before / 2 for before, after in itertools.pairwise(gaps))


def test_the_estimate_of_the_chain_agrees_with_the_exact_sum():
    pair = world(3, 2)
    process = kinds(3)["hybrid"]
    copies = 4000
    x0 = pair.states[5].expand(copies, -1)
    estimate = chain_bound(
        process,
        lambda x_t, t: pair.log_posterior(process, x_t, t.double()),
        x0,
        pair.source.expand_as(x0),
        5,
        torch.Generator().manual_seed(0),
    ).sum(-1)
    error = estimate.std().item() / copies**0.5
    exact = pair.exact_bound(process, 5)[5].item()
    assert error < 0.05
    assert estimate.mean().item() == pytest.approx(exact, abs=4 * error)


class _WideTensors(TorchDispatchMode):
    """Counts the operations that make a tensor of at least `size` numbers."""

    def __init__(self, size):
        super().__init__()
        self.size, self.count = size, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.count += any(isinstance(leaf, torch.Tensor) and leaf.numel() >= self.size for leaf in tree_leaves(result))
        return result


@pytest.mark.parametrize("kind, allowed", [("mask", 0), ("bridge", 0), ("replace", 3), ("hybrid", 3)])
def test_no_wide_tensors_beside_the_logits(kind, allowed):
    """In index space nothing K-wide is made, unless codes are drawn at random: then one, changed in place twice."""
    process = kinds(60)[kind]
    logits, arguments = batch(process, num_codes=60)
    log_p0 = logits.log_softmax(-1)
    with _WideTensors(log_p0.numel()) as wide:
        variational_bound(process, log_p0, *arguments)
    assert wide.count == allowed
