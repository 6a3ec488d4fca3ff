"""Gaussian noise with the denoiser's own head and cross-entropy: its network, path, loss and sampler against tiny worlds."""

import dataclasses

import pytest
import torch
from test_baselines import GROUPS, LEVELS, NUM_CODES, PATCHES, baseline, codes_of, condition, pairs, streams
from torch import Tensor
from worlds import World, chi_square_p_value, world

from cdcd_video.baselines.build import build_baseline
from cdcd_video.baselines.categorical_flow import CategoricalFlow, sample_codes
from cdcd_video.baselines.straight_path import STEPS, euler_step
from cdcd_video.config import BASELINES, DenoiserConfig, DiffusionConfig, LossConfig, SamplingParams
from cdcd_video.diffusion.categorical import truncate_logits
from cdcd_video.diffusion.sampler import even_times
from cdcd_video.networks.codec.quantizer import FiniteScalarQuantizer
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.step_inputs import token_weights
from cdcd_video.records import RowGenerator

SHAPE = dict(levels=LEVELS, table=FiniteScalarQuantizer(LEVELS).table, num_patches=PATCHES, groups=GROUPS, text_width=8)
CFG = DenoiserConfig(width=32, num_layers=2, num_heads=2)


# --------------------------------------------------------------------------------------------------------- the network


@pytest.mark.parametrize("levels", [LEVELS, (6,)])
def test_it_is_the_denoiser_weight_for_weight(levels: tuple[int, ...]):
    """On the grid, as the noise vanishes, it reads, and answers, what the denoiser with the same weights does."""
    table = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    shape = SHAPE | dict(levels=levels, table=table)
    ours, flow = Denoiser(CFG, **shape), build_baseline(BASELINES["categorical_flow"](), CFG, **shape)
    assert [(name, p.shape) for name, p in flow.named_parameters()] == [
        (name, p.shape) for name, p in ours.named_parameters()
    ]
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    flow.fit_normalization(codes_of(200, 3))
    assert not flow.load_state_dict(ours.state_dict(), strict=False).unexpected_keys
    known, codes, t = condition(flow), codes_of(3, 5), torch.full((3,), 0.01)
    grid = flow._normal(flow.values_of(codes))
    torch.testing.assert_close(
        flow((1 - t)[:, None, None] * grid, t, known), ours(codes, t, known), rtol=0.02, atol=0.02
    )
    exact = flow(grid, torch.full((3,), 1e-4), known)
    torch.testing.assert_close(exact, ours(codes, torch.full((3,), 1e-4), known), rtol=1e-4, atol=1e-4)


