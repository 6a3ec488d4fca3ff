"""The CPU kernels compute what their plain counterparts do, forward and backward, and stand back where they are looked at."""

import ctypes
import re
from pathlib import Path
from types import ModuleType

import pytest
import shapes
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cdcd_video.kernels import compiled, feed_forward, modulated, products, tiled
from cdcd_video.networks.transformer import Block, FeedForward

KINDS = (torch.float32, torch.bfloat16)
LOOSE = {torch.float32: 5e-6, torch.bfloat16: 2e-2}
"""Relative errors (norm over norm) allowed against float64."""


needs_library = pytest.mark.skipif(compiled.kernels() is None, reason="no AVX-512, or no C++ compiler")
needs_half = pytest.mark.skipif(not compiled.knows(torch.bfloat16), reason="a processor without bfloat16")
HERE = [torch.float32, pytest.param(torch.bfloat16, marks=needs_half)]
"""The kinds that the compiled kernels know on this machine."""
WAYS = [pytest.param(tiled, marks=needs_library)]
EACH = [
    pytest.param(tiled, torch.float32, marks=needs_library),
    pytest.param(tiled, torch.bfloat16, marks=needs_half),
]


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch):
    """The kernels serve at sizes that a test can afford."""
    monkeypatch.setattr(products, "LARGE", 1)
    monkeypatch.setattr(feed_forward, "LARGE", 1)


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


@pytest.mark.parametrize(("way", "kind"), EACH)
@pytest.mark.parametrize("scale", [1.0, 9.0], ids=["calm", "sharp"])
@pytest.mark.parametrize("has_mask", [False, True])
def test_it_is_attention(way: ModuleType, kind: torch.dtype, scale: float, has_mask: bool):
    draws = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 12, generator=draws) for n in (40, 23, 23))
    is_key = torch.ones(2, 23, dtype=torch.bool)
    is_key[0, 5:], is_key[1, 1:] = False, False
    is_key = is_key if has_mask else None
    q, k = q * scale, k * scale
    kernel = lambda *given: way.attention(*given, is_key)  # noqa: E731
    found = errors(kernel, lambda *given: written_out(*given, is_key), [q, k, v], kind)
    # Scores of hundreds, rounded to 8 bits, are off by ones: half precision is not for those.
    if kind is torch.float32 or scale == 1.0:
        assert max(found) < LOOSE[kind] * scale**2, found


@needs_library
@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("width", [1, 5, 16, 17, 32, 47, 64])
def test_compiled_attention_at_all_widths(kind: torch.dtype, width: int):
    """Also where queries fill one tile and the next in part, and keys several, in odd numbers."""
    draws = torch.Generator().manual_seed(width)
    for num_queries, num_keys in ((64, 64), (83, 131), (1, 1), (16, 33)):
        q, k, v = (torch.randn(2, 2, n, width, generator=draws) for n in (num_queries, num_keys, num_keys))
        is_key = torch.rand(2, num_keys, generator=draws) < 0.5
        is_key[:, -1] = True
        for mask in (None, is_key):
            given = lambda *x, mask=mask: tiled.attention(*x, mask)  # noqa: E731
            found = errors(given, lambda *x, mask=mask: written_out(*x, mask), [q, k, v], kind)
            if num_keys > 1:
                assert max(found) < LOOSE[kind], (num_queries, num_keys, found)
            else:  # one key has all the weight: what is right for q and k is 0
                assert max(found[0], found[3]) < LOOSE[kind]


@needs_library
@pytest.mark.parametrize("kind", HERE)
def test_compiled_attention_takes_tensors_as_they_lie(kind: torch.dtype):
    """Heads side by side as a linear layer makes them, keys and values in one tensor, gradients spread from one number."""
    draws = torch.Generator().manual_seed(0)
    joined = torch.randn(2, 40, 3 * 24, generator=draws).to(kind)
    q, k, v = (x.unflatten(-1, (2, 12)).transpose(1, 2) for x in joined.chunk(3, -1))
    apart = [x.clone(memory_format=torch.contiguous_format).requires_grad_() for x in (q, k, v)]
    lying = [x.detach().requires_grad_() for x in (q, k, v)]
    turned = [x.detach().transpose(-1, -2).contiguous().transpose(-1, -2).requires_grad_() for x in (q, k, v)]
    outs = [tiled.attention(*x) for x in (apart, lying, turned)]
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])
    for out in outs:
        out.float().sum().backward()
    for one, two, three in zip(apart, lying, turned, strict=True):
        assert torch.equal(one.grad, two.grad) and torch.equal(one.grad, three.grad)


