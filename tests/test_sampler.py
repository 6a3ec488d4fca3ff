"""Walks with a perfect denoiser reproduce p(x_0); each video is its own.

Every comparison with a law is Pearson's test on `DRAWS` draws at level `LEVEL`. What that finds, and how surely, is
worked out in `test_the_power_of_these_tests`.
"""

import itertools
import math

import pytest
import torch
from worlds import (
    KINDS,
    Jump,
    World,
    chi_square_p_value,
    chi_square_power,
    drawn_states,
    exact_law,
    independent_world,
    jumps,
    kinds,
    prior,
    sample_reverse,
    world,
)

from cdcd_video.diffusion.categorical import guided, sample_categorical
from cdcd_video.diffusion.sampler import SAMPLERS, even_times, sample_ancestral, sample_by_purity
from cdcd_video.diffusion.vq_diffusion import cdcd_chain

DRAWS = 20_000
LEVEL = 1e-4


def looks_drawn_from(p, counts) -> bool:
    assert counts.sum() == DRAWS
    return chi_square_p_value(counts, p) > LEVEL


# ------------------------------------------------------------------------------------------------ the law of a walk


@pytest.mark.sweep
@pytest.mark.parametrize("num_steps", [1, 3, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_one_token_is_sampled_exactly_with_any_number_of_steps(kind, num_steps):
    tiny = world(4, 1)
    counts = drawn_states(tiny, kinds(4)[kind], sample_ancestral, DRAWS, seed=num_steps, num_steps=num_steps)
    assert looks_drawn_from(tiny.p, counts)


@pytest.mark.parametrize("kind", KINDS)
def test_one_token_without_any_randomness(kind):
    """At uneven times, p(x_0) to rounding."""
    tiny = world(4, 1)
    p = exact_law(tiny, kinds(4)[kind], jumps((1.0, 0.9, 0.35, 0.3, 0.0)))
    torch.testing.assert_close(p, tiny.p, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_independent_tokens_are_exact_with_any_number_of_steps(kind):
    tiny, process = independent_world(3, 3), kinds(3)[kind]
    for times in ((1.0, 0.0), (1.0, 0.8, 0.15, 0.0)):
        torch.testing.assert_close(exact_law(tiny, process, jumps(times)), tiny.p, rtol=0, atol=1e-12)
    assert looks_drawn_from(tiny.p, drawn_states(tiny, process, sample_ancestral, DRAWS, num_steps=3))


@pytest.mark.parametrize("kind", KINDS)
def test_two_dependent_tokens_are_sampled_ever_better_with_more_steps(kind):
    """Tokens move apart within a step, which costs dependence; the cost goes away like 1 / S."""
    pair, process = world(3, 2), kinds(3)[kind]
    laws = {steps: exact_law(pair, process, jumps(even_times(steps).tolist())) for steps in (1, 8, 64)}
    distance = {steps: (law - pair.p).abs().sum().item() / 2 for steps, law in laws.items()}
    assert distance[1] > 0.1
    assert distance[8] < distance[1] / 4 and distance[64] < distance[8] / 6
    for steps in (1, 8):
        counts = drawn_states(pair, process, sample_ancestral, DRAWS, num_steps=steps)
        assert looks_drawn_from(laws[steps], counts)
        assert not looks_drawn_from(pair.p, counts)


def test_three_dependent_tokens():
    """27 states; the walk of few steps is told from p(x_0), and that of 64 is as good as p(x_0) for this test."""
    trio, process = world(3, 3), kinds(3)["mask"]
    few, many = (exact_law(trio, process, jumps(even_times(steps).tolist())) for steps in (4, 64))
    counts = drawn_states(trio, process, sample_ancestral, DRAWS, num_steps=4)
    assert looks_drawn_from(few, counts) and not looks_drawn_from(trio.p, counts)
    assert chi_square_power(many, trio.p, DRAWS, LEVEL) < 0.01
    assert looks_drawn_from(trio.p, drawn_states(trio, process, sample_ancestral, DRAWS, num_steps=64))


def test_cdcds_own_chain_with_skipped_steps():
    """20 steps of which 5 are walked; from all [MASK], which differs from the chain's end by one code in 100,000."""
    process = cdcd_chain(3, 20)
    one, pair = world(3, 1), world(3, 2)
    assert looks_drawn_from(one.p, drawn_states(one, process, sample_ancestral, DRAWS, num_steps=5))
    law = exact_law(pair, process, jumps(even_times(5).tolist()))
    assert looks_drawn_from(law, drawn_states(pair, process, sample_ancestral, DRAWS, num_steps=5))


def test_two_masked_tokens_in_closed_form():
    """With S steps of the linear schedule, both tokens settle in one step with probability 1 / S, and are then drawn
    apart; else one is drawn given the other. So S steps draw from p(x_0) with 1 / S of independent tokens mixed in.
    """
    pair, process = world(3, 2), kinds(3)["mask"]
    for num_steps in (1, 3, 10, 64):
        law = exact_law(pair, process, jumps(even_times(num_steps).tolist()))
        torch.testing.assert_close(law, mixed(pair, 1 / num_steps), rtol=0, atol=1e-12)
    counts = drawn_states(pair, process, sample_ancestral, DRAWS, num_steps=64)
    assert looks_drawn_from(pair.p, counts)  # 1 / 64 is below what the test can see


def two_futures(num_tokens):
    """Two equally likely frames, all tokens 0 or all 1; every other frame mixes the two futures."""
    p = torch.zeros(2**num_tokens, dtype=torch.float64)
    p[0] = p[-1] = 0.5
    return World(2, p, torch.zeros(num_tokens, dtype=torch.int64))


def mixed_share(num_tokens, num_steps):
    """docs/diffusion.md, section 11: the first step that settles m of the N tokens settles them independently, and one
    future is left only if they agree.
    """
    total = 0.0
    for step, size in itertools.product(range(1, num_steps + 1), range(1, num_tokens + 1)):
        first = math.comb(num_tokens, size) * (1 - step / num_steps) ** (num_tokens - size) / num_steps**size
        total += first * 0.5 ** (size - 1)
    return 1 - total


def test_one_step_mixes_two_futures_and_one_token_at_a_time_does_not():
    """Without any sampling: whole kernels multiplied out. Two tokens are mixed in half of the frames after one step."""
    assert mixed_share(2, 1) == 0.5
    process = kinds(2)["mask"]
    for num_tokens, num_steps in ((2, 1), (2, 4), (3, 1), (3, 3), (4, 1), (4, 8)):
        tiny = two_futures(num_tokens)
        law = exact_law(tiny, process, jumps(even_times(num_steps).tolist()))
        is_mixed = tiny.p == 0
        assert law[is_mixed].sum().item() == pytest.approx(mixed_share(num_tokens, num_steps), abs=1e-12)
        assert law[~is_mixed][0] == pytest.approx(law[~is_mixed][1].item(), abs=1e-12), "both futures are as likely"
    for num_tokens in (2, 4):
        tiny = two_futures(num_tokens)
        how = {"sharpness": 0.0, "num_steps": num_tokens, "rows": 1000}
        counts = drawn_states(tiny, process, sample_by_purity, 1000, **how)
        assert counts[tiny.p == 0].sum() == 0 and chi_square_p_value(counts, tiny.p) > LEVEL


# ---------------------------------------------------------------------------------------------- what would be noticed


def mixed(pair, share):
    """p(x_0) with a share of independent tokens of the same marginals mixed in: the least wrong of wrong samplers."""
    grid = pair.p.view(pair.num_codes, pair.num_codes)
    apart = (grid.sum(1, keepdim=True) * grid.sum(0, keepdim=True)).flatten()
    return torch.lerp(pair.p, apart, share)


def test_the_power_of_these_tests():
    """20,000 draws at level 1e-4 on nine states: a sampler that has lost the dependence of the tokens in 10 % of its
    draws is caught with probability above 0.9999, in 8 % above 0.99; in 1.6 % (64 steps) it passes for right.
    Rolled dice agree with the formula.
    """
    pair = world(3, 2)
    power = {share: chi_square_power(mixed(pair, share), pair.p, DRAWS, LEVEL) for share in (0.1, 0.08, 0.05, 1 / 64)}
    assert power[0.1] > 0.9999 and power[0.08] > 0.99 and power[1 / 64] < 0.01
    generator = torch.Generator().manual_seed(0)

    def share_caught(q, level, repeats=200):
        rolls = torch.multinomial(q, repeats * DRAWS, True, generator=generator).view(repeats, DRAWS)
        return sum(chi_square_p_value(roll.bincount(minlength=9), pair.p) < level for roll in rolls) / repeats

    assert share_caught(mixed(pair, 0.1), LEVEL) == 1.0
    assert abs(share_caught(mixed(pair, 0.05), LEVEL) - power[0.05]) < 0.14  # four standard errors
    assert abs(share_caught(pair.p, 0.1) - 0.1) < 0.08  # what is right is caught as often as the level says
    assert chi_square_power(pair.p, pair.p, DRAWS, 0.1) == pytest.approx(0.1)


def shifted(num_levels, skip):
    """Upstream's way to skip: it stands at level i and uses the one-step posterior of level i - skip, which it has not
    reached, instead of that of its own jump.
    """
    visited = list(range(num_levels, 0, -1 - skip))
    visited += [] if visited[-1] == 1 else [1]
    read = [i - skip if i > skip + 1 else i for i in visited]
    return [Jump(i / num_levels, j / num_levels, (j - 1) / num_levels) for i, j in zip(visited, read, strict=True)]


def jump_walk(denoise, process, source, generators, steps):
    """`walk` through any steps, right or wrong."""
    x_t = prior(process, source, generators[0])
    for at, t, s in steps:
        one = torch.ones(len(source), dtype=torch.float64)
        x_t = sample_reverse(
            process, denoise(x_t, at * one).log_softmax(-1), x_t, s * one, t * one, source, generators[0]
        )
    return x_t


def test_a_wrong_sampler_is_rejected():
    """Upstream's skipping draws even one token wrongly where codes are replaced; where they are masked, it leaves too
    much for the last step, which shows as soon as tokens depend on each other.
    """
    levels, skip = 64, 7
    visited = [jump.at for jump in shifted(levels, skip)] + [0.0]
    one, replace = world(4, 1), kinds(4)["uniform"]
    pair, mask = world(3, 2), kinds(3)["mask"]
    for tiny, process in ((one, replace), (pair, mask)):
        right, wrong = (exact_law(tiny, process, steps) for steps in (jumps(visited), shifted(levels, skip)))
        assert chi_square_power(wrong, right, DRAWS, LEVEL) > 0.99
        counts = drawn_states(tiny, process, jump_walk, DRAWS, steps=shifted(levels, skip))
        assert looks_drawn_from(wrong, counts) and not looks_drawn_from(right, counts)
        assert looks_drawn_from(right, drawn_states(tiny, process, jump_walk, DRAWS, steps=jumps(visited)))
        times = torch.tensor(visited, dtype=torch.float64)
        assert looks_drawn_from(right, drawn_states(tiny, process, sample_ancestral, DRAWS, num_steps=0, times=times))
    errors = [(exact_law(pair, mask, steps) - pair.p).abs().sum() for steps in (jumps(visited), shifted(levels, skip))]
    assert errors[1] > 3 * errors[0]


# -------------------------------------------------------------------------------------------------- videos and batches


def by_row(num_codes):
    """A denoiser without any matrix product, so that its own result is the same in any batch."""

    def denoise(x_t, t):
        phase = (x_t.roll(1, -1) * 7 + x_t * 3 + 1).unsqueeze(-1) * torch.arange(1, num_codes + 1)
        return 2 * torch.cos(phase.float() + t[:, None, None])

    return denoise


def guided_by_row(num_codes):
    """The same with guidance: with and without the sentence in one batch, as `generate` does it."""
    plain = by_row(num_codes)

    def denoise(x_t, t):
        both = plain(torch.cat([x_t, (x_t + 1) % (num_codes + 1)]), torch.cat([t, t]))
        return guided(both[: len(x_t)], both[len(x_t) :], 2.5)

    return denoise


DIALS = {
    "plain": {},
    "top-p": {"temperature": 0.7, "top_p": 0.8},
    "top-k": {"top_k": 3},
    "likeliest": {"temperature": 0.0},
}


@pytest.mark.sweep
@pytest.mark.parametrize("denoise", [by_row(37), guided_by_row(37)], ids=["one model", "guided"])
@pytest.mark.parametrize("how", DIALS.values(), ids=DIALS)
@pytest.mark.parametrize(
    "order, kind", [*(("ancestral", kind) for kind in KINDS), ("confidence", "mask"), ("purity", "mask")]
)
def test_a_video_does_not_depend_on_its_batch(order, kind, how, denoise):
    process = kinds(37)[kind]
    source = torch.randint(37, (5, 13), generator=torch.Generator().manual_seed(0))

    def drawn(rows):
        generators = [torch.Generator().manual_seed(100 + row) for row in rows]
        return SAMPLERS[order](denoise, process, source[rows], 6, generators, **how)

    together = drawn([0, 1, 2, 3, 4])
    assert not torch.equal(together[0], together[1]) or how == DIALS["likeliest"]
    for rows in ([0], [3], [4, 2], [2, 0, 1]):
        assert torch.equal(drawn(rows), together[rows])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_codes_comes_out(kind):
    source = torch.full((2, 50), 5)  # an empty earlier frame
    source[1] = 2
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    x_0 = sample_ancestral(by_row(5), kinds(5)[kind], source, 4, generators, top_k=1)
    assert x_0.min() >= 0 and x_0.max() < 5


def test_temperature_0_takes_the_likeliest_whatever_the_seed():
    favourite = torch.arange(8) % 5

    def denoise(x_t, t):
        return torch.nn.functional.one_hot(favourite, 5).float().expand(len(x_t), -1, -1)

    ways = [(sample_ancestral, kinds(5)[kind]) for kind in ("mask", "replace", "hybrid")]
    for way, process in (
        *ways,
        *((way, kinds(5)["mask"]) for way in SAMPLERS.values()),
        (sample_ancestral, cdcd_chain(5, 20)),
    ):
        for seed in range(3):
            source = torch.full((1, 8), 5)
            num_steps = 4
            x_0 = way(denoise, process, source, num_steps, [torch.Generator().manual_seed(seed)], temperature=0.0)
            assert torch.equal(x_0[0], favourite)


def test_any_falling_times_will_do():
    tiny, process = world(4, 1), kinds(4)["hybrid"]
    times = torch.tensor([1.0, 0.95, 0.4, 0.0], dtype=torch.float64)
    assert looks_drawn_from(tiny.p, drawn_states(tiny, process, sample_ancestral, DRAWS, num_steps=0, times=times))
    assert even_times(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("order", SAMPLERS)
def test_what_is_refused(order):
    source, process, two = torch.zeros(2, 3, dtype=torch.int64), kinds(4)["mask"], [torch.Generator()] * 2

    def refused(words, num_steps=2, generators=two, **how):
        with pytest.raises(ValueError, match=words):
            SAMPLERS[order](by_row(4), process, source, num_steps, generators, **how)

    for wrong in ([1.0, 0.5], [0.9, 0.0], [1.0, 0.2, 0.5, 0.0], [1.0, 0.5, 0.5, 0.0], [1.0], [1.0, float("nan"), 0.0]):
        refused("fall from 1 to 0", times=torch.tensor(wrong, dtype=torch.float64))
    refused("one generator per video", generators=two[:1])
    refused("at least one step", num_steps=0)
    for dial in ({"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}):
        refused("top_p", **dial)


def test_a_negative_sharpness_is_refused():
    with pytest.raises(ValueError, match="sharpness"):
        sample_by_purity(by_row(4), kinds(4)["mask"], torch.zeros(1, 3).long(), 2, [torch.Generator()], sharpness=-1.0)


def test_an_index_of_no_weight_is_never_sampled():
    p = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0])
    ends = torch.tensor([0.0, 0.29999, 0.30001, 1 - 2**-24])
    assert sample_categorical(p.expand(4, -1), ends).tolist() == [1, 1, 3, 3]
    uniforms = torch.rand(DRAWS, generator=torch.Generator().manual_seed(0))
    counts = sample_categorical(5 * p.expand(DRAWS, -1), uniforms).bincount(minlength=5)  # weights need no normalising
    assert looks_drawn_from(p, counts)
