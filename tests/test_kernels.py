"""The CPU kernels compute what their plain counterparts do, forward and backward, and stand back where they are looked at."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cdcd_video.attention import Block, FeedForward
from cdcd_video.kernels import blockwise, feed_forward, products

KINDS = (torch.float32, torch.bfloat16)
LOOSE = {torch.float32: 5e-6, torch.bfloat16: 2e-2}
"""Relative errors (norm over norm) allowed against float64."""


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch):
    """The kernels serve at sizes that a test can afford."""
    monkeypatch.setattr(products, "LARGE", 1)
    monkeypatch.setattr(feed_forward, "LARGE", 1)
    monkeypatch.setattr(blockwise, "SMALLEST", 1)


def error(found: Tensor, right: Tensor) -> float:
    return float((found.double() - right).norm() / right.norm())


def errors(kernel, plain, given: list[Tensor], kind: torch.dtype) -> list[float]:
    """Of the result and of every gradient, against the plain form in float64 of the same rounded numbers."""
    draws = torch.Generator().manual_seed(7)
    exact = [value.detach().to(kind).double().requires_grad_() for value in given]
    ours = [value.detach().to(kind).clone().requires_grad_() for value in given]
    right, found = plain(*exact), kernel(*ours)
    onto = torch.randn(right.shape, generator=draws).to(kind)
    right.backward(onto.double())
    found.backward(onto)
    assert found.dtype == kind and all(value.grad.dtype == kind for value in ours)
    return [error(found.detach(), right.detach())] + [
        error(one.grad, two.grad) for one, two in zip(ours, exact, strict=True)
    ]


def written_out(q: Tensor, k: Tensor, v: Tensor, is_key: Tensor | None) -> Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if is_key is not None:
        scores = scores.masked_fill(~is_key[:, None, None], -torch.inf)
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 9.0], ids=["calm", "sharp"])
@pytest.mark.parametrize("has_mask", [False, True])
def test_blockwise_is_attention(kind: torch.dtype, scale: float, has_mask: bool):
    draws = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 12, generator=draws) for n in (40, 23, 23))
    is_key = torch.ones(2, 23, dtype=torch.bool)
    is_key[0, 5:], is_key[1, 1:] = False, False
    is_key = is_key if has_mask else None
    q, k = q * scale, k * scale
    assert blockwise._is_small(q.flatten(0, 1), k.flatten(0, 1)) == (scale == 1.0)
    kernel = lambda *given: blockwise.blockwise(*given, is_key)  # noqa: E731
    found = errors(kernel, lambda *given: written_out(*given, is_key), [q, k, v], kind)
    # Scores of hundreds, rounded to 8 bits, are off by ones: half precision is not for those.
    if kind is torch.float32 or scale == 1.0:
        assert max(found) < LOOSE[kind] * scale**2, found


def test_far_scores_that_nobody_may_see_harm_nothing():
    draws = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, 8, 4, generator=draws) * 3 for _ in range(3))
    k[0, 0, 5:] *= 1e4
    is_key = torch.arange(8)[None] < 5
    found = errors(
        lambda *given: blockwise.blockwise(*given, is_key),
        lambda *given: written_out(*given, is_key),
        [q, k, v],
        torch.float32,
    )
    assert max(found) < 1e-3, found


def test_a_sample_does_not_depend_on_its_batch():
    q, k, v = torch.randn(3, 4, 2, 64, 16, generator=torch.Generator().manual_seed(0)).unbind()
    for kind in KINDS:
        together = blockwise.blockwise(q.to(kind), k.to(kind), v.to(kind))
        for row in range(4):
            alone = blockwise.blockwise(*(x[row : row + 1].to(kind) for x in (q, k, v)))
            assert torch.equal(alone[0], together[row])


@pytest.mark.skipif(not products.has_onednn(), reason="torch without oneDNN")
def test_linear_is_linear():
    draws = torch.Generator().manual_seed(0)
    for out in (5, 70):
        given = [torch.randn(*size, generator=draws) for size in ((3, 11, 24), (out, 24), (out,))]
        assert products.linear(*(value.requires_grad_() for value in given)).grad_fn.name() != "AddmmBackward0"
        assert max(errors(products.linear, nn.functional.linear, given, torch.float32)) < 1e-6
        bare = errors(lambda x, w: products.linear(x, w), lambda x, w: x @ w.T, [given[0], given[1]], torch.float32)
        assert max(bare) < 1e-6


def plain_mlp(x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    return nn.functional.linear(nn.functional.linear(x, up, up_bias).relu().square(), down, down_bias)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mlp_by_parts_is_the_mlp(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed_forward, "PART", 64 * 48)
    draws = torch.Generator().manual_seed(0)
    sizes = ((2, 75, 16), (48, 16), (48,), (16, 48), (16,))  # 150 rows: parts of 64, 64 and 22
    given = [torch.randn(*size, generator=draws) for size in sizes]
    assert max(errors(feed_forward.squared_relu_mlp, plain_mlp, given, kind)) < LOOSE[kind]


def block(seed: int = 0) -> Block:
    torch.manual_seed(seed)
    return Block(32, 2, context_width=12, modulated=True)


def step(net: Block, precision: torch.dtype) -> list[Tensor]:
    draws = torch.Generator().manual_seed(1)
    x, words, changes = (torch.randn(*size, generator=draws) for size in ((2, 24, 32), (2, 5, 12), (2, 6, 32)))
    is_key = torch.arange(5) < torch.tensor([[5], [3]])
    net.zero_grad()
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        context = net.cross_attention.keys_values(words)
        out = net(x, modulation=changes, context=context, is_key=is_key)
    out.float().square().sum().backward()
    return [out.detach(), x.grad, *(value.grad for value in net.parameters())]


@pytest.mark.parametrize("precision", KINDS)
def test_a_block_is_the_same_with_and_without(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    fast = step(block(), precision)
    for module, name in ((products, "LARGE"), (feed_forward, "LARGE"), (blockwise, "SMALLEST")):
        monkeypatch.setattr(module, name, 1 << 62)
    plain = step(block(), precision)
    for one, two in zip(fast, plain, strict=True):
        assert one.dtype == two.dtype
        assert error(one, two.double()) < 2 * LOOSE[precision]
    assert any(not torch.equal(one, two) for one, two in zip(fast, plain, strict=True)), "the kernels did not serve"


def test_who_looks_on_sees_torchs_own_operators(monkeypatch: pytest.MonkeyPatch):
    net, x = FeedForward(8, 16), torch.randn(1, 4, 8)
    with FlopCounterMode(display=False) as counter:
        net(x).sum().backward()
    # The input wants no gradient: forward two products, backward three.
    assert counter.get_total_flops() == 2 * 4 * 8 * 16 * 5
    assert not products.may_serve(x.double()) and not products.may_serve(torch.empty(1, device="meta"))


@pytest.mark.skipif(not products.has_onednn(), reason="torch without oneDNN")
def test_in_drawing_no_row_depends_on_the_others():
    draws = torch.Generator().manual_seed(0)
    x, weight = torch.randn(700, 192, generator=draws), torch.randn(1400, 192, generator=draws)
    assert weight.numel() >= products.LARGE_WEIGHT
    with torch.no_grad():
        together = products.linear(x, weight)
        assert torch.allclose(together, x @ weight.T, atol=1e-3)
        for rows in (1, 16, 64, 333):
            if rows == 1:
                assert torch.equal(products.linear(x[:1], weight), nn.functional.linear(x[:1], weight))
                continue
            assert torch.equal(products.linear(x[:rows], weight), together[:rows])


def test_drawing_never_meets_the_kernels_of_training(monkeypatch: pytest.MonkeyPatch):
    """A small linear layer and every MLP are torch's own where no gradient is wanted, at any batch size."""
    monkeypatch.setattr(products, "_Linear", None)
    monkeypatch.setattr(feed_forward, "_Mlp", None)
    with torch.no_grad():
        FeedForward(8, 16)(torch.randn(1, 4, 8))