@needs_library
def test_compiled_attention_is_the_same_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch):
    draws = torch.Generator().manual_seed(0)
    given = [torch.randn(3, 5, 70, 12, generator=draws) for _ in range(3)]
    found = []
    for threads in (1, 2, 4, 99):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        mine = [x.clone().requires_grad_() for x in given]
        out = tiled.attention(*mine)
        out.square().sum().backward()
        found.append([out.detach(), *(x.grad for x in mine)])
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@needs_library
@pytest.mark.parametrize("kind", HERE)
def test_a_ruined_sample_ruins_no_other(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    """Nor one that is worked on after it in the same memory."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    draws = torch.Generator().manual_seed(0)
    given = [torch.randn(2, 2, 37, 12, generator=draws).to(kind) for _ in range(3)]
    is_key = torch.ones(2, 37, dtype=torch.bool)
    is_key[1, 7:] = False
    alone = [x[1:].clone().requires_grad_() for x in given]
    right = tiled.attention(*alone, is_key[1:])
    right.square().sum().backward()
    for number in (torch.nan, torch.inf):
        both = [x.clone() for x in given]
        for x in both:
            x[0] = number
        out = tiled.attention(*(x.requires_grad_() for x in both), is_key)
        out.square().sum().backward()
        assert not out[0].isfinite().any() and torch.equal(out[1:], right)
        assert all(torch.equal(one.grad[1:], two.grad) for one, two in zip(both, alone, strict=True))


def test_small_models_sample_without_a_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiled, "kernels", lambda: pytest.fail("the library was asked for"))
    x = torch.randn(1, 2, 64, 12)
    with torch.no_grad():
        assert not tiled.serves(x, x)
    assert not tiled.serves(x.double(), x.double()) and not tiled.serves(x.repeat(1, 1, 1, 6), x.repeat(1, 1, 1, 6))


@needs_library
def test_the_library_is_built_once_and_done_without_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folder, fresh = tmp_path / "kernels", compiled.kernels.__wrapped__
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(folder))
    assert fresh().knows_half() in (0, 1)
    (made,) = folder.iterdir()
    stamp = made.stat().st_mtime_ns
    assert fresh() is not None and [path.stat().st_mtime_ns for path in folder.iterdir()] == [stamp]
    monkeypatch.setattr(compiled, "_processor", lambda: "another")
    assert fresh() is not None and len(list(folder.iterdir())) == 2
    for compiler, why in (("no-such-compiler", "No such file"), ("false", "exit status"), ("g++ -DLANES=x", "error")):
        monkeypatch.setenv("CXX", compiler)
        with pytest.warns(RuntimeWarning, match=f"the kernels could not be built .*{why}.*slower"):
            assert fresh() is None
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, "off")
    assert fresh() is None
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(folder))
    assert fresh() is None


@pytest.mark.parametrize("struct", [tiled.Attention, modulated.Modulated])
def test_the_fields_are_those_of_the_source(struct: type):
    """Python's copy of a struct has its fields, in its order, of as many bytes."""
    (text,) = (text for text in map(Path.read_text, compiled.SOURCES) if f"struct {struct.__name__} {{" in text)
    text = text[text.index(f"struct {struct.__name__} {{") :]
    listed, kinds = [], {"int64_t": 8, "float": 4, "Strides": 24}
    for line in re.sub(r"//.*", "", text[text.index("{") + 1 : text.index("};")]).split(";"):
        if line.strip():
            kind, names = re.fullmatch(r"(?:const )?(\w+)(.*)", line.strip()).groups()
            listed += [(name.strip(" *"), 8 if "*" in name else kinds[kind]) for name in names.split(",")]
    assert listed == [(name, ctypes.sizeof(kind)) for name, kind in struct._fields_]


@pytest.mark.parametrize("way", WAYS)
def test_far_scores_that_are_masked_have_no_effect(way: ModuleType):
    draws = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, 8, 4, generator=draws) * 3 for _ in range(3))
    k[0, 0, 5:] *= 1e4
    is_key = torch.arange(8)[None] < 5
    found = errors(
        lambda *given: way.attention(*given, is_key),
        lambda *given: written_out(*given, is_key),
        [q, k, v],
        torch.float32,
    )
    assert max(found) < 1e-3, found


