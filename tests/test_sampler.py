"""Walks with a perfect denoiser reproduce p(x_0); each video is its own."""

import itertools

import pytest
import torch
from worlds import KINDS, World, chi_square_p_value, kinds, world

from cdcd_video.diffusion.categorical import draw, guided, truncate_logits
from cdcd_video.diffusion.sampler import confidence_walk, even_times, walk

DRAWS = 20_000


def oracle(tiny: World, process):
    """The perfect denoiser for a row of many copies of the world, side by side: (1, copies * N)."""
    num_tokens, base = len(tiny.source), tiny.num_codes + 1
    every = torch.cartesian_prod(*[torch.arange(base)] * num_tokens).view(-1, num_tokens)

    def denoise(x_t, t):
        table = tiny.log_posterior(process, every, t.double().expand(len(every)))
        which = (x_t.view(-1, num_tokens) * base ** torch.arange(num_tokens - 1, -1, -1)).sum(-1)
        return table[which].view(1, -1, tiny.num_codes)

    return denoise


def drawn_states(tiny: World, process, seed=0, sampler=walk, **how) -> torch.Tensor:
    """How often each state comes out of `DRAWS` walks."""
    source = tiny.source.repeat(DRAWS).unsqueeze(0)
    x_0 = sampler(oracle(tiny, process), process, source, generators=[torch.Generator().manual_seed(seed)], **how)
    num_tokens = len(tiny.source)
    digits = tiny.num_codes ** torch.arange(num_tokens - 1, -1, -1)
    return (x_0.view(-1, num_tokens) * digits).sum(-1).bincount(minlength=len(tiny.p))


