"""Wrong codes: chunks in other orders, other samples' frames, and upstream's own ways with them."""

import itertools
from pathlib import Path

import pytest
import torch
from chains import numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import examples
from torch import Tensor
from worlds import chi_square_p_value

from cdcd_video.contrast.negatives import chunk_orders, others, reordered, shifted
from cdcd_video.diffusion.upstream_quirks import UPSTREAM, Quirks


def places(batch: int, num_tokens: int) -> Tensor:
    """(B, N) codes that are all different, so that each tells where it came from."""
    return torch.arange(batch * num_tokens).view(batch, num_tokens)


def in_chunks(row: list[int], num_chunks: int) -> list[list[int]]:
    """As even as they can be: token p belongs to chunk floor(p chunks / N)."""
    return [
        [code for place, code in enumerate(row) if place * num_chunks // len(row) == chunk]
        for chunk in range(num_chunks)
    ]


# --------------------------------------------------------------------------------------------------------------- orders


@settings(max_examples=examples(60), deadline=None)
@given(batch=st.integers(1, 4), num=st.integers(1, 12), chunks=st.integers(2, 9), seed=st.integers(0, 2**31))
def test_orders_are_permutations_and_never_the_one_that_was_there(batch, num, chunks, seed):
    orders = chunk_orders(batch, num, chunks, torch.Generator().manual_seed(seed))
    assert orders.shape == (batch, num, chunks)
    identity = torch.arange(chunks)
    assert torch.equal(orders.sort(-1).values, identity.expand_as(orders))
    assert (orders != identity).any(-1).all()
    assert torch.equal(orders, chunk_orders(batch, num, chunks, torch.Generator().manual_seed(seed)))


def test_every_order_but_one_is_as_likely_as_any():
    """The identity's draws go to the turn by one place; 60,000 draws of three chunks, of which there are six orders."""
    orders = chunk_orders(20_000, 3, 3, torch.Generator().manual_seed(0)).view(-1, 3)
    law = dict.fromkeys(itertools.permutations(range(3)), 1 / 6)
    law[(1, 2, 0)] += law.pop((0, 1, 2))
    counts = torch.tensor([(orders == torch.tensor(order)).all(-1).sum() for order in law])
    assert counts.sum() == len(orders)
    assert chi_square_p_value(counts, torch.tensor(list(law.values()), dtype=torch.float64)) > 1e-4


def test_each_sample_has_its_own_orders_and_upstream_has_one_for_all():
    orders = chunk_orders(16, 10, 8, torch.Generator().manual_seed(0))
    assert len(orders.flatten(0, 1).unique(dim=0)) > 150  # of 40,320 orders, 160 draws are nearly all different
    quirky = chunk_orders(16, 10, 8, torch.Generator().manual_seed(0), Quirks(one_order_for_all=True))
    assert quirky.shape == orders.shape and torch.equal(quirky, quirky[:1].expand_as(quirky))
    assert len(quirky[0].unique(dim=0)) == 10


def test_upstreams_order_may_be_the_one_that_was_there():
    generator, quirks = torch.Generator().manual_seed(0), Quirks(one_order_for_all=True)
    kept = [torch.equal(chunk_orders(1, 1, 2, generator, quirks)[0, 0], torch.arange(2)) for _ in range(100)]
    assert 30 < sum(kept) < 70


# ------------------------------------------------------------------------------------------------------ chunks put there


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data(), batch=st.integers(1, 3), num=st.integers(1, 4), chunks=st.integers(2, 9))
def test_chunks_are_put_in_their_new_order(data, batch, num, chunks):
    """Whatever is left over when N is divided by the number of chunks: no chunk is longer than another by more than 1."""
    num_tokens = data.draw(st.integers(chunks, 40))
    codes = places(batch, num_tokens)
    orders = chunk_orders(batch, num, chunks, torch.Generator().manual_seed(data.draw(st.integers(0, 2**31))))
    moved = reordered(codes, orders)
    assert moved.shape == (batch, num, num_tokens) and moved.dtype == codes.dtype
    for row, negatives, row_orders in zip(codes.tolist(), moved.tolist(), orders.tolist(), strict=True):
        pieces = in_chunks(row, chunks)
        assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
        for negative, order in zip(negatives, row_orders, strict=True):
            assert negative == [code for chunk in order for code in pieces[chunk]]
            assert sorted(negative) == row and negative != row


def test_with_the_quirk_the_tail_stays():
    codes, orders = places(2, 19), torch.tensor([[[3, 0, 2, 1]], [[1, 0, 3, 2]]])
    moved = reordered(codes, orders, Quirks(tail_stays=True))
    pieces = [list(range(start, start + 4)) for start in range(0, 16, 4)]
    assert moved[0, 0].tolist() == [code for chunk in (3, 0, 2, 1) for code in pieces[chunk]] + [16, 17, 18]
    assert moved[1, 0, 16:].tolist() == codes[1, 16:].tolist()
    assert not torch.equal(reordered(codes, orders)[..., 16:], codes[:, None, 16:])
    even = places(2, 16)
    assert torch.equal(reordered(even, orders), reordered(even, orders, Quirks(tail_stays=True)))


