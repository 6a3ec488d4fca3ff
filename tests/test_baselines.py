"""The baselines: as large as the denoiser, exact where they claim to be, and trained, drawn and measured by the same line."""

import dataclasses
import itertools
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import shapes
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

import evaluate
from cdcd_video import ImageToVideo
from cdcd_video.baselines.build import build_baseline, num_parameters
from cdcd_video.baselines.flow_matching import LEAST_T, FlowDenoiser
from cdcd_video.baselines.straight_path import (
    STEPS,
    integrate,
    logit_normal_quantiles,
    noised,
    training_times,
)
from cdcd_video.config import (
    BASELINES,
    Config,
    DenoiserConfig,
    DiffusionConfig,
    GaussianBaseline,
    LossConfig,
    SamplingParams,
    config_file,
)
from cdcd_video.data.sprites import sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.diffusion.categorical import truncate_logits
from cdcd_video.diffusion.sampler import even_times
from cdcd_video.errors import UserError
from cdcd_video.model import build_codec, build_denoiser
from cdcd_video.networks.clip import FrozenClip
from cdcd_video.networks.codec.quantizer import FiniteScalarQuantizer
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.step_inputs import token_weights
from cdcd_video.records import CodePair, RowGenerator, TextStates
from cdcd_video.training.training_run import TrainingRun

ROOT = Path(__file__).parents[1]
TINY = ROOT / "configs" / "tiny.yaml"
KINDS = ("gaussian", "categorical_flow", "autoregressive")
LEVELS, PATCHES, GROUPS = (3, 2), 4, 2
NUM_CODES, TOKENS = 6, PATCHES * GROUPS


def baseline(
    kind: str, *, levels=LEVELS, patches=PATCHES, groups=GROUPS, std: float | None = 0.15, rotary=False, **settings
):
    """A small baseline in float32; its weights are drawn anew, for fresh heads are zero and say nothing."""
    torch.manual_seed(0)
    table = FiniteScalarQuantizer(levels).table
    shape = dict(levels=levels, table=table, num_patches=patches, groups=groups, text_width=8, mlp_width=48)
    cfg = DenoiserConfig(width=32, num_layers=2, num_heads=2, rotary=rotary)
    model = BASELINES[kind](**settings).build(cfg, **shape)
    for parameter in model.parameters() if std else ():
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def codes_of(batch: int, seed: int, tokens: int = TOKENS, num_codes: int = NUM_CODES) -> torch.Tensor:
    return torch.randint(num_codes, (batch, tokens), generator=torch.Generator().manual_seed(seed))


def condition(model, batch: int = 3, seed: int = 0, tokens: int = TOKENS, num_codes: int = NUM_CODES) -> Condition:
    generator = torch.Generator().manual_seed(seed)
    source, first = (model.begin(codes_of(batch, 10 * seed + i, tokens, num_codes)) for i in (1, 2))
    text = TextStates(
        torch.randn(batch, 5, 8, generator=generator), torch.ones(batch, 5, dtype=torch.bool), torch.zeros(batch, 4)
    )
    gap, age = torch.rand(2, batch, generator=generator)
    has_first = torch.arange(batch) % 3 != 2
    return Condition(source, first, has_first, gap, age, text)


def pairs(batch: int = 6, seed: int = 0) -> CodePair:
    known = condition(SimpleNamespace(begin=lambda codes: codes), batch, seed)
    far, before, other = (codes_of(batch, 100 + seed + i) for i in range(3))
    target = torch.where(torch.arange(TOKENS) % 3 == 0, other, known.source)  # some codes change, some stay
    target[0] = known.source[0]  # a clip in which nothing does
    return CodePair(
        **{name: value for name, value in vars(known).items() if name != "negative"},
        target=target,
        clip=torch.arange(batch),
        caption=torch.arange(batch),
        far=far,
        before=before,
        before_gap_s=torch.arange(batch) * 0.125,
    )


