"""The fused loss against the plain form by autograd, its gradient against differences, its memory against promises."""

import dataclasses
import math
from typing import NamedTuple

import pytest
import torch
from chains import CHAINS, chain_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from worlds import KINDS

from cdcd_video.diffusion import fused_loss
from cdcd_video.diffusion import process as processes
from cdcd_video.diffusion.loss import weighted_terms
from cdcd_video.diffusion.posterior import Posterior
from cdcd_video.diffusion.process import DiscreteProcess

K, S = 7, 10


class Case(NamedTuple):
    """The arguments of `weighted_terms`."""

    posterior: Posterior
    logits: Tensor
    candidates: Tensor
    kl_weight: Tensor
    ce_weight: Tensor


def case(
    chain: DiscreteProcess, num_codes: int = K, size: int = 8, num_tokens: int = 24, more: int = 3, seed: int = 0
) -> Case:
    """Random logits, spans and weights of both signs; coincidences of x_t, the source and the candidates in plenty."""
    generator = torch.Generator().manual_seed(seed)

    def codes(up_to):
        return torch.randint(up_to, (size, num_tokens), generator=generator)

    later = torch.randint(1, S + 1, (size,), generator=generator)
    earlier = (torch.rand(size, generator=generator) * later).long()
    earlier[:3], later[:3] = torch.tensor([0, 0, S - 1]), torch.tensor([1, S, S])
    s, t = earlier.double() / S, later.double() / S
    x0, source = codes(num_codes), codes(num_codes + 1)
    x_t, planted = chain.sample(x0, t, source, generator), codes(num_codes + 1)
    can_be = chain.posterior(planted, s, t, source)
    is_planted = (torch.rand(x0.shape, generator=generator) < 0.3) & (can_be.is_redraw | can_be.is_carried)
    x_t = torch.where(is_planted, planted, x_t)
    at_x_t, at_source = (torch.where(code < num_codes, code, x0) for code in (x_t, source))
    candidates = torch.stack((x0, at_x_t, at_source, x0, *(codes(num_codes) for _ in range(more))), -1)
    weights = torch.randn(2, *candidates.shape, generator=generator, dtype=torch.float64)
    logits = torch.randn(size, num_tokens, num_codes, generator=generator, dtype=torch.float64).mul(2)
    return Case(chain.posterior(x_t, s, t, source), logits, candidates, *weights)