@pytest.mark.parametrize("num_steps", [1, 3, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_one_token_is_drawn_exactly_with_any_number_of_steps(kind, num_steps):
    tiny = world(4, 1)
    counts = drawn_states(tiny, kinds(4)[kind], num_steps=num_steps, seed=num_steps)
    assert chi_square_p_value(counts, tiny.p) > 1e-4


def exact_law(tiny: World, process, times) -> torch.Tensor:
    """What `walk` draws from, without any drawing: the reverse kernels over whole frames of N tokens multiplied out."""
    num_tokens, base = len(tiny.source), tiny.num_codes + 1
    every = torch.cartesian_prod(*[torch.arange(base)] * num_tokens).view(-1, num_tokens)
    source = tiny.source.expand_as(every)
    ones = torch.ones(len(every), dtype=torch.float64)

    def joint(log_p):  # (B, N, K+1) -> (B, (K+1) ** N)
        return log_p[:, torch.arange(num_tokens), every].sum(-1).exp()

    p = joint(process.log_marginal(torch.zeros_like(every[:1]), ones[:1], source[:1]))[0]
    for t, s in itertools.pairwise(times):
        log_p0 = tiny.log_posterior(process, every, t * ones)
        p = p @ joint(process.log_reverse(log_p0, every, s * ones, t * ones, source))
    is_clean = (every < tiny.num_codes).all(-1)
    assert p[~is_clean].sum() == 0
    return p[is_clean]


@pytest.mark.parametrize("kind", KINDS)
def test_one_token_without_any_drawing(kind):
    """At uneven times, p(x_0) to rounding."""
    tiny = world(4, 1)
    p = exact_law(tiny, kinds(4)[kind], (1.0, 0.9, 0.35, 0.3, 0.0))
    torch.testing.assert_close(p, tiny.p, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_two_dependent_tokens_are_drawn_ever_better_with_more_steps(kind):
    """Tokens move apart within a step, which costs dependence; the cost goes away like 1 / S."""
    pair, process = world(3, 2), kinds(3)[kind]
    laws = [exact_law(pair, process, even_times(steps).tolist()) for steps in (1, 8, 64)]
    distance = [(law - pair.p).abs().sum().item() / 2 for law in laws]
    assert distance[0] > 0.1
    assert distance[1] < distance[0] / 4 and distance[2] < distance[1] / 6
    for steps, law in zip((1, 8), laws, strict=False):
        counts = drawn_states(pair, process, num_steps=steps)
        assert chi_square_p_value(counts, law) > 1e-4
    assert chi_square_p_value(drawn_states(pair, process, num_steps=1), pair.p) < 1e-12


def test_the_chi_square_test_would_notice():
    """Its power: a sampler that moves 2% of the mass from one state to another is caught 99 times of 100."""
    pair = world(3, 2)
    wrong = pair.p.clone()
    largest, smallest = wrong.argmax(), wrong.argmin()
    wrong[largest] -= 0.02
    wrong[smallest] += 0.02
    generator = torch.Generator().manual_seed(0)
    caught = [
        chi_square_p_value(torch.multinomial(wrong, DRAWS, True, generator=generator).bincount(minlength=9), pair.p)
        < 1e-4
        for _ in range(100)
    ]
    assert sum(caught) >= 99


def by_row(num_codes):
    """A denoiser without any matrix product, so that its own result is the same in any batch."""

    def denoise(x_t, t):
        phase = (x_t.roll(1, -1) * 7 + x_t * 3 + 1).unsqueeze(-1) * torch.arange(1, num_codes + 1)
        return 2 * torch.cos(phase.float() + t[:, None, None])

    return denoise


@pytest.mark.parametrize("how", [{}, {"temperature": 0.7, "top_p": 0.8}, {"top_k": 3}], ids=["plain", "top-p", "top-k"])
@pytest.mark.parametrize("sampler, kind", [*((walk, kind) for kind in KINDS), (confidence_walk, "mask")])
def test_a_video_does_not_depend_on_its_batch(sampler, kind, how):
    process = kinds(37)[kind]
    source = torch.randint(37, (5, 13), generator=torch.Generator().manual_seed(0))

    def drawn(rows):
        generators = [torch.Generator().manual_seed(100 + row) for row in rows]
        return sampler(by_row(37), process, source[rows], 6, generators, **how)

    together = drawn([0, 1, 2, 3, 4])
    assert not torch.equal(together[0], together[1])
    for rows in ([0], [3], [4, 2], [2, 0, 1]):
        assert torch.equal(drawn(rows), together[rows])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_codes_comes_out(kind):
    source = torch.full((2, 50), 5)  # an empty earlier frame
    source[1] = 2
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    x_0 = walk(by_row(5), kinds(5)[kind], source, 4, generators, top_k=1)
    assert x_0.min() >= 0 and x_0.max() < 5


def test_temperature_0_takes_the_likeliest_whatever_the_seed():
    favourite = torch.arange(8) % 5

    def denoise(x_t, t):
        return torch.nn.functional.one_hot(favourite, 5).float().expand(len(x_t), -1, -1)

    for kind in ("mask", "replace", "hybrid"):
        for seed in range(3):
            source = torch.full((1, 8), 5)
            x_0 = walk(denoise, kinds(5)[kind], source, 3, [torch.Generator().manual_seed(seed)], temperature=0.0)
            assert torch.equal(x_0[0], favourite)


def test_any_falling_times_will_do_and_others_are_refused():
    tiny, process = world(4, 1), kinds(4)["hybrid"]
    times = torch.tensor([1.0, 0.95, 0.4, 0.0], dtype=torch.float64)
    assert chi_square_p_value(drawn_states(tiny, process, num_steps=0, times=times), tiny.p) > 1e-4
    assert even_times(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    for wrong in ([1.0, 0.5], [0.9, 0.0], [1.0, 0.2, 0.5, 0.0], [1.0]):
        with pytest.raises(ValueError, match="fall from 1 to 0"):
            drawn_states(tiny, process, num_steps=0, times=torch.tensor(wrong, dtype=torch.float64))
    with pytest.raises(ValueError, match="one generator per video"):
        walk(by_row(4), process, torch.zeros(2, 3, dtype=torch.int64), 2, [torch.Generator()])


def test_confidence_settles_the_sure_first():
    """Token 1 is certain, token 0 is so once token 1 stands: surest-first gets both right, in two steps, always."""
    process = kinds(4)["mask"]

    def denoise(x_t, t):
        logits = torch.zeros(len(x_t), 2, 4)
        logits[:, 1, 2] = 50.0
        logits[:, 0, 3] = torch.where(x_t[:, 1] == 2, 50.0, 0.0)
        return logits

    generators = [torch.Generator().manual_seed(seed) for seed in range(20)]
    x_0 = confidence_walk(denoise, process, torch.zeros(20, 2, dtype=torch.int64), 2, generators)
    assert (x_0 == torch.tensor([3, 2])).all()
    ancestral = walk(denoise, process, torch.zeros(20, 2, dtype=torch.int64), 2, generators)
    assert not (ancestral == torch.tensor([3, 2])).all()
    with pytest.raises(ValueError, match="kind `mask`"):
        confidence_walk(denoise, kinds(4)["bridge"], torch.zeros(20, 2, dtype=torch.int64), 2, generators)


def test_an_index_of_no_weight_is_never_drawn():
    p = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0])
    ends = torch.tensor([0.0, 0.29999, 0.30001, 1 - 2**-24])
    assert draw(p.expand(4, -1), ends).tolist() == [1, 1, 3, 3]
    uniforms = torch.rand(DRAWS, generator=torch.Generator().manual_seed(0))
    counts = draw(5 * p.expand(DRAWS, -1), uniforms).bincount(minlength=5)  # weights need no normalising
    assert chi_square_p_value(counts, p) > 1e-4


def test_truncation_keeps_the_smallest_set_and_normalises():
    p = torch.tensor([0.1, 0.4, 0.2, 0.3])
    log_p = p.log()
    for how, kept in (
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.39}, [0, 1, 0, 0]),
        ({"top_p": 0.41}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.89}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 9}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.89, "top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"temperature": 0.0}, [0, 1, 0, 0]),
        ({"temperature": 0.5}, (p.square() / p.square().sum()).tolist()),
    ):
        torch.testing.assert_close(truncate_logits(log_p + 3, **how).exp(), torch.tensor(kept, dtype=torch.float32))
    for wrong in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}):
        with pytest.raises(ValueError, match="top_p"):
            truncate_logits(log_p, **wrong)


def test_guidance_interpolates_and_exaggerates():
    c, u = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([0.0, 0.5, 3.0])
    torch.testing.assert_close(guided(c, u, 1.0), c.log_softmax(-1))
    torch.testing.assert_close(guided(c + 7, u - 2, 0.0), u.log_softmax(-1))
    torch.testing.assert_close(guided(c, u, 3.0), (u + 3 * (c - u)).log_softmax(-1))