def streams(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


# ------------------------------------------------------------------------------------------------------------ the size


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gate", "sprites", "tiny"])
def test_baselines_are_as_large_as_the_denoiser(name: str, kind: str):
    config = config_file.load(ROOT / "configs" / f"{name}.yaml", Config)
    patches = (config.data.size_px // config.clip.patch_size) ** 2
    clip = Mock(
        FrozenClip, vision_width=config.clip.vision_width, num_patches=patches, joint_width=config.clip.joint_width
    )
    codec = build_codec(config, clip)
    ours, theirs = (
        num_parameters(build_denoiser(config.model_copy(update={"baseline": other}), codec, 2 * config.clip.text_width))
        for other in (None, BASELINES[kind]())
    )
    assert abs(theirs / ours - 1) < 0.005


def test_a_size_that_no_width_reaches_is_refused():
    table = FiniteScalarQuantizer((8, 6, 5)).table
    shape = dict(levels=(8, 6, 5), table=table, num_patches=4, groups=8, text_width=8)
    with pytest.raises(UserError, match="raise one of them"):
        build_baseline(BASELINES["autoregressive"](), DenoiserConfig(width=32, num_layers=1, num_heads=2), **shape)


@pytest.mark.parametrize("kind", KINDS)
def test_counting_does_not_move_the_weights(kind: str):
    """The weights are those of the first draw from the stream, not of one after the networks that were only counted."""
    cfg = DenoiserConfig(width=32, num_layers=2, num_heads=2)
    shape = dict(levels=LEVELS, table=FiniteScalarQuantizer(LEVELS).table, num_patches=4, groups=2, text_width=8)
    torch.manual_seed(5)
    built = build_baseline(BASELINES[kind](), cfg, **shape)
    torch.manual_seed(5)
    again = type(built)(cfg, **shape, mlp_width=built.blocks[0].mlp[0].out_features)
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), again.parameters(), strict=True))


# -------------------------------------------------------------------------------------------------- the causal transformer


def test_a_later_code_changes_no_earlier_logits_and_every_later_one():
    model = baseline("autoregressive")
    known, codes = condition(model), codes_of(3, 5)
    before = model(codes, known)
    for token in range(TOKENS):
        other = codes.clone()
        other[:, token] = (other[:, token] + 1) % NUM_CODES
        moved = (model(other, known) - before).abs().amax(-1)
        assert (moved[:, : token + 1] == 0).all(), f"token {token} is seen before it is drawn"
        assert (moved[:, token + 1 :] > 1e-6).all(), f"token {token} is not seen afterwards"


def test_every_place_of_the_source_attends_to_every_other():
    model = baseline("autoregressive")
    known, codes = condition(model), codes_of(3, 5)
    before = model(codes, known)
    for token in range(TOKENS):
        source = known.source.clone()
        source[:, token] = (source[:, token] + 1) % NUM_CODES
        assert ((model(codes, dataclasses.replace(known, source=source)) - before).abs().amax(-1) > 1e-6).all()


@pytest.mark.parametrize("name", ["first", "gap_s", "age_s", "text"])
def test_every_input_matters(name: str):
    model = baseline("autoregressive")
    known, other, codes = condition(model, 2), condition(model, 2, seed=1), codes_of(2, 5)
    after = model(codes, dataclasses.replace(known, **{name: getattr(other, name)}))
    assert (after - model(codes, known)).abs().max() > 1e-4


@pytest.mark.parametrize("rotary", [False, True])
def test_sampling_with_a_cache_equals_a_whole_pass(rotary: bool):
    model = baseline("autoregressive", rotary=rotary)
    known, codes, seen = condition(model), codes_of(3, 5), {}

    def choose(logits, token):
        seen[token] = logits
        return codes[:, token]

    drawn = model.unroll(model.prepare(known), choose)
    assert torch.equal(drawn, codes) and list(seen) == list(range(TOKENS))
    torch.testing.assert_close(torch.stack(list(seen.values()), 1), model(codes, known), atol=1e-5, rtol=1e-5)


SMALL = dict(levels=(3,), patches=2, groups=2)
FRAMES = torch.tensor(list(itertools.product(range(3), repeat=4)))
"""All frames of two patches of two codes of three."""


def frame_probabilities(model, known: Condition) -> torch.Tensor:
    many = Condition(
        *(
            value.expand(len(FRAMES), *value.shape[1:])
            for value in (known.source, known.first, known.has_first, known.gap_s, known.age_s)
        ),
        TextStates(
            *(
                value.expand(len(FRAMES), *value.shape[1:])
                for value in (known.text.tokens, known.text.is_word, known.text.embedding)
            )
        ),
    )
    log_p = model(FRAMES, many).double().log_softmax(-1)
    return log_p.gather(-1, FRAMES[..., None]).sum((1, 2)).exp()