def plain(given: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Total, KL, CE and gradient in float64 by the reference implementation."""
    logits = given.logits.double().requires_grad_()
    terms = weighted_terms(given.posterior, logits, *given[2:], implementation="reference")
    (gradient,) = torch.autograd.grad(terms.total, logits)
    return terms.total.detach(), terms.kl, terms.cross_entropy, gradient


def evaluated(given: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits = given.logits.clone().requires_grad_()
    terms = weighted_terms(given.posterior, logits, *given[2:])
    (gradient,) = torch.autograd.grad(terms.total, logits)
    return terms.total.detach(), terms.kl, terms.cross_entropy, gradient


def compare(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float, of_gradient: float) -> None:
    """Relative errors of KL and CE, where a number below 1 counts as 1; of the total and of the gradient, of the sum
    of what is added up and of the largest entry."""
    total, kl, ce, gradient = (value.double() for value in ours)
    torch.testing.assert_close(kl, expected[1], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ce, expected[2], rtol=tolerance, atol=tolerance)
    size = max(1.0, float(expected[1].sum() + expected[2].sum()))
    assert float(total) == pytest.approx(float(expected[0]), rel=0, abs=tolerance * size)
    limit = of_gradient * max(1.0, float(expected[3].abs().max()))
    torch.testing.assert_close(gradient, expected[3], rtol=0, atol=limit)


# ------------------------------------------------------------------------------------------------- values and gradients


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", CHAINS)
def test_values_and_gradient_are_those_of_the_plain_form(name, seed):
    given = case(chain_of(name, K, S), seed=seed)
    compare(evaluated(given), plain(given), 1e-10, 1e-10)


@pytest.mark.sweep
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("num_codes", [1, 2, 3])
def test_few_codes_are_no_special_case(name, num_codes):
    given = case(chain_of(name, num_codes, S), num_codes)
    compare(evaluated(given), plain(given), 1e-10, 1e-10)


@pytest.mark.parametrize("name", CHAINS)
def test_in_float32_the_error_is_float32s(name):
    given = case(chain_of(name, 240, S), 240)
    given = given._replace(logits=given.logits.float())
    ours = evaluated(given)
    assert ours[0].dtype == ours[3].dtype == torch.float32
    compare(ours, plain(given), 1e-5, 1e-6)


@pytest.mark.sweep
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("dtype, rounding", [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)], ids=str)
def test_half_precision_costs_the_gradients_last_bits_and_nothing_else(name, dtype, rounding):
    given = case(chain_of(name, 240, S), 240)
    given = given._replace(logits=given.logits.to(dtype))
    total, kl, ce, gradient = evaluated(given)
    in_single = evaluated(given._replace(logits=given.logits.float()))
    assert total.dtype == torch.float32 and gradient.dtype == dtype
    assert torch.equal(total, in_single[0]) and torch.equal(kl, in_single[1]) and torch.equal(ce, in_single[2])
    torch.testing.assert_close(gradient.float(), in_single[3], rtol=rounding, atol=1e-6)


@pytest.mark.parametrize("name", CHAINS)
def test_the_gradient_is_the_slope(name):
    """Central differences of the total, logit by logit: nothing of the derivation is believed."""
    given = case(chain_of(name, K, S), num_tokens=4)
    gradient, step = evaluated(given)[3], 1e-5
    pushes = torch.cat((torch.eye(K), -torch.eye(K))).double() * step  # 2 K copies of each token, side by side
    record = {field.name: getattr(given.posterior, field.name) for field in dataclasses.fields(Posterior)}
    copies = {
        key: value.repeat_interleave(2 * K, 1) if isinstance(value, Tensor) and value.shape[1] > 1 else value
        for key, value in record.items()
    }
    logits = (given.logits.unsqueeze(2) + pushes).flatten(1, 2)
    others = [value.repeat_interleave(2 * K, 1) for value in given[2:]]
    terms = weighted_terms(Posterior(**copies), logits, *others)
    nats = (others[1] * terms.kl + others[2] * terms.cross_entropy).sum(-1).view(*gradient.shape[:-1], 2, K)
    slope = (nats[..., 0, :] - nats[..., 1, :]) / (2 * step)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-7)


@pytest.mark.sweep
@pytest.mark.parametrize("confidence", [50.0, 200.0])
@pytest.mark.parametrize("name", CHAINS)
def test_certainty_right_or_wrong_is_finite_and_exact(name, confidence):
    given = case(chain_of(name, 240, S), 240)
    spread = torch.randn(given.logits.shape, generator=torch.Generator().manual_seed(1)).sign()
    right, at_x_t = (
        torch.zeros_like(spread).scatter(-1, given.candidates[..., place : place + 1], confidence) for place in (0, 1)
    )
    for logits in (confidence * spread, right, -right, at_x_t):
        wide, narrow = (given._replace(logits=logits.to(dtype)) for dtype in (torch.float64, torch.float32))
        expected = plain(wide)
        # The plain form's softmax takes away nearly all of a push as large as K / 1e-6: 1e-8 is its own error.
        compare(evaluated(wide), expected, 1e-10, 1e-8)
        compare(evaluated(narrow), expected, 1e-6, 1e-6)


@pytest.mark.sweep
@pytest.mark.parametrize("excess", [5.0, 10.0, 15.0, 20.0, 25.0, 30.0])
@pytest.mark.parametrize("name", ["replace", "leaky bridge", "hybrid", "cdcd", "much replaced"])
def test_a_model_that_copies_its_input_is_followed_in_float32(name, excess):
    """Where p(x_t) is nearly 1, all hangs on 1 - p(x_t), down to 1e-12, in the terms and in every token's gradient."""
    num_codes, generator = 1000, torch.Generator().manual_seed(0)
    x_t, source = torch.randint(num_codes, (2, 1, 64), generator=generator)
    posterior = chain_of(name, num_codes, S).posterior(x_t, torch.tensor([0.3]), torch.tensor([0.4]), source)
    logits = torch.randn(1, 64, num_codes, generator=generator)
    logits.scatter_(-1, x_t.unsqueeze(-1), logits.amax(-1, keepdim=True) + excess)
    candidates = torch.stack((x_t, (x_t + 7) % num_codes), -1)
    for weight in torch.eye(2).double():
        given = Case(
            posterior, logits, candidates, weight.expand_as(candidates), torch.zeros(candidates.shape).double()
        )
        narrow, wide = evaluated(given), evaluated(given._replace(logits=logits.double()))
        torch.testing.assert_close(narrow[1], wide[1], rtol=1e-5, atol=1e-8)
        error, largest = (value.abs().amax(-1) for value in (narrow[3].double() - wide[3], wide[3]))
        # 6e-8 is the last bit of a share near 1: what any softmax less a one-hot has in float32.
        assert (error <= 1e-6 * largest + 6e-8).all()


@pytest.mark.parametrize("name", CHAINS)
def test_a_weight_of_every_token_of_a_sample_may_be_given_once(name):
    given = case(chain_of(name, K, S))
    once = given._replace(kl_weight=given.kl_weight[:, :1], ce_weight=given.ce_weight[:, :1])
    spelt = once._replace(
        kl_weight=once.kl_weight.expand_as(given.kl_weight), ce_weight=once.ce_weight.expand_as(given.ce_weight)
    )
    for ours, expected in zip(evaluated(once), evaluated(spelt), strict=True):
        assert torch.equal(ours, expected)


def test_a_carried_code_has_no_kl_and_still_a_cross_entropy():
    for chain in (processes.bridge(K), processes.mask(K)):
        posterior = chain.posterior(torch.tensor([[2]]), torch.tensor([0.3]), torch.tensor([0.6]), torch.tensor([[0]]))
        assert posterior.is_carried.all()
        candidates, ones = torch.tensor([[[2, 5]]]), torch.ones(1, 1, 2)
        logits = torch.randn(1, 1, K, generator=torch.Generator().manual_seed(0), requires_grad=True)
        terms = weighted_terms(posterior, logits, candidates, ones, 0 * ones)
        (gradient,) = torch.autograd.grad(terms.total, logits)
        assert terms.kl.tolist() == [[[0.0, 0.0]]] and terms.total == 0.0 and (gradient == 0.0).all()
        terms = weighted_terms(posterior, logits, candidates, 0 * ones, ones)
        (gradient,) = torch.autograd.grad(terms.total, logits)
        expected = 2 * logits.softmax(-1)
        expected[..., candidates] -= 1.0
        torch.testing.assert_close(gradient, expected)


def test_a_code_that_cannot_be_costs_infinitely_much_where_it_is_asked_about():
    x_t, source = torch.tensor([[K, 1]]), torch.tensor([[0, 0]])
    posterior = processes.bridge(K).posterior(x_t, torch.tensor([0.2]), torch.tensor([0.5]), source)
    logits, ones = torch.zeros(1, 2, K, requires_grad=True), torch.ones(1, 2, 1)
    for weight, expected in ((ones, math.inf), (torch.tensor([[[0.0], [1.0]]]), 2 * math.log(K))):
        terms = weighted_terms(posterior, logits, torch.tensor([[[1], [1]]]), weight, ones)
        assert terms.kl.flatten().tolist() == [math.inf, 0.0]
        assert terms.total.item() == pytest.approx(expected)
        (gradient,) = torch.autograd.grad(terms.total, logits)
        assert gradient.isfinite().all()


# ------------------------------------------------------------------------------------------------------------ mechanics


@pytest.mark.parametrize("name", CHAINS)
def test_chunks_have_no_seams(name, monkeypatch):
    given = case(chain_of(name, K, S), num_tokens=4)
    whole = evaluated(given)
    for elements in (1, 3 * K, 100 * K + 1):
        monkeypatch.setattr(fused_loss, "CHUNK_ELEMENTS", elements)
        for ours, expected in zip(evaluated(given), whole, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", CHAINS)
def test_without_a_gradient_the_values_are_the_same(name):
    given = case(chain_of(name, K, S))
    for expected, ours in zip(evaluated(given)[:3], weighted_terms(*given)[:3], strict=True):
        assert not ours.requires_grad
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


def test_what_a_token_costs_is_the_weighted_sum_of_its_terms():
    given = case(chain_of("hybrid", K, S))
    terms = weighted_terms(*given)
    expected = (given.kl_weight * terms.kl + given.ce_weight * terms.cross_entropy).sum(-1)
    torch.testing.assert_close(terms.per_token, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(terms.total, expected.sum(), rtol=1e-12, atol=1e-12)


def test_the_logits_are_not_touched_and_the_gradient_is_scaled():
    given = case(chain_of("cdcd", K, S))
    logits = given.logits.clone().requires_grad_()
    terms = weighted_terms(given.posterior, logits, *given[2:])
    assert not any(value.requires_grad for value in terms[1:])
    (gradient,) = torch.autograd.grad(3.0 * terms.total, logits)
    torch.testing.assert_close(gradient, 3.0 * evaluated(given)[3])
    assert torch.equal(logits, given.logits)


def test_logits_may_be_a_view_with_gaps():
    given = case(chain_of("hybrid", K, S))
    wide = torch.cat((given.logits, torch.full_like(given.logits, 99.0)), -1)
    strided = given._replace(logits=wide[..., :K])
    assert not strided.logits.is_contiguous()
    for ours, expected in zip(evaluated(strided), evaluated(given), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


def test_backward_runs_once():
    given = case(chain_of("cdcd", K, S))
    total = weighted_terms(given.posterior, given.logits.requires_grad_(), *given[2:]).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        total.backward()


def test_there_is_no_second_derivative_to_be_had_by_mistake():
    given = case(chain_of("cdcd", K, S))
    logits = given.logits.requires_grad_()
    total = weighted_terms(given.posterior, logits, *given[2:]).total
    (gradient,) = torch.autograd.grad(total, logits, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


# --------------------------------------------------------------------------------------------------------------- memory


class Allocations(TorchDispatchMode):
    """Lists the tensors that an operation makes anew, as opposed to views and what is written in place."""

    def __init__(self):
        super().__init__()
        self.made: list[tuple[int, torch.dtype]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = function(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in given:
                self.made.append((leaf.untyped_storage().nbytes() // leaf.element_size(), leaf.dtype))
        return result


def allocations(given: Case, needs_grad: bool = True) -> list[tuple[int, torch.dtype]]:
    given = given._replace(logits=given.logits.clone().requires_grad_(needs_grad))
    with Allocations() as seen:
        terms = weighted_terms(*given)
        if needs_grad:
            terms.total.backward()
    return seen.made


@pytest.mark.sweep
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize(
    "dtype, needs_grad, allowed",
    [
        (torch.float32, False, []),
        (torch.float32, True, [torch.float32]),
        (torch.float64, True, [torch.float64]),
        (torch.bfloat16, True, [torch.bfloat16]),
    ],
    ids=str,
)
def test_nothing_as_wide_as_the_logits_is_made_but_the_gradient(name, dtype, needs_grad, allowed, monkeypatch):
    """Half precision is widened chunk by chunk.

    What else there is has a handful of numbers per token and candidate, or is a chunk of 16 rows.
    """
    num_codes, chunk = 512, 16
    monkeypatch.setattr(fused_loss, "CHUNK_ELEMENTS", chunk * num_codes)
    given = case(chain_of(name, num_codes, S), num_codes, num_tokens=16)
    given = given._replace(logits=given.logits.to(dtype))
    made = allocations(given, needs_grad)
    whole = given.logits.numel()
    assert [kind for size, kind in made if size >= whole] == allowed
    handful = (given.candidates.shape[-1] + 2) * given.candidates[..., 0].numel()
    assert max(size for size, _ in made if size < whole) <= max(chunk * num_codes, handful) <= whole / 8
    if dtype != torch.float64:
        assert max(size for size, kind in made if kind == torch.float64) <= handful


def test_a_negative_costs_the_same_whatever_its_number_and_the_number_of_codes():
    """Bytes made, summed over all operations: an affine function of M, with a slope that K is not in."""

    def bytes_made(num_codes, more):
        made = allocations(case(chain_of("cdcd", num_codes, S), num_codes, more=more))
        return sum(size * torch.empty((), dtype=kind).element_size() for size, kind in made)

    few, ten, hundred = (bytes_made(64, more) for more in (0, 10, 100))
    assert hundred - ten == 9 * (ten - few)
    assert bytes_made(512, 10) - bytes_made(512, 0) == ten - few
    tokens = case(chain_of("cdcd", 8, S), 8).logits[..., 0].numel()
    assert (ten - few) / (10 * tokens) < 64 * 8  # numbers of eight bytes that a candidate of a token passes through


@pytest.mark.parametrize("kind", KINDS)
def test_an_equal_record_is_an_equal_loss(kind):
    """The record of weights is all that is known of a chain: any that is written down is trained as well."""
    given = case(chain_of(kind, K, S))
    copied = Posterior(**{field.name: getattr(given.posterior, field.name) for field in dataclasses.fields(Posterior)})
    spread = {
        name: getattr(copied, name).expand_as(copied.x_t).contiguous()
        for name in ("p_keep_xt", "p_x0", "p_uniform", "p_mask", "p_source")
    }
    for ours, expected in zip(
        evaluated(given._replace(posterior=dataclasses.replace(copied, **spread))), evaluated(given), strict=True
    ):
        assert torch.equal(ours, expected)
