"""How it learns, against its formulas written out: bound, auxiliary, contrast, and what is dropped or disturbed."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import worlds
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from cdcd_video.config import (
    CdcdContrastConfig,
    CodecConfig,
    ContrastConfig,
    DenoiserConfig,
    DiffusionConfig,
    FsqConfig,
    LossConfig,
)
from cdcd_video.contrast.negatives import chunk_orders, reordered
from cdcd_video.contrast_terms import Candidates, Comparison, Temperatures, contrast_terms, num_compared
from cdcd_video.contrast_terms.weighted_terms import with_other_partners
from cdcd_video.diffusion.categorical import truncate_logits
from cdcd_video.diffusion.process import InterpolatingProcess
from cdcd_video.diffusion.schedule import Times
from cdcd_video.errors import UserError
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.conditioning import Condition, with_dropped_captions
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_inputs import noisy_source, token_weights
from cdcd_video.objective import diffusion_objective, with_own_source, wrong_codes
from cdcd_video.records import CodePair, StepDraws, TextStates
from cdcd_video.training.step_draws import make_refine_draws, make_step_draws

LEVELS, PATCHES, GROUPS = (3, 2), 4, 2
NUM_CODES, NUM_TOKENS, NUM_STEPS, FULL_SHARE = 6, PATCHES * GROUPS, 4, 0.3
BOTH = LossConfig(contrast=ContrastConfig(frame_frame=0.02, frame_text=0.02))
PLAIN = LossConfig(contrast=ContrastConfig(frame_frame=0.0, frame_text=0.0))
DIFFUSION = DiffusionConfig(num_steps=NUM_STEPS, full_share=FULL_SHARE, source_jitter=0.3, caption_dropout=0.5)
KINDS = ("mask", "replace", "leaky bridge", "hybrid")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def codec() -> Codec:
    cfg = CodecConfig(
        layers=(0,),
        projection_width=8,
        groups=GROUPS,
        quantizer=FsqConfig(levels=LEVELS),
        decoder_width=32,
        decoder_layers=1,
        pixel_width=4,
        embed_width=32,
    )
    torch.manual_seed(0)
    made = Codec(cfg, clip_width=8, num_patches=PATCHES, joint_width=8, size_px=16)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def denoiser(codec) -> Denoiser:
    cfg = DenoiserConfig(width=32, num_layers=1, num_heads=2)
    torch.manual_seed(1)
    made = Denoiser(cfg, levels=LEVELS, table=codec.table, num_patches=PATCHES, groups=GROUPS, text_width=8)
    for parameter in made.parameters():  # fresh heads are zero; formulas are told apart by uneven logits
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


@pytest.fixture
def batch() -> CodePair:
    """Six examples: the first stands still; clips and captions come more than once."""
    stream = generator(5)

    def codes() -> Tensor:
        return torch.randint(NUM_CODES, (6, NUM_TOKENS), generator=stream)

    source, target = codes(), codes()
    target[0] = source[0]
    text = TextStates(
        torch.randn(6, 3, 8, generator=stream),
        torch.tensor([[True, True, True], [True, True, False]] * 3),
        normalize(torch.randn(6, 8, generator=stream), dim=-1),
    )
    far = codes()
    far[2] = source[2]
    return CodePair(
        source=source,
        target=target,
        first=codes(),
        has_first=torch.tensor([True, False] * 3),
        gap_s=torch.rand(6, generator=stream),
        age_s=torch.rand(6, generator=stream),
        text=text,
        clip=torch.tensor([0, 0, 1, 2, 3, 4]),
        caption=torch.tensor([0, 1, 1, 2, 3, 0]),
        far=far,
        before=codes(),
        before_gap_s=torch.tensor([0.5, 0.0, 0.5, 0.0, 0.5, 0.0]),
    )


def draws_of(batch: CodePair, loss: LossConfig, seed: int = 3, cfg: DiffusionConfig = DIFFUSION) -> StepDraws:
    return make_step_draws(batch, cfg, loss, generator(seed))


def pay(denoiser, process, codec, batch, loss, seed=3):
    """The objective, and what the denoiser was asked (x_t, t, condition) and answered (logits)."""
    calls = []
    handle = denoiser.register_forward_hook(lambda module, given, out: calls.append((*given, out)))
    try:
        terms = diffusion_objective(denoiser, process, codec, batch, draws_of(batch, loss, seed), DIFFUSION, loss)
    finally:
        handle.remove()
    (call,) = calls
    return terms, call


def test_times_and_corrupted_codes_can_be_handed_in(denoiser, codec, batch):
    """One noise level for all, and codes of the caller's own: what the denoiser is shown is that, and nothing is drawn."""
    process, own = worlds.kinds(NUM_CODES)["mask"], torch.full_like(batch.target, NUM_CODES)
    level = Times(torch.full((6,), NUM_STEPS), torch.ones(6))
    draws = replace(draws_of(batch, PLAIN), times=level, x_t=own)
    calls = []
    handle = denoiser.register_forward_hook(lambda module, given, out: calls.append(given))
    try:
        terms = [diffusion_objective(denoiser, process, codec, batch, draws, DIFFUSION, PLAIN) for _ in range(2)]
    finally:
        handle.remove()
    assert all(torch.equal(x_t, own) and (t == 1).all() for x_t, t, _ in calls)
    assert torch.equal(terms[0].total, terms[1].total)
    drawn = diffusion_objective(denoiser, process, codec, batch, draws_of(batch, PLAIN), DIFFUSION, PLAIN)
    assert not torch.equal(drawn.total, terms[0].total)