def test_the_likelihood_is_a_distribution_over_frames():
    model = baseline("autoregressive", **SMALL)
    p = frame_probabilities(model, condition(model, 1, tokens=4, num_codes=3))
    assert abs(float(p.detach().sum()) - 1) < 1e-6
    # The codes of a patch are not drawn apart: the joint differs from the product of its margins.
    joint = p.detach().view(3, 3, 9).sum(-1)
    assert (joint - joint.sum(1, keepdim=True) * joint.sum(0)).abs().max() > 1e-4


def test_samples_follow_the_likelihood():
    model = baseline("autoregressive", **SMALL, std=0.3)
    known = condition(model, 1, tokens=4, num_codes=3)
    p = frame_probabilities(model, known).detach()
    num = 6000
    many = Condition(
        *(
            value.expand(num, *value.shape[1:])
            for value in (known.source, known.first, known.has_first, known.gap_s, known.age_s)
        ),
        TextStates(
            *(
                value.expand(num, *value.shape[1:])
                for value in (known.text.tokens, known.text.is_word, known.text.embedding)
            )
        ),
    )
    drawn = model.next_frame(many, SamplingParams(temperature=1.0, guidance=1.0), streams(*range(num)))
    counts = torch.bincount((drawn * 3 ** torch.arange(3, -1, -1)).sum(-1), minlength=81)
    often = p * num >= 5
    rest = torch.stack([counts[~often].sum(), (p[~often] * num).sum()])
    squares = ((counts[often] - p[often] * num) ** 2 / (p[often] * num)).sum() + (rest[0] - rest[1]) ** 2 / rest[1]
    degrees = int(often.sum())
    assert squares < degrees + 4 * (2 * degrees) ** 0.5


def test_the_frame_that_is_likeliest_code_by_code():
    model = baseline("autoregressive")
    known = condition(model)
    drawn = model.next_frame(known, SamplingParams(temperature=0.0, guidance=1.0), streams(0, 1, 2))
    assert torch.equal(model(drawn, known).argmax(-1), drawn)


def test_the_loss_of_the_causal_transformer():
    """Its loss is the token-weighted mean of exact negative log-likelihoods."""
    model, batch = baseline("autoregressive"), pairs()
    quiet = DiffusionConfig(source_jitter=0, caption_dropout=0)
    terms = model.learn(batch, quiet, LossConfig(), RowGenerator(torch.Generator().manual_seed(0)))
    known = Condition(batch.source, batch.first, batch.has_first, batch.gap_s, batch.age_s, batch.text)
    nll = -model(batch.target, known).log_softmax(-1).gather(-1, batch.target[..., None]).squeeze(-1)
    weight = token_weights(batch, LossConfig())
    assert len(weight.unique()) == 3
    torch.testing.assert_close(terms.total, (weight * nll).sum() / weight.sum())
    torch.testing.assert_close(terms.parts["nll"], nll.detach().mean())


def test_a_fresh_causal_transformer_copies_the_source():
    model = baseline("autoregressive", std=None)
    known = condition(model)
    assert torch.equal(model(codes_of(3, 5), known).argmax(-1), known.source)


# ------------------------------------------------------------------------------------------------------------ the flow


def test_the_euler_sampler_is_that_of_a_standard_scheduler():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 4, 6, generator=generator)
    weight = torch.randn(6, 6, generator=generator)

    def denoise(x_t, t):
        return torch.tanh(x_t @ weight + t[:, None, None])

    for num_steps in (1, 2, 7, 50):
        ours = integrate(denoise, noise, even_times(num_steps), "euler")
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=[1 - i / num_steps for i in range(num_steps)])
        x = noise
        for time, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            velocity = (x - denoise(x, sigma.expand(2))) / sigma
            x = scheduler.step(velocity, time, x).prev_sample
        torch.testing.assert_close(ours, x, atol=2e-5, rtol=2e-5)


def test_heuns_method_is_that_of_a_standard_scheduler():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 4, 6, generator=generator)
    weight = torch.randn(6, 6, generator=generator)
    passes = []

    def denoise(x_t, t):
        passes.append(float(t[0]))
        return torch.tanh(x_t @ weight + t[:, None, None])

    for num_steps in (1, 2, 7, 50):
        passes.clear()
        ours = integrate(denoise, noise, even_times(num_steps), "heun")
        assert len(passes) == 2 * num_steps - 1
        scheduler = FlowMatchHeunDiscreteScheduler()
        scheduler.sigma_min = 1 / num_steps  # their times end there, and ours are even
        scheduler.set_timesteps(num_steps)
        x = noise
        for time in scheduler.timesteps:
            sigma = time / 1000
            x = scheduler.step((x - denoise(x, sigma.expand(2))) / sigma, time, x).prev_sample
        torch.testing.assert_close(ours, x, atol=2e-5, rtol=2e-5)