@pytest.mark.parametrize("num_tokens", [8, 19, 64, 67])
def test_shifted_chunks_are_one_place_earlier(num_tokens):
    codes = places(3, num_tokens)
    moved = shifted(codes, 8)
    assert moved.shape == (3, 1, num_tokens)
    for row, negative in zip(codes.tolist(), moved[:, 0].tolist(), strict=True):
        first, *rest = in_chunks(row, 8)
        assert negative == [code for piece in (*rest, first) for code in piece]


def test_shifted_as_upstream_shifts_loses_the_last_chunk():
    codes = places(1, 24)
    assert shifted(codes, 8, Quirks(shift_repeats_first=True, tail_stays=True))[0, 0].tolist() == [
        *range(3, 21)
    ] + 2 * [*range(3)]


# ----------------------------------------------------------------------------------------------------------- other frames


@settings(max_examples=examples(40), deadline=None)
@given(data=st.data(), batch=st.integers(2, 12))
def test_others_are_other_samples_and_all_different_ones(data, batch):
    num = data.draw(st.integers(1, batch - 1))
    sample = torch.arange(batch).unsqueeze(-1).expand(-1, 3)
    found = others(sample, num)
    assert found.shape == (batch, num, 3)
    for own, rows in enumerate(found[..., 0].tolist()):
        assert own not in rows and len(set(rows)) == num
    assert torch.equal(found[..., 0], found[..., 2])
    assert found[..., 0].flatten().bincount(minlength=batch).tolist() == [num] * batch  # each serves equally often


# ---------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("chunks", [0, 1])
def test_a_single_chunk_has_no_other_order(chunks):
    with pytest.raises(ValueError, match=f"at least two chunks, not {chunks}"):
        chunk_orders(2, 3, chunks, torch.Generator())


@pytest.mark.parametrize("quirks", [Quirks(), UPSTREAM], ids=["right", "upstream"])
def test_more_chunks_than_tokens_are_refused(quirks):
    with pytest.raises(ValueError, match="5 tokens do not make 8 chunks"):
        reordered(places(2, 5), chunk_orders(2, 3, 8, torch.Generator()), quirks)
    with pytest.raises(ValueError, match="5 tokens do not make 8 chunks"):
        shifted(places(2, 5), 8, quirks)


@pytest.mark.parametrize("num", [0, 4, 10])
def test_a_batch_has_only_so_many_others(num):
    with pytest.raises(ValueError, match=f"a batch of 4 has 3 other samples, not {num}"):
        others(places(4, 5), num)


# ------------------------------------------------------------------------------------------------------ upstream's numbers


@pytest.mark.shared
def test_shift_is_upstreams(shared_dir: Path):
    stored = numbers(shared_dir, "misc")
    codes, expected = stored["in.neg_x"], stored["out.neg_shift"]
    assert torch.equal(shifted(codes, 8, UPSTREAM)[:, 0], expected)
    right = shifted(codes, 8)[:, 0]
    is_lost = torch.zeros(64, dtype=torch.bool).index_fill(0, torch.arange(48, 56), True)  # the last chunk's new place
    assert torch.equal(right[:, ~is_lost], expected[:, ~is_lost])
    assert torch.equal(expected[:, is_lost], codes[:, :8]) and torch.equal(right[:, is_lost], codes[:, 56:])
    assert torch.equal(right.sort(-1).values, codes.sort(-1).values)
    assert not torch.equal(expected.sort(-1).values, codes.sort(-1).values)


@pytest.mark.shared
@pytest.mark.parametrize("name", [f"seed{seed}" for seed in range(4)] + ["odd_seed0"])
def test_random_is_upstreams(shared_dir: Path, name: str):
    """Given its order, which Python's generator drew: the chunks tell it, and it is one for both samples."""
    stored = numbers(shared_dir, "misc")
    codes, expected = stored["in.neg_x_odd" if "odd" in name else "in.neg_x"], stored[f"out.neg_random_{name}"]
    length = codes.shape[1] // 8
    before, after = (values[:, : 8 * length].unflatten(1, (8, length)) for values in (codes, expected))
    is_from = (after.unsqueeze(2) == before.unsqueeze(1)).all(-1)  # (B, place, chunk)
    assert (is_from.sum(-1) == 1).all() and torch.equal(is_from[0], is_from[1])
    orders = is_from.long().argmax(-1).unsqueeze(1)
    assert torch.equal(orders.sort(-1).values, torch.arange(8).expand_as(orders))
    assert torch.equal(reordered(codes, orders, UPSTREAM)[:, 0], expected)
    right = reordered(codes, orders)[:, 0]
    if codes.shape[1] % 8:
        assert torch.equal(expected[:, 8 * length :], codes[:, 8 * length :])
        assert not torch.equal(right[:, 8 * length :], codes[:, 8 * length :])
    else:
        assert torch.equal(right, expected)