def bound_by_hand(process: InterpolatingProcess, p0: Tensor, x0: int, x_t: int, source: Tensor, index: int) -> float:
    """KL(q(x_s | x_t, x_0) || sum_j q(x_s | x_t, x_0 = j) p0_j) of one token, by Bayes on the whole matrices."""
    s, t = (index - 1) / NUM_STEPS, index / NUM_STEPS
    until_s, from_s = worlds.transition(process, 0.0, s, source), worlds.transition(process, s, t, source)
    joint = until_s[:NUM_CODES] * from_s[:, x_t]
    evidence = joint.sum(1, keepdim=True)
    # A clean code that cannot have led to x_t: then x_t never moved, whatever the model says.
    stays = one_hot(torch.tensor(x_t), NUM_CODES + 1).double()
    posterior = torch.where(evidence > 0, joint / evidence, stays)
    q, p = posterior[x0], p0 @ posterior
    return float((torch.xlogy(q, q) - torch.xlogy(q, p)).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_the_terms_equal_their_formulas(kind, denoiser, codec, batch):
    process = worlds.kinds(NUM_CODES)[kind]
    with torch.no_grad():
        terms, (x_t, t, condition, logits) = pay(denoiser, process, codec, batch, PLAIN)
    p0 = logits.double().softmax(-1)

    bound, losses, weights = 0.0, 0.0, 0.0
    at_end = 1 - FULL_SHARE + FULL_SHARE * NUM_STEPS
    for row in range(6):
        index = round(float(t[row]) * NUM_STEPS)
        importance = 1 / at_end if index == NUM_STEPS else 1 / (1 - FULL_SHARE)
        for n in range(NUM_TOKENS):
            x0, here = int(batch.target[row, n]), condition.source[row, n]
            kl = bound_by_hand(process, p0[row, n], x0, int(x_t[row, n]), here, index)
            bound += NUM_STEPS * importance * kl / (6 * NUM_TOKENS)
            weight = PLAIN.changed if x0 != batch.source[row, n] else 1.0
            weight *= PLAIN.still_clip if row == 0 else 1.0
            losses -= weight * math.log(p0[row, n, x0])
            weights += weight
    assert float(terms.parts["bound"]) == pytest.approx(bound, rel=1e-4)
    assert float(terms.parts["auxiliary"]) == pytest.approx(losses / weights, rel=1e-5)
    total = PLAIN.bound * bound + PLAIN.auxiliary * losses / weights
    assert float(terms.total) == pytest.approx(total, rel=1e-4)


def test_changed_and_still_codes_are_reported_apart(denoiser, codec, batch):
    with torch.no_grad():
        terms, (*_, logits) = pay(denoiser, worlds.kinds(NUM_CODES)["mask"], codec, batch, PLAIN)
    changed, still, right = [], [], []
    for row in range(6):
        for n in range(NUM_TOKENS):
            x0, scores = int(batch.target[row, n]), logits[row, n]
            has_changed = x0 != int(batch.source[row, n])
            (changed if has_changed else still).append(-float(scores.log_softmax(0)[x0]))
            if has_changed:
                right.append(int(scores.argmax()) == x0)
    for name, values in dict(auxiliary_changed=changed, auxiliary_still=still, right_changed=right).items():
        assert float(terms.parts[name]) == pytest.approx(sum(values) / len(values), rel=1e-4), name


def test_the_denoiser_gets_the_noisy_source_and_dropped_captions(denoiser, codec, batch):
    with torch.no_grad():
        _, (_, _, condition, _) = pay(denoiser, worlds.kinds(NUM_CODES)["mask"], codec, batch, PLAIN)
    is_dropped = (condition.text.tokens == 0).all((1, 2))
    assert (condition.source != batch.source).any() and 0 < is_dropped.sum() < 6
    assert torch.equal(condition.first, batch.first) and torch.equal(condition.has_first, batch.has_first)


def test_token_weights(batch):
    weights = token_weights(batch, LossConfig(changed=5.0, still_clip=0.25))
    assert torch.equal(weights[0], torch.full((NUM_TOKENS,), 0.25))
    expected = torch.where(batch.target[1:] != batch.source[1:], 5.0, 1.0)
    assert torch.equal(weights[1:], expected) and len(expected.unique()) == 2


def test_a_batch_in_which_nothing_has_a_weight_has_no_loss(denoiser, codec, batch):
    still = replace(batch, target=batch.source)
    for loss in (LossConfig(still_clip=0.0), LossConfig(still_clip=0.0, changed=0.0)):
        with torch.no_grad():
            terms, _ = pay(denoiser, worlds.kinds(NUM_CODES)["mask"], codec, still, loss)
        assert terms.parts["auxiliary"] == 0 and torch.isfinite(terms.total)


# ------------------------------------------------------------------------------------------------- CDCD's own contrast


@pytest.mark.parametrize("mode", ["step", "sample"])
def test_cdcds_contrast_is_subtracted_token_by_token(mode, denoiser, codec, batch):
    process, weight = worlds.kinds(NUM_CODES)["replace"], 0.01
    cdcd = CdcdContrastConfig(inter=weight, inter_mode=mode, num_negatives=2)
    with torch.no_grad():
        without, _ = pay(denoiser, process, codec, batch, PLAIN)
        terms, (x_t, t, condition, logits) = pay(denoiser, process, codec, batch, replace_loss(cdcd))
    p0 = logits.double().softmax(-1)
    pushed, at_end = 0.0, 1 - FULL_SHARE + FULL_SHARE * NUM_STEPS
    for row in range(6):
        index = round(float(t[row]) * NUM_STEPS)
        importance = NUM_STEPS * (1 / at_end if index == NUM_STEPS else 1 / (1 - FULL_SHARE))
        for other in ((row + 1) % 6, (row + 2) % 6):
            for n in range(NUM_TOKENS):
                wrong, here = int(batch.target[other, n]), condition.source[row, n]
                if wrong == int(batch.target[row, n]):
                    continue
                nats = -math.log(p0[row, n, wrong])
                if mode == "step":
                    nats = bound_by_hand(process, p0[row, n], wrong, int(x_t[row, n]), here, index)
                pushed -= importance * (1 + (index - 1) / NUM_STEPS) * weight / 2 * nats / (6 * NUM_TOKENS)
    assert float(terms.parts["cdcd"]) == pytest.approx(pushed, rel=1e-4)
    assert float(terms.total - without.total) == pytest.approx(pushed, rel=1e-3)


def replace_loss(cdcd: CdcdContrastConfig) -> LossConfig:
    return PLAIN.model_copy(update={"cdcd": cdcd})


def test_which_wrong_codes_are_made(batch):
    both = CdcdContrastConfig(intra=0.1, intra_mode="sample", num_chunks=4, inter=0.2, num_negatives=3)
    orders = draws_of(batch, replace_loss(both)).negative_orders
    intra, inter = wrong_codes(batch.target, both, orders)
    assert (intra.weight, intra.mode, inter.weight, inter.mode) == (0.1, "sample", 0.2, "sample")
    assert intra.codes.shape == inter.codes.shape == (6, 3, NUM_TOKENS)
    assert torch.equal(inter.codes[:, 0], batch.target.roll(-1, 0))
    assert torch.equal(intra.codes.sort(-1).values, batch.target.sort(-1).values[:, None].expand(-1, 3, -1))
    (shift,) = wrong_codes(batch.target, CdcdContrastConfig(intra=0.1, chunks="shift", num_chunks=4), None)
    assert torch.equal(shift.codes[:, 0], batch.target.roll(-2, 1))
    assert wrong_codes(batch.target, CdcdContrastConfig(), None) == ()


# ----------------------------------------------------------------------------------------------- dropped and disturbed


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_captions_is_dropped_whole(share):
    num = 4000
    stream = generator(1)
    tokens, embedding = (torch.rand(num, *size, generator=stream) + 0.1 for size in ((3, 2), (4,)))
    text = TextStates(tokens, torch.ones(num, 3, dtype=torch.bool), embedding)
    after = with_dropped_captions(text, share, torch.rand(num, 1, generator=generator(2)))
    is_dropped = (after.tokens == 0).all((1, 2))
    deviation = math.sqrt(share * (1 - share) / num)
    assert abs(float(is_dropped.float().mean()) - share) <= 4 * deviation
    for name in ("tokens", "is_word", "embedding"):
        assert torch.equal(getattr(after, name)[~is_dropped], getattr(text, name)[~is_dropped]), name
    assert (after.is_word[is_dropped] == torch.tensor([True, False, False])).all()
    assert (after.embedding[is_dropped] == 0).all()


def test_jitter_takes_codes_of_another_row_at_the_same_place():
    rows, places = 500, 400
    codes = torch.arange(rows)[:, None] * 1000 + torch.arange(places)
    uniforms = (torch.rand(rows, 1, generator=generator(1)), torch.rand(rows, places, generator=generator(2)))
    after = noisy_source(codes, 0.4, *uniforms)
    is_wrong = after != codes
    assert torch.equal(after[is_wrong], codes.roll(1, 0)[is_wrong])
    share = is_wrong.float().mean(1)
    assert abs(float(share.mean()) - 0.2) < 0.02, "uniform in [0, 0.4] has the mean 0.2"
    assert share.max() < 0.4 + 4 * math.sqrt(0.24 / places) and share.max() > 0.3 and share.min() < 0.05
    assert torch.equal(codes, noisy_source(codes, 0.0, *uniforms))


def test_own_sources_are_sampled_from_the_frame_before(denoiser, batch):
    process = worlds.kinds(NUM_CODES)["mask"]

    def own(share: float, temperature: float = 1.0) -> CodePair:
        return with_own_source(denoiser, process, batch, share, temperature, make_refine_draws(batch, generator(4)))

    none, every = own(0.0), own(1.0)
    assert torch.equal(none.source, batch.source)
    has_before = batch.before_gap_s > 0
    assert torch.equal(every.source[~has_before], batch.source[~has_before])
    assert (every.source[has_before] != batch.source[has_before]).any(1).all()
    assert every.source.min() >= 0 and every.source.max() < NUM_CODES, "a mask is never left behind"
    assert torch.equal(every.target, batch.target)
    moved = replace(batch, before=batch.before.roll(1, 1))
    other = with_own_source(denoiser, process, moved, 1.0, 0.0, make_refine_draws(moved, generator(4)))
    assert not torch.equal(other.source, own(1.0, 0.0).source), "it reads the frame before"


def test_two_generations_are_two_samples_one_from_the_other(denoiser, batch):
    process = worlds.kinds(NUM_CODES)["mask"]
    two = replace(batch, generations=2)
    draws = make_refine_draws(two, generator(4))
    own = with_own_source(denoiser, process, two, 1.0, 0.5, draws)

    gap_s, codes = batch.before_gap_s / 2, batch.before
    ages = [(batch.age_s - batch.before_gap_s).clamp_min(0), (batch.age_s - gap_s).clamp_min(0)]
    end = torch.ones(len(codes), dtype=torch.float64)
    for age_s, start, sample in zip(ages, draws.start, draws.sample, strict=True):
        x_t = process.start(codes, start)
        condition = Condition(codes, batch.first, batch.has_first, gap_s, age_s, batch.text)
        with torch.no_grad():
            log_p0 = truncate_logits(denoiser(x_t, end.float(), condition), 0.5, 1.0, 0)
        codes = process.posterior(x_t, torch.zeros_like(end), end, codes).sample(log_p0, sample)
    assert torch.equal(own.source, codes.where(batch.before_gap_s[:, None] > 0, batch.source))
    one = with_own_source(denoiser, process, batch, 1.0, 0.5, make_refine_draws(batch, generator(4)))
    assert not torch.equal(own.source, one.source)


# ------------------------------------------------------------------------------------------------------- the contrast


def info_nce_by_hand(anchor: Tensor, positive: Tensor, negatives: list[Tensor], temperature: float) -> float:
    pull = math.exp(float(anchor @ positive) / temperature)
    return -math.log(pull / (pull + sum(math.exp(float(anchor @ other) / temperature) for other in negatives)))


def some_logits() -> Tensor:
    return torch.randn(6, NUM_TOKENS, NUM_CODES, generator=generator(2))


def terms_of(batch, codec, cfg, logits=None, process="mask", temperatures=None):
    """The terms of some logits at some x_t, and the posteriors of the step."""
    process = worlds.kinds(NUM_CODES)[process]
    t = torch.tensor([0.25, 0.5, 0.5, 0.75, 1.0, 1.0], dtype=torch.float64)
    x_t = process.sample(batch.target, t, batch.source, generator(9))
    posterior = process.posterior(x_t, t - 0.25, t, batch.source)
    logits = some_logits() if logits is None else logits
    orders = chunk_orders(num_compared(cfg, 6), cfg.shuffled, cfg.num_chunks, generator(8)) if cfg.shuffled else None
    return contrast_terms(logits, posterior, batch, codec, cfg, temperatures, orders), posterior


def frame_frame_by_hand(drawn, batch, codec, temperature, *, inter=True, far=True, shuffled=None) -> list[float]:
    """As of commit fab3146, from sets of negatives; and, where asked, without some of them or with shuffled frames."""
    earlier, far_frames, clip = codec.embed(batch.source), codec.embed(batch.far), batch.clip.tolist()
    nats = []
    for row in range(len(drawn)):
        others = [earlier[other] for other in range(len(drawn)) if clip[other] != clip[row]] if inter else []
        if far and not torch.equal(batch.far[row], batch.source[row]):
            others.append(far_frames[row])
        for codes in () if shuffled is None else shuffled[row]:
            if not torch.equal(codes, batch.target[row]) and not torch.equal(codes, batch.source[row]):
                others.append(codec.embed(codes[None])[0])
        nats.append(info_nce_by_hand(drawn[row], earlier[row], others, temperature))
    return nats


def test_contrast_leaves_false_negatives_out(codec, batch):
    cfg = ContrastConfig(frame_frame=0.5, frame_text=2.0, temperature=0.3, share=1.0)
    with torch.no_grad():
        terms, _ = terms_of(batch, codec, cfg)
        drawn = codec.embed_soft(some_logits().softmax(-1))
        frame_frame = frame_frame_by_hand(drawn, batch, codec, 0.3)
    said, caption, frame_text = batch.text.embedding, batch.caption.tolist(), []
    for row in range(6):
        others = [said[other] for other in range(6) if caption[other] != caption[row]]
        frame_text.append(info_nce_by_hand(drawn[row], said[row], others, 0.3))
    assert float(terms["frame_frame"].nats) == pytest.approx(sum(frame_frame) / 6, rel=1e-4)
    assert float(terms["frame_text"].nats) == pytest.approx(sum(frame_text) / 6, rel=1e-4)
    assert float(terms["frame_frame"].weighted) == pytest.approx(0.5 * sum(frame_frame) / 6, rel=1e-4)
    assert float(terms["frame_text"].weighted) == pytest.approx(2.0 * sum(frame_text) / 6, rel=1e-4)


def test_a_placebo_pairs_each_frame_with_the_partners_of_the_next_row_and_never_with_its_own(codec, batch):
    cfg = ContrastConfig(frame_frame=0.5, frame_text=2.0, temperature=0.3, share=1.0, placebo=True)
    with torch.no_grad():
        terms, _ = terms_of(batch, codec, cfg)
        drawn = codec.embed_soft(some_logits().softmax(-1))
        earlier, far, said = codec.embed(batch.source), codec.embed(batch.far), batch.text.embedding
    clip, caption, nats = batch.clip.tolist(), batch.caption.tolist(), {"frame_frame": [], "frame_text": []}
    for row in range(6):
        after = (row + 1) % 6
        frames = [earlier[i] for i in range(6) if clip[i] not in (clip[row], clip[after])]
        frames += [far[after]] if not torch.equal(batch.far[after], batch.source[after]) else []
        nats["frame_frame"].append(info_nce_by_hand(drawn[row], earlier[after], frames, 0.3))
        captions = [said[i] for i in range(6) if caption[i] not in (caption[row], caption[after])]
        nats["frame_text"].append(info_nce_by_hand(drawn[row], said[after], captions, 0.3))
    for name, weight in cfg.weights.items():
        assert float(terms[name].nats) == pytest.approx(sum(nats[name]) / 6, rel=1e-4)
        assert float(terms[name].weighted) == pytest.approx(weight * sum(nats[name]) / 6, rel=1e-4)


def test_a_placebo_of_one_row_and_one_in_both_directions_are_refused():
    row = torch.ones(1, 4)
    lonely = Comparison(row, Candidates(row, torch.zeros(1, 1, dtype=torch.bool)))
    with pytest.raises(UserError, match="compares fewer; raise batch_size"):
        with_other_partners(lonely)
    with pytest.raises(ValueError, match="one direction; set symmetric to false"):
        ContrastConfig(frame_frame=0.1, symmetric=True, placebo=True)


def test_weights_alone_give_the_loss_and_the_gradient_they_always_gave(codec, batch):
    """The formula of the first version, as it was: one matrix of all scores, far frames on its diagonal."""
    logits = some_logits().requires_grad_()
    terms, _ = terms_of(batch, codec, ContrastConfig(frame_frame=0.3, frame_text=0.7), logits)
    total = sum(term.weighted for term in terms.values())

    rows = 3
    drawn = codec.embed_soft(logits[:rows].float().softmax(-1))
    earlier, far = codec.embed(batch.source[:rows]), codec.embed(batch.far[:rows])
    clip, caption, said = batch.clip[:rows], batch.caption[:rows], batch.text.embedding[:rows]
    own = torch.eye(rows, dtype=torch.bool)
    is_negative = torch.cat([clip[:, None] != clip, own & (batch.far != batch.source)[:rows].any(1)], 1)

    def first_version(positive, negatives, is_negative):
        pull = (drawn * positive).sum(-1, keepdim=True) / 0.1
        push = (drawn @ negatives.T / 0.1).masked_fill(~is_negative, float("-inf"))
        return (torch.cat([pull, push], 1).logsumexp(1) - pull[:, 0]).mean()

    expected = 0.3 * first_version(earlier, torch.cat([earlier, far]), is_negative)
    expected = expected + 0.7 * first_version(said, said, caption[:, None] != caption)
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-7)
    ours, theirs = (torch.autograd.grad(loss, logits)[0] for loss in (total, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    "inter, far, shuffled", [(True, False, 0), (False, True, 0), (False, False, 2), (True, True, 3)]
)
def test_each_kind_of_negatives_can_be_switched(inter, far, shuffled, codec, batch):
    cfg = ContrastConfig(
        frame_frame=1.0, temperature=0.3, share=1.0, inter=inter, far=far, shuffled=shuffled, num_chunks=4
    )
    # All chunks of this frame are equal: no order of them is wrong.
    batch = replace(batch, target=torch.cat([batch.target[:5], torch.full_like(batch.target[:1], 3)]))
    with torch.no_grad():
        terms, _ = terms_of(batch, codec, cfg)
        drawn = codec.embed_soft(some_logits().softmax(-1))
        wrong = reordered(batch.target, chunk_orders(6, shuffled, 4, generator(8))) if shuffled else None
        expected = frame_frame_by_hand(drawn, batch, codec, 0.3, inter=inter, far=far, shuffled=wrong)
    assert set(terms) == {"frame_frame"}
    assert float(terms["frame_frame"].nats) == pytest.approx(sum(expected) / 6, rel=1e-4)
    if not inter and not far:
        assert expected[5] == 0 and min(expected[1:5]) > 0, "the last frame has no negative left"


def test_no_negatives_at_all_are_refused():
    with pytest.raises(ValueError, match="frame_frame has a weight but no negatives"):
        ContrastConfig(frame_frame=0.1, inter=False, far=False)
    ContrastConfig(frame_text=0.1, inter=False, far=False)
    with pytest.raises(ValueError, match="symmetric compares frames of different clips"):
        ContrastConfig(frame_frame=0.1, inter=False, symmetric=True)
    ContrastConfig(frame_text=0.1, inter=False, symmetric=True)
    with pytest.raises(ValueError, match="temperature is 0.001"):
        ContrastConfig(temperature=0.001, learn_temperature=True)


def test_a_batch_of_one_clip_and_one_caption_has_no_negatives_of_others(codec, batch):
    alone = replace(
        batch, clip=torch.zeros(6, dtype=torch.long), caption=torch.zeros(6, dtype=torch.long), far=batch.source
    )
    logits = some_logits().requires_grad_()
    terms, _ = terms_of(alone, codec, ContrastConfig(frame_frame=1.0, frame_text=1.0, share=1.0), logits)
    assert terms["frame_frame"].nats == 0 and terms["frame_text"].nats == 0
    (gradient,) = torch.autograd.grad(terms["frame_frame"].weighted + terms["frame_text"].weighted, logits)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("kind", KINDS)
def test_step_wise_the_earlier_frame_of_the_chain_is_embedded(kind, codec, batch):
    cfg = ContrastConfig(frame_frame=1.0, temperature=0.3, share=0.5)
    with torch.no_grad():
        terms, posterior = terms_of(batch, codec, cfg.model_copy(update={"level": "step"}), process=kind)
        log_p = posterior.log_reverse(some_logits().log_softmax(-1))[:3, :, :NUM_CODES]
        drawn = codec.embed_soft(log_p.softmax(-1).float())
        first = SimpleNamespace(**{name: getattr(batch, name)[:3] for name in ("source", "far", "clip")})
        expected = sum(frame_frame_by_hand(drawn, first, codec, 0.3)) / 3
        sample_wise, _ = terms_of(batch, codec, cfg, process=kind)
    assert float(terms["frame_frame"].nats) == pytest.approx(expected, rel=1e-4)
    assert float(sample_wise["frame_frame"].nats) != pytest.approx(expected, rel=1e-3)


def test_the_caption_counts_also_where_it_was_dropped(denoiser, codec, batch):
    loss = LossConfig(contrast=ContrastConfig(frame_text=1.0))
    process, dropped = worlds.kinds(NUM_CODES)["mask"], DIFFUSION.model_copy(update={"caption_dropout": 1.0})
    with torch.no_grad():
        losses = [
            diffusion_objective(
                denoiser, process, codec, given, draws_of(given, loss, cfg=dropped), dropped, loss
            ).parts["frame_text"]
            for given in (batch, replace(batch, text=replace(batch.text, embedding=batch.text.embedding.roll(1, 0))))
        ]
    assert losses[0] != losses[1]


# ---------------------------------------------------------------------------------------------- learned temperatures


def test_learned_temperatures_begin_at_the_configs_and_follow_their_gradient(codec, batch):
    cfg = ContrastConfig(frame_frame=0.5, frame_text=0.5, temperature=0.2, learn_temperature=True)
    learned = Temperatures(cfg)
    fixed, _ = terms_of(batch, codec, cfg)
    terms, _ = terms_of(batch, codec, cfg, temperatures=learned)
    for name, term in terms.items():
        torch.testing.assert_close(term.nats, fixed[name].nats)
        assert float(term.temperature.detach()) == pytest.approx(0.2)
        (slope,) = torch.autograd.grad(term.nats, learned.log_scales[name], retain_graph=True)
        nearby = [
            float(terms_of(batch, codec, cfg.model_copy(update={"temperature": 0.2 * math.exp(-step)}))[0][name].nats)
            for step in (-0.01, 0.01)
        ]
        assert float(slope) == pytest.approx((nearby[1] - nearby[0]) / 0.02, rel=2e-2)
    assert set(Temperatures(ContrastConfig(frame_text=0.1)).log_scales) == {"frame_text"}


def test_a_learned_temperature_never_falls_below_a_hundredth_and_can_rise_again():
    learned = Temperatures(ContrastConfig(frame_frame=0.1, temperature=0.01))
    optimizer = torch.optim.SGD(learned.parameters(), lr=1.0)
    for _ in range(3):  # the loss would have it ever smaller
        optimizer.zero_grad()
        (100 * learned("frame_frame")).backward()
        optimizer.step()
    assert float(learned("frame_frame").detach()) == pytest.approx(0.01)
    optimizer.zero_grad()
    (-10 * learned("frame_frame")).backward()
    optimizer.step()
    assert float(learned("frame_frame").detach()) == pytest.approx(0.01 * math.exp(0.1))


# ------------------------------------------------------------------------------------------------- together with the rest


def test_no_weights_no_contrast_and_the_other_terms_do_not_notice(denoiser, codec, batch):
    process = worlds.kinds(NUM_CODES)["mask"]
    with torch.no_grad():
        without, _ = pay(denoiser, process, None, batch, PLAIN)  # no codec: nothing is embedded
        both, _ = pay(denoiser, process, codec, batch, BOTH)
    assert not [name for name in without.parts if name.startswith("frame_")]
    assert torch.equal(
        without.total, PLAIN.bound * without.parts["bound"] + PLAIN.auxiliary * without.parts["auxiliary"]
    )
    for name, value in without.parts.items():
        assert torch.equal(value, both.parts[name]), name
    weights = BOTH.contrast
    added = weights.frame_frame * both.parts["frame_frame"] + weights.frame_text * both.parts["frame_text"]
    torch.testing.assert_close(both.total - without.total, added, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("term", ["frame_frame", "frame_text"])
def test_the_gradient_reaches_the_denoiser_through_the_contrast_alone(term, denoiser, codec, batch):
    weights = ContrastConfig(**{"frame_frame": 0.0, "frame_text": 0.0, term: 1.0}, share=0.5)
    terms, (*_, logits) = pay(
        denoiser, worlds.kinds(NUM_CODES)["mask"], codec, batch, LossConfig(bound=0, auxiliary=0, contrast=weights)
    )
    names, parameters = zip(*denoiser.named_parameters(), strict=True)
    by_logits, *by_parameter = torch.autograd.grad(terms.total, [logits, *parameters], allow_unused=True)
    reached = {name for name, grad in zip(names, by_parameter, strict=True) if grad is not None and grad.any()}
    assert {"to_digits.weight", "to_codes.weight", "to_copy.weight", "code_in.weight", "position"} <= reached
    assert by_logits[:3].abs().sum((1, 2)).min() > 0, "the share that is judged"
    assert by_logits[3:].abs().max() == 0, "the rest"


def test_every_term_is_logged_with_its_share_of_the_gradient(denoiser, codec, batch):
    contrast = ContrastConfig(frame_frame=0.5, frame_text=0.5, share=1.0, symmetric=True, shuffled=2, num_chunks=4)
    loss = LossConfig(cdcd=CdcdContrastConfig(inter=0.01, num_negatives=2), contrast=contrast)
    terms, (*_, logits) = pay(denoiser, worlds.kinds(NUM_CODES)["hybrid"], codec, batch, loss)
    shares = terms.shares()
    names = ("bound", "auxiliary", "cdcd", "frame_frame", "frame_text")
    assert set(shares) == {f"gradient_share_{name}" for name in names} and set(names) <= set(terms.parts)
    assert {"frame_frame_wins", "frame_text_wins"} <= set(terms.parts)
    assert min(shares.values()) > 0 and float(sum(shares.values())) == pytest.approx(1)
    # The same with one term taken away: what is left of the gradient is the others'.
    (whole,) = torch.autograd.grad(terms.total, logits, retain_graph=True)
    without, (*_, again) = pay(
        denoiser,
        worlds.kinds(NUM_CODES)["hybrid"],
        codec,
        batch,
        loss.model_copy(update={"contrast": contrast.model_copy(update={"frame_text": 0.0})}),
    )
    (rest,) = torch.autograd.grad(without.total, again, retain_graph=True)
    by_text, by_rest = (float(found) for found in ((whole - rest).norm(), rest.norm()))
    others = without.shares()
    ratio = float(shares["gradient_share_frame_text"] / shares["gradient_share_bound"])
    assert by_rest > 0 and "gradient_share_frame_text" not in others
    bound_norm = by_text / ratio  # frame-text's own norm, and the ratio of the two shares, give the bound's
    sum_of_norms = bound_norm / float(others["gradient_share_bound"])
    assert float(shares["gradient_share_frame_text"]) == pytest.approx(by_text / (sum_of_norms + by_text), rel=1e-3)