def test_logit_normal_times_have_their_density():
    """Against the density of Esser et al. 2024, sec. 3.1, integrated; all times but the last are within a thousandth."""
    for mean, deviation in ((0.0, 1.0), (0.5, 0.6), (-1.0, 1.4)):
        t = torch.linspace(0, 1, 200_001, dtype=torch.float64)[1:-1]
        density = (-((torch.logit(t) - mean) ** 2) / (2 * deviation**2)).exp() / (t * (1 - t))
        density /= deviation * (2 * torch.pi) ** 0.5
        below = density.cumsum(0) / 200_000
        assert abs(float(below[-1]) - 1) < 1e-4
        times = logit_normal_quantiles(mean, deviation)
        assert len(times) == 1000 and times[-1] == 1 and (times.diff() > 0).all() and times[0] > 0
        levels = below[torch.searchsorted(t, times[:-1])]
        torch.testing.assert_close(levels, (torch.arange(1, 1000).double() - 0.5) / 1000, atol=2e-4, rtol=0)


def test_times_of_training_keep_their_share_of_pure_noise():
    uneven = GaussianBaseline(times="logit_normal", times_mean=0.5, times_deviation=0.8)
    even, found = (
        training_times(20_000, 0.3, settings, RowGenerator(torch.Generator().manual_seed(0)))
        for settings in (GaussianBaseline(), uneven)
    )
    full = 0.3 + 0.7 / 1000
    for t in (even, found):
        assert t.dtype == torch.float32 and t.min() > 0 and t.max() == 1
        assert abs(float((t == 1).float().mean()) - full) < 1e-3
    torch.testing.assert_close(even[even < 1].mean(), torch.tensor(0.5), atol=2e-3, rtol=0)
    logits = torch.logit(found[found < 1])
    assert abs(float(logits.mean()) - 0.5) < 0.01 and abs(float(logits.std()) - 0.8) < 0.01


def test_frames_are_put_back_on_the_grid_where_that_is_wanted():
    off, on = (baseline("gaussian", quantized=quantized) for quantized in (False, True))
    known, params = condition(off), SamplingParams(temperature=1.0, num_steps=3)
    off_grid, on_grid = (model.next_frame(known, params, streams(1, 2, 3)) for model in (off, on))
    assert (off_grid - off.values_of(off.nearest(off_grid))).abs().max() > 1e-2
    assert torch.equal(on_grid, on.values_of(on.nearest(off_grid)))
    # Trained in the same way: its sources are on the grid, those of other examples and its own samples too.
    seen, batch = [], pairs(batch=30)
    on.register_forward_hook(lambda module, given, output: seen.append(given[-1]))
    rows = RowGenerator(torch.Generator().manual_seed(0))
    on.learn(batch, DiffusionConfig(source_jitter=0.5), LossConfig(), rows, own_share=0.5)
    source = seen[-1].source
    assert torch.equal(source, on.values_of(on.nearest(source)))
    assert (source != on.begin(batch.source)).any()


