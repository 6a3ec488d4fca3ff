"""What the stages draw as examples, and what refining changes."""

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from cdcd_video.config import Config, DenoiserConfig, SpritesData
from cdcd_video.data.cache import CodeCache
from cdcd_video.data.pairs import sample_pairs
from cdcd_video.data.shots import Shots
from cdcd_video.diffusion import process as processes
from cdcd_video.networks.codec.frame_codec import CodeSpace
from cdcd_video.networks.codec.quantizer import FiniteScalarQuantizer
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.objective import with_own_source
from cdcd_video.records import TextStates
from cdcd_video.training.code_stages import DiffusionStage, RefineStage
from cdcd_video.training.step_draws import make_refine_draws

LEVELS, PATCHES, GROUPS, NUM_CODES = (3, 2), 4, 2, 6
TOKENS = PATCHES * GROUPS


class FakeCache(CodeCache):
    """Frame f of clip c has the code (c + f) % K everywhere."""

    fps = 8.0
    lengths = np.array([16, 8, 1, 12])
    shots = Shots.of(lengths)
    caption_of = ((0,), (1,), (2,), (3, 4))
    sentence = np.arange(5)

    def __init__(self):
        """There is no folder."""

    def frame_codes(self, clip, frame):
        return torch.from_numpy((clip + frame) % NUM_CODES)[:, None].expand(-1, TOKENS).clone()

    def text(self, caption):
        num = len(caption)
        return TextStates(torch.ones(num, 3, 8), torch.ones(num, 3, dtype=torch.bool), torch.ones(num, 4))


def denoiser() -> Denoiser:
    torch.manual_seed(0)
    table = FiniteScalarQuantizer(LEVELS).table
    cfg = DenoiserConfig(width=32, num_layers=1, num_heads=2)
    return Denoiser(cfg, levels=LEVELS, table=table, num_patches=PATCHES, groups=GROUPS, text_width=8)


@pytest.fixture
def stage() -> DiffusionStage:
    config = Config(name="test", data=SpritesData())
    codec = Mock(CodeSpace)
    return DiffusionStage(
        denoiser(), codec, processes.mask(NUM_CODES), config, FakeCache(), FakeCache(), torch.device("cpu")
    )