@pytest.mark.parametrize(("way", "kind"), EACH)
def test_a_sample_does_not_depend_on_its_batch(way: ModuleType, kind: torch.dtype):
    q, k, v = torch.randn(3, 4, 2, 64, 16, generator=torch.Generator().manual_seed(0)).to(kind).unbind()
    together = way.attention(q, k, v)
    for row in range(4):
        assert torch.equal(way.attention(*(x[row : row + 1] for x in (q, k, v)))[0], together[row])


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
    monkeypatch.setattr(feed_forward, "PART", 64 * 48 * kind.itemsize)
    draws = torch.Generator().manual_seed(0)
    sizes = ((2, 75, 16), (48, 16), (48,), (16, 48), (16,))  # 150 rows: parts of 64, 64 and 22
    given = [torch.randn(*size, generator=draws) for size in sizes]
    assert max(errors(feed_forward.squared_relu_mlp, plain_mlp, given, kind)) < LOOSE[kind]


def of_samples(batch: int, width: int, count: int, draws: torch.Generator) -> list[Tensor]:
    """Scales and the like as a block has them: side by side in one tensor, (B, 1, D) each."""
    return list(torch.randn(batch, count, width, generator=draws)[:, :, None].unbind(1))


@needs_library
@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (70, 48), (200, 192)])
def test_the_modulated_norm_is_one(kind: torch.dtype, rows: int, width: int):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(3, rows, width, generator=draws) * 5 + 2
    plain = lambda x, scale, shift: nn.functional.layer_norm(x, (width,), eps=1e-5) * (1 + scale) + shift  # noqa: E731

    def kernel(*given: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=kind is torch.bfloat16):
            assert modulated.serves(given[0], given[1])
            out = modulated.norm(*given, 1e-5)
        assert out.dtype == kind  # rounded once, as what takes it would round it
        return out.float()

    found = errors(kernel, plain, [x, *of_samples(3, width, 2, draws)], torch.float32)
    assert max(found) < (2e-6 if kind is torch.float32 else 4e-3), found


@needs_library
@pytest.mark.parametrize("kind", HERE)
def test_the_gated_change_is_added(kind: torch.dtype):
    draws = torch.Generator().manual_seed(0)
    x, change = (torch.randn(3, 70, 48, generator=draws) for _ in range(2))
    given = [x, *of_samples(3, 48, 1, draws), change.to(kind).float()]
    found = errors(
        lambda x, gate, change: modulated.add(x, gate, change.to(kind)),
        lambda x, gate, change: x + gate * change,
        given,
        torch.float32,
    )
    assert found[0] < 1e-6 and found[1] == 0 and max(found[2:]) < (1e-6 if kind is torch.float32 else 4e-3), found


@needs_library
def test_modulated_sums_stay_exact_over_many_rows():
    """Ten thousand rows of a number that float32 cannot hold; added up one by one they would be off by 1e-4."""
    x = torch.full((1, 10_000, 16), 0.1).requires_grad_()
    gate = torch.ones(1, 1, 16).requires_grad_()
    modulated.add(torch.zeros_like(x), gate, x).sum().backward()
    assert (gate.grad / 1000 - 1).abs().max() < 4e-6