def test_the_oracle_of_a_gaussian_world_brings_back_its_mean_and_deviation():
    """For x_0 of N(m, s^2) the field is known, and its flow carries eps to m + s eps exactly; Euler's error is of order 1/S,
    Heun's of order 1/S^2."""
    mean = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    deviation = torch.tensor([0.2, 1.0, 1.7], dtype=torch.float64)

    def oracle(x_t, t):
        t = t[:, None, None].double()
        gain = (1 - t) * deviation**2 / ((1 - t) ** 2 * deviation**2 + t**2)
        return mean + gain * (x_t - (1 - t) * mean)

    noise = torch.randn(2000, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = mean + deviation * noise

    def solved(num_steps: int, solver: str) -> torch.Tensor:
        return integrate(oracle, noise, even_times(num_steps), solver)

    def errors(solver: str) -> list[float]:
        return [float((solved(num, solver) - exact).abs().mean()) for num in (50, 100, 200)]

    first, second = errors("euler"), errors("heun")
    assert first[2] < 0.02 and second[2] < 0.0005
    for found, order in ((first, 1), (second, 2)):
        assert all(abs(np.log2(a / b) - order) < 0.25 for a, b in itertools.pairwise(found)), f"order {order}: {found}"
    for solver in STEPS:
        sampled = solved(200, solver).flatten(0, 1)
        assert (sampled.mean(0) - mean).abs().max() < 0.08 and (sampled.std(0) / deviation - 1).abs().max() < 0.05
        torch.testing.assert_close(solved(1, solver), mean.expand(2000, 2, 3))  # one step is the mean


def test_the_loss_of_the_flow_is_the_velocitys_error():
    """The long way, value by value, with the gradient in closed form: 2 w (x_0_hat - x_0) / t^2 over the sum of w."""
    model, batch, seen = baseline("gaussian"), pairs(batch=40), {}

    def watch(module, given, output):
        seen.update(x_t=given[0], t=given[1], condition=given[2], output=output)

    model.register_forward_hook(watch)
    terms = model.learn(
        batch, DiffusionConfig(full_share=0.3), LossConfig(), RowGenerator(torch.Generator().manual_seed(0))
    )
    (gradient,) = torch.autograd.grad(terms.total, seen["output"])
    t = seen["t"][:, None, None]
    x_0 = (model.begin(batch.target) - model.middle) / model.spread
    noise = (seen["x_t"] - (1 - t) * x_0) / t
    assert abs(float(noise.mean())) < 0.15 and abs(float(noise.std()) - 1) < 0.1
    is_far = (seen["t"] >= LEAST_T)[:, None, None]
    assert is_far.float().mean() > 0.9 and (seen["t"] == 1).sum() >= 12
    error = (seen["x_t"] - seen["output"]) / t - (noise - x_0)
    error = torch.where(is_far, error, (seen["output"] - x_0) / LEAST_T)
    weight = token_weights(batch, LossConfig()).unflatten(1, (-1, GROUPS)).repeat_interleave(len(LEVELS), -1)
    torch.testing.assert_close(terms.total, (weight * error**2).sum() / weight.sum(), rtol=1e-4, atol=1e-5)
    slope = 2 * weight * (seen["output"] - x_0) / t.clamp_min(LEAST_T) ** 2 / weight.sum()
    torch.testing.assert_close(gradient, slope.detach(), rtol=1e-4, atol=1e-6)


class World(FlowDenoiser):
    """Codes drawn independently from `p`: the best prediction is a sum over codes. `off` moves it."""

    def setup(self, p: torch.Tensor):
        self.p, self.off = p, torch.nn.Parameter(torch.zeros(2))
        return self

    def forward(self, x_t, t, condition):
        values = (self.table - self.middle[:2]) / self.spread[:2]
        x, t = x_t.unflatten(-1, (GROUPS, -1)), t[:, None, None, None]
        apart = (x[..., None, :] - (1 - t[..., None]) * values).square().sum(-1)
        posterior = (self.p.log() - apart / (2 * t**2)).softmax(-1)
        best = posterior @ values
        return (best * (1 + self.off[0]) + self.off[1]).flatten(-2)


def test_the_best_prediction_is_where_the_loss_is_least():
    """In a world whose E[x_0 | x_t] is known by enumeration, the loss has no slope there, and has one beside it."""
    p = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.06, 0.04])
    shape = dict(levels=LEVELS, table=FiniteScalarQuantizer(LEVELS).table, num_patches=PATCHES, groups=GROUPS)
    world = World(DenoiserConfig(width=32, num_layers=1), **shape, text_width=8, mlp_width=8).setup(p)
    generator = torch.Generator().manual_seed(0)
    slopes = {off: [] for off in (-0.1, 0.0, 0.1)}
    for _ in range(60):
        batch = pairs(batch=64)
        target = torch.multinomial(p, 64 * TOKENS, replacement=True, generator=generator).view(64, TOKENS)
        # Weights would make another world of it (they look at the target), so all are 1 here.
        loss = LossConfig(changed=1.0, still_clip=1.0)
        for off, found in slopes.items():
            with torch.no_grad():
                world.off.fill_(off)
            terms = world.learn(
                dataclasses.replace(batch, target=target), DiffusionConfig(), loss, RowGenerator(generator)
            )
            found.append(torch.autograd.grad(terms.total, world.off)[0])
    means = {off: torch.stack(found).mean(0) for off, found in slopes.items()}
    errors = torch.stack(slopes[0.0]).std(0) / 60**0.5
    assert (means[0.0].abs() < 4 * errors).all()
    assert (means[0.1] > 8 * errors).all() and (means[-0.1] < -8 * errors).all()


