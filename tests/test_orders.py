"""Settling masks in an order: by confidence, and by purity as in Improved VQ-Diffusion."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import unchecked
from worlds import KINDS, chi_square_p_value, chi_square_power, drawn_states, kinds, oracle, world

from cdcd_video import ImageToVideo, request
from cdcd_video.config import BridgeProcess, video_record
from cdcd_video.diffusion.process import mask
from cdcd_video.diffusion.sampler import SAMPLERS, has_order, sample_ancestral, sample_by_confidence, sample_by_purity
from cdcd_video.diffusion.schedule import cosine, linear
from cdcd_video.diffusion.vq_diffusion import cdcd_chain
from cdcd_video.errors import UserError
from cdcd_video.sampling.captions import CaptionSchedule

DRAWS = 20_000
LEVEL = 1e-4
ORDERED = {"confidence": sample_by_confidence, "purity": sample_by_purity}


# ----------------------------------------------------------------------------------------------------- the law


def chance_of_order(order, weights):
    """Probability of drawing these places one after the other, without replacement, in proportion to their weights."""
    chance, left = 1.0, dict(weights)
    for place in order:
        chance *= left[place] / sum(left.values())
        del left[place]
    return chance


def purity_distribution(tiny, counts, sharpness):
    """What `sample_by_purity` draws from, written out: all orders of places, all codes on them.

    Args:
      counts: how many codes stand after each step.
    """
    process, num_tokens, mask_id = mask(tiny.num_codes), len(tiny.source), tiny.num_codes
    denoise = oracle(tiny, process)
    law = {(mask_id,) * num_tokens: 1.0}
    for before, standing in itertools.pairwise([0, *counts]):
        after = Counter()
        for state, weight in law.items():
            p0 = denoise(torch.tensor([state]), torch.tensor([0.5]))[0].exp()  # the same at any time between
            places = [place for place in range(num_tokens) if state[place] == mask_id]
            purity = {place: float(p0[place].max()) for place in places}
            sharp = {place: p0[place] ** (1 + sharpness * purity[place] / max(purity.values())) for place in places}
            for order in itertools.permutations(places, standing - before):
                chance = weight * chance_of_order(order, purity)
                for codes in itertools.product(range(tiny.num_codes), repeat=len(order)):
                    settled, joint = list(state), chance
                    for place, code in zip(order, codes, strict=True):
                        settled[place] = code
                        joint *= float(sharp[place][code] / sharp[place].sum())
                    after[tuple(settled)] += joint
        law = after
    return torch.tensor([law[tuple(state.tolist())] for state in tiny.states], dtype=torch.float64)


@pytest.mark.sweep
@pytest.mark.parametrize("num_steps, counts", [(1, [3]), (2, [2, 3]), (3, [1, 2, 3])])
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 2.5])
def test_the_purity_sampler_follows_its_distribution(num_steps, counts, sharpness):
    """27 states; codes that were not sharpened would be noticed."""
    trio = world(3, 3)
    law = purity_distribution(trio, counts, sharpness)
    how = {"num_steps": num_steps, "sharpness": sharpness}
    counted = drawn_states(trio, mask(3), sample_by_purity, DRAWS, seed=num_steps, rows=DRAWS, **how)
    assert chi_square_p_value(counted, law) > LEVEL
    if sharpness > 0:
        assert chi_square_power(purity_distribution(trio, counts, 0.0), law, DRAWS, LEVEL) > 0.99


def test_places_are_sampled_in_proportion_to_purity():
    """Which two of four are settled first; drawing places evenly, or the purest always, would be noticed."""
    purity = torch.tensor([0.9, 0.5, 0.3, 0.26])
    p = torch.cat([purity[:, None], ((1 - purity) / 3)[:, None].expand(-1, 3)], 1)
    seen = []

    def denoise(x_t, t):
        seen.append(x_t != 4)
        return p.log().expand(len(x_t), -1, -1)

    source = torch.zeros(DRAWS, 4, dtype=torch.int64)
    sample_by_purity(denoise, mask(4), source, 2, [torch.Generator().manual_seed(0)] * DRAWS)
    pairs = list(itertools.combinations(range(4), 2))
    which = (seen[1].long() * 2 ** torch.arange(4)).sum(-1)
    counts = torch.tensor([int((which == 2**a + 2**b).sum()) for a, b in pairs])
    weights = dict(enumerate(purity.double().tolist()))
    law = torch.tensor(
        [sum(chance_of_order(order, weights) for order in itertools.permutations(pair)) for pair in pairs]
    )
    assert counts.sum() == DRAWS
    assert chi_square_p_value(counts, law.double()) > LEVEL
    assert chi_square_power(torch.full((6,), 1 / 6).double(), law.double(), DRAWS, LEVEL) > 0.99


def test_one_place_at_a_time_purity_is_exact_and_confidence_is_not():
    """Purity chooses a place before it is known what will stand there, so the chain rule of probability holds; the
    confidence in what was drawn favours the likely.
    """
    trio = world(3, 3)
    torch.testing.assert_close(purity_distribution(trio, [1, 2, 3], 0.0), trio.p, rtol=0, atol=1e-12)
    for walk_by, how, is_exact in ((sample_by_purity, {"sharpness": 0.0}, True), (sample_by_confidence, {}, False)):
        counts = drawn_states(trio, mask(3), walk_by, DRAWS, rows=DRAWS, num_steps=3, **how)
        assert (chi_square_p_value(counts, trio.p) > LEVEL) == is_exact


# ----------------------------------------------------------------------------------------------- which are settled


def flat(num_codes):
    """A denoiser that knows nothing, and writes down what it was asked."""
    asked = []

    def denoise(x_t, t):
        asked.append((float(t[0]), (x_t == num_codes).sum(-1).tolist()))
        return torch.zeros(*x_t.shape, num_codes)

    return denoise, asked


@pytest.mark.parametrize("walk_by", ORDERED.values(), ids=ORDERED)
def test_as_many_are_settled_as_the_schedule_asks_for(walk_by):
    def open_places(num_steps, schedule=linear, times=None):
        denoise, asked = flat(5)
        generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
        x_0 = walk_by(denoise, mask(5, schedule), torch.zeros(2, 8).long(), num_steps, generators, times=times)
        assert x_0.max() < 5
        return [(round(t, 3), *masks) for t, masks in asked]

    assert open_places(1) == [(1.0, 8, 8)]
    assert open_places(4) == [(1.0, 8, 8), (0.75, 6, 6), (0.5, 4, 4), (0.25, 2, 2)]
    assert [masks for _, masks, _ in open_places(8)] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [masks for _, masks, _ in open_places(100)] == [8, 7, 6, 5, 4, 3, 2, 1]  # no pass is spent on nothing
    assert all(abs(t - masks / 8) <= 0.07 for t, masks, _ in open_places(100))  # and each knows how late it is
    assert [masks for _, masks, _ in open_places(4, cosine)] == [8, 7, 6, 3]  # few at first
    times = torch.tensor([1.0, 0.5, 0.25, 0.0], dtype=torch.float64)
    assert open_places(0, times=times) == [(1.0, 8, 8), (0.5, 4, 4), (0.25, 2, 2)]


@pytest.mark.parametrize("walk_by", ORDERED.values(), ids=ORDERED)
def test_a_settled_code_stays(walk_by):
    seen = []

    def denoise(x_t, t):
        seen.append(x_t[0])
        return torch.zeros(1, 12, 4)

    last = walk_by(denoise, mask(4), torch.zeros(1, 12).long(), 6, [torch.Generator().manual_seed(0)])[0]
    for x_t in seen:
        assert ((x_t == 4) | (x_t == last)).all()


def test_confidence_settles_the_sure_first():
    """Token 1 is certain, token 0 is so once token 1 stands: surest-first gets both right, in two steps, always."""

    def denoise(x_t, t):
        logits = torch.zeros(len(x_t), 2, 4)
        logits[:, 1, 2] = 50.0
        logits[:, 0, 3] = torch.where(x_t[:, 1] == 2, 50.0, 0.0)
        return logits

    def drawn(walk_by):
        generators = [torch.Generator().manual_seed(seed) for seed in range(20)]
        return walk_by(denoise, mask(4), torch.zeros(20, 2, dtype=torch.int64), 2, generators)

    assert (drawn(sample_by_confidence) == torch.tensor([3, 2])).all()
    assert not (drawn(sample_by_purity) == torch.tensor([3, 2])).all()
    assert not (drawn(sample_ancestral) == torch.tensor([3, 2])).all()


@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"top_k": 1}], ids=str)
def test_the_order_does_not_depend_on_truncation(how):
    """At temperature 0 every drawn code has probability 1; who is surest is asked before that."""
    sureness = torch.tensor([0.0, 5.0, 1.0, 4.0, 2.0, 3.0, 0.5, 0.2])
    first = []

    def denoise(x_t, t):
        first.append((x_t != 3).nonzero()[:, 1].tolist())
        return torch.nn.functional.one_hot(torch.zeros(1, 8).long(), 3) * sureness[:, None]

    sample_by_confidence(denoise, mask(3), torch.zeros(1, 8).long(), 8, [torch.Generator().manual_seed(0)], **how)
    assert first[3] == [1, 3, 5] and first[5] == [1, 2, 3, 4, 5]

    def at_half(x_t, t):  # place 0 is pure, the other seven hold 1/64 each
        seen.append(bool(x_t[0, 0] != 64))
        return torch.nn.functional.one_hot(torch.zeros(1, 8).long(), 64) * torch.tensor([9.0] + [0.0] * 7)[:, None]

    times, seen = torch.tensor([1.0, 0.875, 0.0], dtype=torch.float64), []
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        sample_by_purity(at_half, mask(64), torch.zeros(1, 8).long(), 0, [generator], times=times, **how)
    assert sum(seen[1::2]) > 80  # 0.99 / (0.99 + 7/64) = 0.90; evenly it would be 12 of 100


def test_an_order_is_for_masks():
    assert [kind for kind in KINDS if has_order(kinds(4)[kind])] == ["mask"]
    for process in (kinds(4)["bridge"], kinds(4)["replace"], cdcd_chain(4, 20)):
        assert not has_order(process)
        for walk_by in ORDERED.values():
            with pytest.raises(ValueError, match="kind `mask`"):
                walk_by(flat(4)[0], process, torch.zeros(1, 2).long(), 2, [torch.Generator()])


# -------------------------------------------------------------------------------------------------- as a user's dial


@pytest.fixture(scope="module")
def pipe(tiny_model: Path) -> ImageToVideo:
    return ImageToVideo.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def start() -> np.ndarray:
    return np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)


CAPTION = "the red circle moves right"
LOOK = {"num_frames": 3, "num_steps": 4, "temperature": 2.0}


def test_the_order_is_a_setting(pipe, start):
    drawn = {order: pipe(start, CAPTION, order=order, **LOOK) for order in SAMPLERS}
    assert {order: video.settings["order"] for order, video in drawn.items()} == {order: order for order in SAMPLERS}
    assert np.array_equal(drawn["ancestral"].frames, pipe(start, CAPTION, **LOOK).frames)
    for one, other in itertools.combinations(drawn.values(), 2):
        assert not np.array_equal(one.frames, other.frames)


def test_an_order_that_there_is_not(pipe, start):
    with (
        unchecked(),
        pytest.raises(UserError, match="order is alphabetical; it must be one of ancestral, confidence, purity"),
    ):
        pipe(start, CAPTION, order="alphabetical")


@pytest.mark.parametrize("order", ORDERED)
def test_an_order_needs_a_model_of_masks(pipe, start, order, monkeypatch):
    config = pipe.model.config
    diffusion = config.diffusion.model_copy(update={"process": BridgeProcess()})
    changed = replace(pipe.model, config=config.model_copy(update={"diffusion": diffusion}))
    monkeypatch.setattr(pipe, "model", changed)
    with pytest.raises(UserError, match=f"order {order} needs the process mask, but the model uses bridge"):
        pipe(start, CAPTION, order=order, **LOOK)
    assert pipe(start, CAPTION, **LOOK).frames.shape == (3, 32, 32, 3)


def test_the_json_beside_a_video_keeps_the_order(pipe, start, tmp_path, tiny_model):
    asked = {"frame": None, "text": [CAPTION], "from_json": None, "checkpoint": str(tiny_model), "device": "cpu"}
    asked |= dict.fromkeys((*request.SAMPLING, "scale")) | LOOK | {"order": "purity", "out": str(tmp_path / "x.webp")}
    video = pipe(start, CAPTION, order="purity", **LOOK)
    order = request.Request(start, "x.png", "", CaptionSchedule.of(CAPTION), str(tiny_model), "cpu", {}, None, None)
    with request.chosen_target(asked) as target:
        request.write(iter([video.frames]), video.settings, target, order, device="cpu", threads=1)
    again = request.read_request({**dict.fromkeys(asked), "from_json": str(tmp_path / "x.json")})
    assert again.sampling["order"] == "purity"
    assert np.array_equal(pipe(again.start, again.captions, **again.sampling).frames, video.frames)
    old = json.loads((tmp_path / "x.json").read_text())
    del old["order"]  # as written before there was a choice
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert video_record.read_record(tmp_path / "old.json").order == "ancestral"