@needs_library
def test_what_is_modulated_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch):
    """With several threads, alone in the batch, and transposed in memory."""
    draws = torch.Generator().manual_seed(0)
    x, (scale, shift, gate) = torch.randn(5, 30, 32, generator=draws), of_samples(5, 32, 3, draws)

    def both(x: Tensor, *of_sample: Tensor) -> list[Tensor]:
        given = [value.detach().requires_grad_() for value in (x, *of_sample)]
        out = modulated.add(given[0], given[3], modulated.norm(given[0], *given[1:3], 1e-5))
        out.square().sum().backward()
        return [out.detach(), *(value.grad for value in given)]

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    once = both(x, scale, shift, gate)
    turned = both(x.transpose(1, 2).contiguous().transpose(1, 2), scale.contiguous(), shift, gate)
    rows = [both(*(value[row : row + 1] for value in (x, scale, shift, gate))) for row in range(5)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for other in (both(x, scale, shift, gate), turned, [torch.cat(part) for part in zip(*rows, strict=True)]):
        assert all(torch.equal(one, two) for one, two in zip(once, other, strict=True))


@needs_library
def test_nothing_is_read_beyond_a_tensor():
    """Of sizes that do not fit, which annotations refuse before where they are checked."""
    with shapes.unchecked():
        q, k = torch.randn(2, 3, 8, 16), torch.randn(2, 3, 5, 16)
        mask = torch.ones(2, 5, dtype=torch.bool)
        for given in (
            (q, k[:1], k[:1]), (q, k[:, :1], k[:, :1]), (q, k, k[:, :, :4]), (q, k[..., :8], k[..., :8]), (q, k, k.bfloat16()),
            (q.repeat(1, 1, 1, 5), k.repeat(1, 1, 1, 5), k.repeat(1, 1, 1, 5)),
            (q, k, k, mask[:1]), (q, k, k, mask[:, :4]), (q, k, k, mask.int()),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="do not fit"):
                tiled.attention(*given)
        x, scale = torch.randn(2, 3, 32), torch.randn(2, 1, 32)
        assert (
            modulated.serves(x, scale)
            and not modulated.serves(x, scale[:1])
            and not modulated.serves(x, scale[..., :16])
        )
        with pytest.raises(ValueError, match="do not fit"):
            modulated.norm(x, scale, scale[:1], 1e-5)
        with pytest.raises(ValueError, match="do not fit"):
            modulated.add(x, scale.double(), x)
        for width in (24, 8192):
            wide, of_sample = torch.randn(2, 3, width), torch.randn(2, 1, width)
            with pytest.raises(ValueError, match="do not fit"):
                modulated.norm(wide, of_sample, of_sample, 1e-5)
        with pytest.raises(ValueError, match="a change of"):
            modulated.add(x, scale, x[:, :2])


def test_what_cannot_be_modulated_here_is_left_to_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiled, "kernels", lambda: pytest.fail("the library was asked for"))
    x, scale = torch.randn(2, 3, 40), torch.randn(2, 1, 40)
    assert not modulated.serves(x, scale), "no multiple of 16"
    assert not modulated.serves(x[..., :32].double(), scale[..., :32])
    with torch.no_grad():
        assert not modulated.serves(x[..., :32], scale[..., :32])


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
    for module, name in ((products, "LARGE"), (feed_forward, "LARGE")):
        monkeypatch.setattr(module, name, 1 << 62)
    for module in (tiled, modulated):
        monkeypatch.setattr(module, "serves", lambda *_: False)
    plain = step(block(), precision)
    for one, two in zip(fast, plain, strict=True):
        assert one.dtype == two.dtype
        assert error(one, two.double()) < 2 * LOOSE[precision]
    if compiled.kernels() is not None:  # the others may well add up in the order of torch's own
        assert any(not torch.equal(one, two) for one, two in zip(fast, plain, strict=True)), "the kernels did not serve"


def test_dispatch_modes_get_torchs_own_operators(monkeypatch: pytest.MonkeyPatch):
    net, x = FeedForward(8, 16), torch.randn(1, 4, 8)
    with FlopCounterMode(display=False) as counter:
        net(x).sum().backward()
    # The input wants no gradient: forward two products, backward three.
    assert counter.get_total_flops() == 2 * 4 * 8 * 16 * 5
    assert not products.may_serve(x.double()) and not products.may_serve(torch.empty(1, device="meta"))


@pytest.mark.skipif(not products.has_onednn(), reason="torch without oneDNN")
def test_in_sampling_no_row_depends_on_the_others():
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


def test_sampling_never_uses_the_kernels_of_training(monkeypatch: pytest.MonkeyPatch):
    """A small linear layer and every MLP are torch's own where no gradient is wanted, at any batch size."""
    monkeypatch.setattr(products, "_Linear", None)
    monkeypatch.setattr(feed_forward, "_Mlp", None)
    with torch.no_grad():
        FeedForward(8, 16)(torch.randn(1, 4, 8))