def test_channels_are_normalised_over_training_frames():
    model = baseline("gaussian")
    codes = codes_of(500, 3) % 3  # the last digit stands still
    model.fit_normalization(codes)
    normal = model._normal(model.begin(codes)).flatten(0, 1)
    torch.testing.assert_close(normal.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std(0, correction=0), torch.tensor([1.0, 0.0] * GROUPS), atol=1e-5, rtol=0)
    assert set(model.state_dict()) >= {"middle", "spread"}, "the scales are part of the model"


def test_a_fresh_flow_copies_the_source():
    model = baseline("gaussian", std=None)
    known = condition(model)
    drawn = model.next_frame(known, SamplingParams(num_steps=3, guidance=1.0), streams(0, 1, 2))
    torch.testing.assert_close(drawn, known.source)
    assert torch.equal(model.nearest(drawn), condition(SimpleNamespace(begin=lambda codes: codes)).source)


@pytest.mark.parametrize("name", ["source", "first", "gap_s", "age_s", "text"])
def test_every_input_of_the_flow_matters(name: str):
    model = baseline("gaussian")
    known, other = condition(model, 2), condition(model, 2, seed=1)
    x_t, t = torch.randn(2, PATCHES, 4, generator=torch.Generator().manual_seed(3)), torch.tensor([0.4, 1.0])
    before = model(x_t, t, known)
    assert (model(x_t, t, dataclasses.replace(known, **{name: getattr(other, name)})) - before).abs().max() > 1e-4
    assert (model(x_t + 0.1, t, known) - before).abs().max() > 1e-4
    assert (model(x_t, t / 2, known) - before).abs().max() > 1e-4


def test_a_withheld_first_frame_does_not_reach_the_flow():
    model = baseline("gaussian")
    known = dataclasses.replace(condition(model), has_first=torch.zeros(3, dtype=torch.bool))
    x_t, t = torch.randn(3, PATCHES, 4), torch.ones(3)
    other = dataclasses.replace(known, first=condition(model, seed=1).first)
    assert torch.equal(model(x_t, t, known), model(x_t, t, other))


def test_the_source_gets_noise_as_the_codes_of_the_denoiser_do():
    model = baseline("gaussian")
    codes = codes_of(4000, 7)
    worn = model._noisy_source(model.begin(codes), 0.2, RowGenerator(torch.Generator().manual_seed(0)))
    normal = (worn - model.begin(codes)) / model.spread
    wrong = (model.nearest(worn) != codes).float().mean()
    assert 0.06 < wrong < 0.12  # 10 % from another row, of which one in six is the same code by chance
    kept = normal[(normal.abs() < 0.8)]
    assert 0.1 < kept.std() < 0.13  # the root of the mean of (0.2 u)^2
    assert torch.equal(
        model._noisy_source(model.begin(codes), 0.0, RowGenerator(torch.Generator().manual_seed(0))), model.begin(codes)
    )