def test_the_likelihood_of_codes_is_the_gaussian_density():
    flow = baseline("categorical_flow")
    flow.fit_normalization(codes_of(200, 3) % 5)
    x_t = torch.randn(3, PATCHES, GROUPS * 2, generator=torch.Generator().manual_seed(0))
    for t in (torch.tensor([0.05, 0.3, 0.9]), torch.ones(3)):
        found = flow.likelihood_of_codes(x_t, t)
        for row, token in ((0, 0), (1, 3), (2, 7)):
            patch, group = divmod(token, GROUPS)
            here = slice(2 * group, 2 * group + 2)
            grid = (flow.table - flow.middle[here]) / flow.spread[here]
            density = torch.distributions.Normal((1 - t[row]) * grid, t[row])
            log_p = density.log_prob(x_t[row, patch, here]).sum(-1)
            torch.testing.assert_close(found[row, token], log_p.softmax(-1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, torch.full_like(found, 1 / NUM_CODES))  # at t = 1 nothing is known


@pytest.mark.parametrize("name", ["source", "first", "gap_s", "age_s", "text"])
def test_every_input_matters(name: str):
    model = baseline("categorical_flow")
    known, other = condition(model, 2), condition(model, 2, seed=1)
    x_t, t = torch.randn(2, PATCHES, 4, generator=torch.Generator().manual_seed(3)), torch.tensor([0.4, 1.0])
    before = model(x_t, t, known)
    assert (model(x_t, t, dataclasses.replace(known, **{name: getattr(other, name)})) - before).abs().max() > 1e-4
    assert (model(x_t + 0.1, t, known) - before).abs().amax((1, 2)).min() > 1e-4
    assert (model(x_t, t / 2, known) - before).abs().max() > 1e-4


def test_a_fresh_one_copies_the_source():
    model = baseline("categorical_flow", std=None)
    known = condition(model)
    sampled = model.next_frame(known, SamplingParams(temperature=0.0, num_steps=3), streams(0, 1, 2))
    assert torch.equal(sampled, known.source)


# ------------------------------------------------------------------------------------------------------------ the loss


def test_the_loss_is_the_weighted_cross_entropy_and_so_is_its_gradient():
    """The long way, code by code; the gradient in closed form: w (p - onehot) over the sum of w."""
    model, batch, seen = baseline("categorical_flow"), pairs(batch=40), {}
    model.register_forward_hook(lambda module, given, out: seen.update(x_t=given[0], t=given[1], logits=out))
    rows = RowGenerator(torch.Generator().manual_seed(0))
    terms = model.learn(batch, DiffusionConfig(full_share=0.3), LossConfig(), rows)
    (gradient,) = torch.autograd.grad(terms.total, seen["logits"])
    t = seen["t"][:, None, None]
    noise = (seen["x_t"] - (1 - t) * model._normal(model.values_of(batch.target))) / t
    assert abs(float(noise.mean())) < 0.15 and abs(float(noise.std()) - 1) < 0.1
    assert (seen["t"] == 1).sum() >= 12
    weight, p = token_weights(batch, LossConfig()), seen["logits"].detach().softmax(-1)
    total = sum(
        float(weight[row, token]) * -float(p[row, token, batch.target[row, token]].log())
        for row in range(40)
        for token in range(PATCHES * GROUPS)
    )
    assert float(terms.total.detach()) == pytest.approx(total / float(weight.sum()), rel=1e-5)
    onehot = torch.nn.functional.one_hot(batch.target, NUM_CODES)
    torch.testing.assert_close(gradient, weight[..., None] * (p - onehot) / weight.sum(), rtol=1e-4, atol=1e-7)


class KnownWorld(CategoricalFlow):
    """Codes of probabilities `p`, independent: the true classifier is known. `off` moves it."""

    def forward(self, x_t, t, condition):
        return self.likelihood_of_codes(x_t, t).log() + self.p.log() + self.off * torch.arange(NUM_CODES)


def test_the_true_posterior_is_where_the_loss_is_least():
    flow = KnownWorld(CFG, **SHAPE, mlp_width=8)
    flow.p, flow.off = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.06, 0.04]), torch.nn.Parameter(torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    slopes = {off: [] for off in (-0.1, 0.0, 0.1)}
    for _ in range(60):
        batch = pairs(batch=64)
        target = torch.multinomial(flow.p, batch.target.numel(), replacement=True, generator=generator)
        batch = dataclasses.replace(batch, target=target.view_as(batch.target))
        loss = LossConfig(changed=1.0, still_clip=1.0)  # weights look at the target, and would make another world of it
        for off, found in slopes.items():
            with torch.no_grad():
                flow.off.fill_(off)
            terms = flow.learn(batch, DiffusionConfig(full_share=0.1), loss, RowGenerator(generator))
            found.append(torch.autograd.grad(terms.total, flow.off)[0])
    means = {off: float(torch.stack(found).mean()) for off, found in slopes.items()}
    error = float(torch.stack(slopes[0.0]).std()) / 60**0.5
    assert abs(means[0.0]) < 4 * error and means[0.1] > 8 * error and means[-0.1] < -8 * error


# ---------------------------------------------------------------------------------------------------------- the sampler


@dataclasses.dataclass
class Oracle:
    """Everything about a world of two codes of three in one patch, by enumeration, in float64; `grid` is (K, d)."""

    world: World
    grid: Tensor

    @property
    def values(self) -> Tensor:
        """(states, N, d)."""
        return self.grid[self.world.states]

    def log_joint(self, x_t: Tensor, t: float) -> Tensor:
        """log p(x_0) + log N(x_t; (1 - t) e(x_0), t^2 I) up to a constant, (B, states), for x_t of (B, N, d)."""
        apart = (x_t[:, None] - (1 - t) * self.values).square().sum((-1, -2))
        return self.world.p.log() - apart / (2 * t**2)

    def classify(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_0^n = k | x_t), (B, N, K), for x_t of (B, 1, N d)."""
        joint = self.log_joint(x_t.view(len(x_t), -1, self.grid.shape[1]), float(t[0])).softmax(-1)
        is_code = torch.nn.functional.one_hot(self.world.states, self.world.num_codes).double()
        return torch.einsum("bs,snk->bnk", joint, is_code).clamp_min(1e-300).log()

    def expected_values(self, p: Tensor) -> Tensor:
        return (p @ self.grid).flatten(1)[:, None]


@pytest.fixture(scope="module")
def tiny() -> Oracle:
    return Oracle(world(3, 2, seed=1), torch.tensor([[-1.2, 0.3], [0.2, -1.0], [1.1, 0.9]], dtype=torch.float64))


def test_the_velocity_is_that_of_the_probability_flow(tiny: Oracle):
    """v = -(x + t score) / (1 - t), with the score of the noisy density from autograd, for x_t anywhere."""
    for t in (0.1, 0.4, 0.8):
        x = torch.randn(50, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        (score,) = torch.autograd.grad(tiny.log_joint(x, t).logsumexp(-1).sum(), x)
        closed = -(x.detach() + t * score) / (1 - t)
        x_t, s = x.detach().flatten(1)[:, None], 0.3 * t
        x_s = euler_step(lambda x, t: tiny.expected_values(tiny.classify(x, t).exp()), x_t, t, s)
        torch.testing.assert_close(((x_s - x_t) / (s - t)).view(50, 2, 2), closed, rtol=1e-6, atol=1e-6)


def sampled_states(tiny: Oracle, num_steps: int, solver: str, num: int = 20_000) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(num, 1, 4, dtype=torch.float64, generator=generator)
    uniforms = torch.rand(num, 2, generator=generator)
    codes = sample_codes(tiny.classify, tiny.expected_values, noise, uniforms, num_steps, solver)
    return (codes @ torch.tensor([3, 1])).bincount(minlength=9)


@pytest.mark.parametrize("solver, num_steps", [("euler", 100), ("heun", 30)])
def test_with_the_true_posterior_the_samples_are_those_of_the_world(tiny: Oracle, solver: str, num_steps: int):
    """The codes depend strongly on each other, and each is sampled alone in the last step: the flow has made them agree."""
    assert chi_square_p_value(sampled_states(tiny, num_steps, solver), tiny.world.p) > 1e-3
    assert chi_square_p_value(sampled_states(tiny, 1, solver), tiny.world.p) < 1e-6, "one step cannot"


@pytest.mark.parametrize("solver", STEPS)
def test_one_step_samples_each_code_by_itself(tiny: Oracle, solver: str):
    """From pure noise nothing is known: the product of the margins, as one step of the process `mask` gives."""
    is_code = torch.nn.functional.one_hot(tiny.world.states, 3).double()
    margins = torch.einsum("s,snk->nk", tiny.world.p, is_code)
    product = margins[torch.arange(2), tiny.world.states].prod(-1)
    assert chi_square_p_value(sampled_states(tiny, 1, solver), product) > 1e-3


def test_a_frame_is_sampled_as_the_function_says():
    """`next_frame` is `sample_codes` with the network's logits, truncated at every step, and the noise of each stream."""
    model, params = (
        baseline("categorical_flow", std=0.4),
        SamplingParams(num_steps=3, temperature=0.7, top_p=0.6, top_k=4),
    )
    known = condition(model)
    found = model.next_frame(known, params, streams(4, 5, 6))
    noise, uniforms = [], []
    for stream in streams(4, 5, 6):
        noise.append(torch.randn(PATCHES, 4, generator=stream))
        uniforms.append(torch.rand(PATCHES * GROUPS, generator=stream))
    x_t, grid = torch.stack(noise), model._grid()
    times = even_times(3).tolist()
    for t, s in zip(times, times[1:], strict=False):
        with torch.no_grad():
            log_p = truncate_logits(model(x_t, torch.full((3,), t), known), 0.7, 0.6, 4)
        p = log_p.exp().unflatten(1, (PATCHES, GROUPS))
        x_0 = torch.cat([p[:, :, group] @ grid[group] for group in range(GROUPS)], -1)
        x_t = x_t + (s - t) * (x_t - x_0) / t
    last = log_p.exp().cumsum(-1) > torch.stack(uniforms)[..., None] * (1 - 1e-7)
    assert torch.equal(found, last.int().argmax(-1))
    assert log_p.isinf().any(), "something is cut off"


def test_own_sources_are_samples_of_its_own_from_one_to_the_next():
    model, seen = baseline("categorical_flow", std=None), []
    batch = dataclasses.replace(pairs(batch=8), generations=2)
    model.register_forward_hook(lambda module, given, output: seen.append(given))
    quiet = DiffusionConfig(source_jitter=0, caption_dropout=0)
    rows = RowGenerator(torch.Generator().manual_seed(0))
    model.learn(batch, quiet, LossConfig(), rows, own_share=1.0, temperature=0.0)
    assert len(seen) == 3 and [float(t.min()) for _, t, _ in seen[:2]] == [1.0, 1.0]
    assert torch.equal(seen[0][2].source, batch.before), "a fresh one copies what it stands on"
    assert torch.equal(seen[1][2].source, batch.before)
    assert torch.equal(seen[2][2].source[0], batch.source[0]) and torch.equal(seen[2][2].source[1:], batch.before[1:])
    torch.testing.assert_close(seen[0][2].gap_s, batch.before_gap_s / 2)
