"""Steps made of several batches, and blocks that save memory: the same gradient as without."""

from dataclasses import replace
from pathlib import Path

import pytest
import shapes
import torch
from test_engine import SETTINGS, Toy, assert_same_bits, go
from torch import nn

from cdcd_video.config import DenoiserConfig
from cdcd_video.engine import optim
from cdcd_video.engine.ema import Ema
from cdcd_video.engine.runtime import generator
from cdcd_video.engine.train_step import train_step
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.records import LossTerms, TextStates


class Means:
    """A loss that is the mean over examples; batch `number` holds examples 6 number to 6 number + 5, or as many as asked."""

    name = "means"

    def __init__(self, batch_size: int):
        torch.manual_seed(0)
        self.batch_size, self.drawn = batch_size, []
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def batch(self, step: int) -> torch.Tensor:
        return torch.arange(step * self.batch_size, (step + 1) * self.batch_size).double()

    def objective(self, batch: torch.Tensor, draws: torch.Generator) -> LossTerms:
        self.drawn.append(torch.rand(1, generator=draws).item())
        x = torch.stack([batch.sin(), batch.cos(), batch / 24], 1)
        loss = (self.model(x).squeeze(1) - batch.mul(0.7).sin()).square().mean()
        sums = torch.stack([batch.sum(), torch.tensor(float(len(batch)))])[:, None]
        return LossTerms(loss, {"seen": batch.mean()}, groups={"which": sums})

    def evaluate(self) -> dict[str, float]:
        return {}


def one_step(task: Means, accumulate: int, step: int = 0) -> dict[str, torch.Tensor]:
    settings = replace(SETTINGS, accumulate=accumulate, clip_norm=None)
    return train_step(
        task, optim.make_optimizer(task.model, settings), Ema(task.model, 0.9), settings, step=step, seed=3
    )


def test_the_gradient_is_that_of_the_whole():
    parts, whole = Means(6), Means(24)
    values, right = one_step(parts, 4), one_step(whole, 1)
    for one, two in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, rtol=1e-12, atol=1e-15)
        assert torch.allclose(one, two, rtol=1e-12)
    for name in ("loss", "seen", "grad_norm", "which"):
        assert torch.allclose(values[name].double(), right[name].double(), rtol=1e-6), name


def test_every_batch_has_random_streams_of_its_own():
    task = Means(6)
    one_step(task, 4, step=2)
    expected = [torch.rand(1, generator=generator(3, "means", number)).item() for number in range(8, 12)]
    assert task.drawn == expected and len(set(expected)) == 4


def test_a_run_of_such_steps_is_taken_up_again_with_the_same_bits(tmp_path: Path):
    whole = go(tmp_path / "whole", accumulate=3, num_steps=8, eval_every=None).checkpoint
    stopped = go(tmp_path / "twice", accumulate=3, num_steps=8, eval_every=None, max_minutes=0)
    assert stopped.step == 1
    assert_same_bits(whole, go(tmp_path / "twice", accumulate=3, num_steps=8, eval_every=None).checkpoint)


def test_one_batch_a_step_is_as_ever(tmp_path: Path):
    task = Toy()
    numbers = []
    before = task.batch
    task.batch = lambda step: numbers.append(step) or before(step)
    go(tmp_path, task, num_steps=4, eval_every=None)
    assert numbers == [0, 1, 2, 3]


# ----------------------------------------------------------------------------------------------------- blocks that save


def denoiser_step(net: Denoiser) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    codes = torch.randint(30, (3, 2, 18), generator=draws)
    words = torch.randn(2, 5, 12, generator=draws)
    text = TextStates(words, torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 1))
    seconds = torch.full((2,), 0.125)
    condition = Condition(codes[0], codes[1], torch.tensor([True, False]), seconds, seconds, text)
    net.zero_grad()
    logits = net(codes[2], torch.tensor([0.3, 0.9]), condition)
    logits.square().sum().backward()
    return [logits.detach(), *(value.grad for value in net.parameters() if value.grad is not None)]


def small_denoiser() -> Denoiser:
    torch.manual_seed(0)
    table = torch.randn(30, 3)
    net = Denoiser(
        DenoiserConfig(width=32, num_layers=2, num_heads=2),
        levels=(5, 3, 2),
        table=table,
        num_patches=9,
        groups=2,
        text_width=12,
    )
    nn.init.normal_(net.to_digits.weight, std=0.1)  # it begins at 0, where no gradient passes
    return net


def test_activations_that_are_not_kept_change_no_bit():
    net = small_denoiser()
    kept = denoiser_step(net)
    calls = []
    handle = net.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    net.keeps_activations = False
    again = denoiser_step(net)
    handle.remove()
    assert len(calls) == 2, "a block is worked out twice"
    assert len(kept) == len(again) > 20
    assert all(torch.equal(one, two) for one, two in zip(kept, again, strict=True))


@pytest.mark.slow
def test_compiled_blocks_compute_the_same():
    net = small_denoiser()
    plain = denoiser_step(net)
    # What is traced is what is computed, and all of a block at once: what cannot be traced is an error here.
    net.blocks[0].compile(backend="aot_eager", fullgraph=True)
    with shapes.unchecked():  # the checks would be traced as well, which takes most of the time
        compiled = denoiser_step(net)
    for one, two in zip(plain, compiled, strict=True):
        assert (one - two).abs().max() <= 1e-5 * one.abs().max()
    assert set(net.state_dict()) == set(small_denoiser().state_dict())