# ----------------------------------------------------------------------------------------------------------- both


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_depends_on_its_stream_and_not_on_its_batch(kind: str, guidance: float):
    model = baseline(kind)
    known, dials = condition(model), SamplingParams(guidance=guidance, temperature=1.0)
    together = model.next_frame(known, dials, streams(4, 5, 6))
    assert torch.equal(together, model.next_frame(known, dials, streams(4, 5, 6)))
    assert not torch.equal(together, model.next_frame(known, dials, streams(7, 8, 9)))
    for row in range(3):
        one = slice(row, row + 1)
        text = TextStates(known.text.tokens[one], known.text.is_word[one], known.text.embedding[one])
        parts = (known.source, known.first, known.has_first, known.gap_s, known.age_s)
        alone = model.next_frame(Condition(*(part[one] for part in parts), text), dials, streams(4 + row))
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_is_between_with_and_without_the_sentence(kind: str):
    """At 0 the sentence is not read at all, and a hair above 1 is nearly the plain model."""
    model = baseline(kind, std=0.3)
    known, other = condition(model), condition(model, seed=1)
    reworded = dataclasses.replace(known, text=other.text)

    def drawn(given, guidance):
        return model.next_frame(given, SamplingParams(guidance=guidance, temperature=1.0), streams(1, 2, 3)).float()

    assert torch.allclose(drawn(known, 0.0), drawn(reworded, 0.0), atol=1e-5)
    assert torch.allclose(drawn(known, 1.0), drawn(known, 1 + 1e-7), atol=1e-4)
    assert (drawn(known, 6.0) != drawn(reworded, 6.0)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_refining_uses_own_samples_but_never_for_the_first_frame(kind: str):
    model, batch, seen = baseline(kind, std=None), pairs(), []
    model.register_forward_hook(lambda module, given, output: seen.append(given[-1]))
    quiet = DiffusionConfig(source_jitter=0, caption_dropout=0)

    def shown(own_share):
        model.learn(
            batch,
            quiet,
            LossConfig(),
            RowGenerator(torch.Generator().manual_seed(0)),
            own_share=own_share,
            temperature=0.1,
        )
        return seen[-1].source

    assert torch.equal(shown(0.0), model.begin(batch.source)) and len(seen) == 1
    own = shown(1.0)
    assert len(seen) == 3, "one pass to draw, one to learn"
    assert torch.equal(own[0], model.begin(batch.source)[0]) and batch.before_gap_s[0] == 0
    # A fresh baseline copies what it stands on, so its drawing of the source frame is the frame before.
    before = model.begin(batch.before)[1:]
    assert (own[1:] - before).abs().float().mean() < 0.1 * (model.begin(batch.source)[1:] - before).abs().float().mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own_share", [0.0, 0.5])
def test_every_weight_is_trained_in_16_bits(kind: str, own_share: float):
    model, dials = baseline(kind), dict(own_share=own_share, temperature=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.learn(
            pairs(), DiffusionConfig(), LossConfig(), RowGenerator(torch.Generator().manual_seed(0)), **dials
        )
    terms.total.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert all(float(weight.grad.abs().max()) > 0 for weight in model.parameters())


def test_truncation_reaches_the_sampling():
    model = baseline("autoregressive", std=0.5)
    known = condition(model)
    drawn = model.next_frame(known, SamplingParams(temperature=1.0, top_p=0.4, guidance=1.0), streams(0, 1, 2))
    kept = truncate_logits(model(drawn, known), 1.0, 0.4).isfinite()
    assert kept.gather(-1, drawn[..., None]).all() and kept.float().mean() < 0.6


# -------------------------------------------------------------------------------------------------------- the whole line


def changes(kind: str, space: Path) -> list[str]:
    none = ["loss.contrast.frame_frame=0", "loss.contrast.frame_text=0"]
    few = ["train.diffusion.num_steps=40", "train.diffusion.checkpoint_every=20", "train.refine.num_steps=4"]
    small = ["train.refine.log_every=2", "data.num_clips=8", "data.num_val_clips=2", "sample.num_frames=2"]
    return [f"baseline.kind={kind}", f"reuse={space}", *none, *few, *small]


@pytest.fixture(scope="module")
def baselines(trained: Path, tmp_path_factory) -> dict[str, Path]:
    """Baselines of the tiny config's model, in its latent space."""
    runs = {kind: tmp_path_factory.mktemp(kind) / "run" for kind in KINDS}
    with shapes.unchecked():
        for kind, out in runs.items():
            TrainingRun(config_file.load(TINY, Config, changes(kind, trained)), out, ["test"]).train()
    return runs


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(baselines: dict[str, Path], kind: str):
    lines = [json.loads(line) for line in (baselines[kind] / "log.jsonl").read_text().splitlines()]
    losses = {
        task: [line["loss"] for line in lines if line["task"] == task and "loss" in line]
        for task in ("diffusion", "refine")
    }
    assert losses["diffusion"][-1] < 0.85 * losses["diffusion"][0]
    assert len(losses["refine"]) == 2 and np.isfinite(losses["refine"]).all()


@pytest.mark.sweep(most=1)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_taken_up_again_ends_with_the_same_bits(baselines: dict[str, Path], tmp_path: Path, kind: str):
    out = tmp_path / "run"
    shutil.copytree(baselines[kind], out)
    before = (out / "model" / "denoiser.safetensors").read_bytes()
    (out / "model" / "denoiser.safetensors").unlink()
    shutil.rmtree(out / "checkpoints" / "diffusion" / "step-00000040")
    shutil.rmtree(out / "checkpoints" / "refine")
    config = config_file.load(out / "config.yaml", Config)
    with shapes.unchecked():
        TrainingRun(config, out, ["test"]).train()
    assert (out / "model" / "denoiser.safetensors").read_bytes() == before


CAPTION = "the red circle moves right"


@pytest.fixture
def unchecked():
    """Drawings of whole models do without checks of shapes."""
    with shapes.unchecked():
        yield


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", KINDS)
def test_it_samples_by_the_same_interface(baselines: dict[str, Path], kind: str):
    pipe = ImageToVideo.from_pretrained(baselines[kind], device="cpu")
    starts = np.stack([render(sample_scene(0, number, "val"), np.zeros(1), 32)[0] for number in range(2)])
    params = pipe.defaults(num_frames=5, temperature=1.0, guidance=10.0, num_steps=2)
    one, again = (
        pipe.sample(starts, [CAPTION, [(0, CAPTION), (2, "the red circle moves left")]], params, [1, 2]) for _ in "ab"
    )
    assert one.shape == (2, 5, 32, 32, 3) and np.array_equal(one, again) and np.array_equal(one[:, 0], starts)
    latents = pipe.roll_out(starts, [CAPTION] * 2, params, [1, 2])
    alone = pipe.roll_out(starts[1:], [CAPTION], params, [2])
    turned = pipe.roll_out(starts[1:], [[(0, CAPTION), (3, "the red circle moves left")]], params, [2])
    codes = pipe.encode(starts)
    if kind == "gaussian":
        assert latents.is_floating_point() and torch.equal(latents[:, 0], pipe.model.codec.values(codes))
        grid = pipe.model.codec.values(pipe.model.denoiser.nearest(latents[0, 1:]))
        assert (latents[0, 1:] - grid).abs().max() > 1e-3, "the walk has been rounded"
    else:
        assert not latents.is_floating_point() and torch.equal(latents[:, 0], codes)
    assert (latents[1] - alone[0]).abs().float().mean() < 0.01
    assert torch.equal(turned[:, :3], alone[:, :3]) and not torch.equal(turned[:, 3:], alone[:, 3:])
    video = pipe(starts[0], CAPTION, num_frames=2)
    assert video.frames.shape == (2, 32, 32, 3) and np.array_equal(video.frames[0], starts[0])


@pytest.mark.parametrize(
    "kind, idle",
    [("gaussian", {"top_p": 0.5}), ("autoregressive", {"num_steps": 7}), ("autoregressive", {"solver": "heun"})],
)
def test_settings_that_a_baseline_does_not_use(baselines: dict[str, Path], kind: str, idle: dict):
    pipe = ImageToVideo.from_pretrained(baselines[kind], device="cpu")
    assert pipe.warnings(CAPTION, pipe.defaults()) == []
    (told,) = pipe.warnings(CAPTION, pipe.defaults(**idle))
    assert f"{next(iter(idle))} has no effect" in told
    for refused in ({"order": "confidence"}, {"contrast": 1.0}):
        with pytest.raises(UserError, match=f"the baseline {kind}"):
            pipe.defaults(**refused)


@pytest.mark.sweep(most=1)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_measured_by_the_same_command(baselines: dict[str, Path], tmp_path: Path, monkeypatch, kind: str):
    rule = ROOT / "configs/eval/small.yaml"
    short = ["--protocol", rule, "--num-videos", 2, "--num-frames", 3, "--metrics", "sprites", "--no-latents"]
    monkeypatch.setattr(
        sys, "argv", ["evaluate.py", *map(str, ["--checkpoint", baselines[kind], *short, "--out", tmp_path])]
    )
    with shapes.unchecked():
        evaluate.main()
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert {"model", "counterfactual", "copy-first", "codec-ceiling", "truth"} <= {line["row"] for line in lines}


@pytest.mark.parametrize(
    "change, words",
    [
        ("loss.contrast.frame_text=0.1", "has no contrast"),
        ("loss.cdcd.inter=5e-6", "has no contrast"),
        ("sample.contrast=1", "has no contrast"),
        ("sample.order=confidence", "no order of codes"),
        ("baseline.kind=diffusion", "must be autoregressive, categorical_flow or gaussian"),
    ],
)
def test_configs_that_ask_a_baseline_for_what_it_has_not(change: str, words: str):
    with pytest.raises(UserError, match=words):
        config_file.load(ROOT / "configs" / "sprites.yaml", Config, ["baseline.kind=gaussian", change])


def test_noise_on_the_path():
    x_0, noise = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.0, 0.25, 1.0])
    torch.testing.assert_close(noised(x_0, noise, t), (1 - t[:, None, None]) * x_0 + t[:, None, None] * noise)