def test_pairs_stay_inside_their_clips_and_keep_their_gaps():
    rng = np.random.Generator(np.random.Philox(key=0))
    pairs = sample_pairs(FakeCache.shots, 4000, rng, max_gap=4, start_share=0.3)
    gap = pairs.target - pairs.source
    assert set(gap) == {1, 2, 3, 4} and set(pairs.clip) == {0, 1, 3}  # a clip of one frame holds no pair
    assert (pairs.source >= 0).all() and (pairs.target < FakeCache.lengths[pairs.clip]).all()
    assert (pairs.before >= 0).all() and (pairs.before[pairs.source > 0] < pairs.source[pairs.source > 0]).all()
    assert 0.3 < (pairs.source == 0).mean() < 0.48
    assert (np.abs(pairs.far - pairs.target) >= FakeCache.lengths[pairs.clip] // 2 - 1).all()


def test_any_two_frames_of_a_clip_when_no_gap_is_given():
    rng = np.random.Generator(np.random.Philox(key=1))
    pairs = sample_pairs(FakeCache.shots, 4000, rng, max_gap=None, start_share=0.0)
    assert (pairs.target - pairs.source).max() == 15
    assert (pairs.target > pairs.source).all() and (pairs.target < FakeCache.lengths[pairs.clip]).all()


def test_a_batch_is_a_function_of_the_step(stage):
    one, again, other = stage.batch(3), stage.batch(3), stage.batch(4)
    assert torch.equal(one.target, again.target) and torch.equal(one.gap_s, again.gap_s)
    assert not torch.equal(one.target, other.target)


def test_examples_say_what_they_are(stage):
    batch = stage._examples(FakeCache(), np.random.Generator(np.random.Philox(key=2)), 500)
    frames = (batch.gap_s * 8).round().long()
    assert torch.equal((batch.source[:, 0] + frames) % NUM_CODES, batch.target[:, 0])
    is_start = batch.first[:, 0] == batch.source[:, 0]
    assert batch.has_first[batch.age_s == 0].float().mean() > 0.3
    assert (batch.age_s[~batch.has_first] == 0).all(), "an age without a first frame would tell where the clip began"
    assert is_start[(batch.age_s == 0) & batch.has_first].all()
    assert 0.6 < batch.has_first.float().mean() < 0.95


def test_refining_uses_own_samples_but_never_for_the_first_frame(stage):
    batch = stage._examples(FakeCache(), np.random.Generator(np.random.Philox(key=3)), 200)
    model, process = stage.model, processes.mask(NUM_CODES)

    def own(share):
        return with_own_source(
            model, process, batch, share, 0.3, make_refine_draws(batch, torch.Generator().manual_seed(0))
        ).source

    assert torch.equal(own(0.0), batch.source)
    is_first = batch.before_gap_s == 0
    assert is_first.any() and torch.equal(own(1.0)[is_first], batch.source[is_first])
    # A fresh denoiser copies what it stands on, so its drawing of the source frame is the frame before.
    assert (own(1.0)[~is_first] == batch.before[~is_first]).float().mean() > 0.9


def test_refining_trains_every_weight_in_16_bits(stage):
    """Drawing without gradients inside autocast must not leave casts behind that the gradients cannot pass."""
    batch = stage._examples(FakeCache(), np.random.Generator(np.random.Philox(key=4)), 16)
    model, process = stage.model, processes.mask(NUM_CODES)
    for parameter in model.parameters():  # fresh heads are zero and pass no gradient on
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        own = with_own_source(
            model, process, batch, 1.0, 0.3, make_refine_draws(batch, torch.Generator().manual_seed(0))
        )
        condition = Condition(own.source, own.first, own.has_first, own.gap_s, own.age_s, own.text)
        logits = model(torch.full_like(own.target, model.mask_id), torch.ones(16), condition)
        logits.float().square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("kind", [None, "gaussian", "categorical_flow", "autoregressive"])
def test_refining_goes_through_as_many_generations_as_the_config_says(kind):
    """From step to step; the causal transformer, which samples one frame, gets one gap."""
    config = Config(
        name="test",
        data=SpritesData(),
        train={"refine": {"generations": 3, "batch_size": 200}},
        baseline=kind and {"kind": kind},
    )
    stage = RefineStage.__new__(RefineStage)
    stage.config, stage.cache, stage.device, stage.batch_size = config, FakeCache(), torch.device("cpu"), 200
    batches = [stage.batch(step) for step in range(4)]
    assert [batch.generations for batch in batches] == ([1] * 4 if kind == "autoregressive" else [1, 2, 3, 1])
    longest = [float(batch.before_gap_s.max()) for batch in batches]
    assert longest[0] == longest[3] == 0.5 and (kind == "autoregressive" or longest[:3] == [0.5, 1.0, 1.5])
    for batch in batches:
        assert (batch.before_gap_s <= 0.5 * batch.generations + 1e-6).all()


def test_examples_are_a_function_of_the_step_whoever_asks_and_in_whatever_order(stage):
    """Any number of workers that fetch ahead would bring the same bits: nothing is drawn from a stream that goes on."""

    def flat(step: int) -> list[torch.Tensor]:
        batch = stage.batch(step)
        return [value for value in vars(batch).values() if isinstance(value, torch.Tensor)] + [batch.text.tokens]

    in_order = [flat(step) for step in range(12)]
    for num_workers in (1, 2, 5):
        with ThreadPoolExecutor(num_workers) as workers:
            fetched = dict(zip(range(11, -1, -1), workers.map(flat, range(11, -1, -1)), strict=True))
        for step, batch in enumerate(in_order):
            assert all(torch.equal(one, other) for one, other in zip(batch, fetched[step], strict=True)), step
    assert not torch.equal(in_order[0][0], in_order[1][0])
