"""Muon: orthogonal updates, one learning rate with AdamW, state that is taken up again."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cdcd_video.engine import optim
from cdcd_video.engine.muon import RMS_OF_ADAMW, Muon, orthogonalized
from cdcd_video.engine.optim import TrainSettings, load_optimizer_tensors, make_optimizer, optimizer_tensors
from cdcd_video.networks.transformer import Attention

SETTINGS = TrainSettings(num_steps=10, learning_rate=0.01, weight_decay=0.1, optimizer="muon")


def network() -> nn.Module:
    torch.manual_seed(0)
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 12), nn.LayerNorm(12), nn.Linear(12, 6)) for _ in range(2))
    return nn.ModuleDict({"embedding": nn.Embedding(5, 6), "blocks": blocks, "head": nn.Linear(6, 3)})


def with_gradients(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4)])
def test_singular_vectors_stay_and_values_come_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalized(matrix[None])[0]
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = left.T @ found @ right.T
    assert torch.allclose(values, torch.diag(values.diag()), atol=1e-4)
    assert values.diag().min() > 0.6 and values.diag().max() < 1.25


def test_a_batch_is_each_matrix_by_itself():
    batch = torch.randn(3, 5, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    alone = torch.cat([orthogonalized(one[None]) for one in batch])
    assert torch.allclose(orthogonalized(batch), alone, atol=1e-12)


def test_two_steps_by_hand():
    weight = nn.Parameter(torch.randn(4, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    expected, average = weight.detach().clone(), torch.zeros(4, 7, dtype=torch.float64)
    optimizer = Muon([weight], lr=0.1, weight_decay=0.5)
    for seed in (4, 5):
        gradient = torch.randn(4, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        weight.grad = gradient
        optimizer.step()
        average = 0.95 * average + 0.05 * gradient
        update = orthogonalized((0.05 * gradient + 0.95 * average)[None])[0]
        expected = (1 - 0.1 * 0.5) * expected - 0.1 * 0.2 * 7**0.5 * update
    assert torch.allclose(weight, expected, atol=1e-12)


def test_only_matrices_inside_blocks_are_moved_so():
    model = network()
    adamw, muon = make_optimizer(model, SETTINGS).parts
    of = {id(parameter): name for name, parameter in model.named_parameters()}
    moved = {of[id(parameter)] for group in muon.param_groups for parameter in group["params"]}
    assert moved == {f"blocks.{block}.{layer}.weight" for block in (0, 1) for layer in (0, 2)}
    rest = {of[id(parameter)] for group in adamw.param_groups for parameter in group["params"]}
    assert rest | moved == set(dict(model.named_parameters())) and not rest & moved
    (alone,) = make_optimizer(model, replace(SETTINGS, optimizer="adamw")).parts
    assert isinstance(alone, torch.optim.AdamW)


def test_keys_and_values_are_two_matrices():
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([Attention(8, 2, 12)])})
    key_value = model["blocks"][0].key_value
    key_value.weight.grad = torch.randn(16, 12)
    before = key_value.weight.detach().clone()
    make_optimizer(model, replace(SETTINGS, weight_decay=0.0)).step()
    moved = before - key_value.weight.detach()
    average = key_value.weight.grad.lerp(0.05 * key_value.weight.grad, 0.95)
    by_hand = torch.cat([orthogonalized(half[None])[0] for half in average.chunk(2)])
    torch.testing.assert_close(moved, SETTINGS.learning_rate * RMS_OF_ADAMW * 12**0.5 * by_hand, rtol=1e-4, atol=1e-6)


def test_muons_rate_is_a_multiple_of_that_of_all():
    optimizer = make_optimizer(network(), replace(SETTINGS, muon_ratio=4.0))
    optim.set_learning_rate(optimizer, 0.5)
    adamw, muon = optimizer.parts
    assert {group["lr"] for group in adamw.param_groups} == {0.5}
    assert {group["lr"] for group in muon.param_groups} == {2.0}
    assert {group["lr"] for group in make_optimizer(network(), SETTINGS).param_groups} == {SETTINGS.learning_rate}


def test_a_step_is_as_large_as_one_of_adamw():
    """Root mean square of an update over the rate: 0.2 for a matrix whose singular values are 1."""
    model = with_gradients(network(), 6)
    weight = model["blocks"][0][0].weight
    before = weight.detach().clone()
    make_optimizer(model, replace(SETTINGS, weight_decay=0.0)).step()
    size = (weight.detach() - before).square().mean().sqrt() / SETTINGS.learning_rate
    assert 0.2 * 0.6 < size < 0.2 * 1.25


def test_its_state_is_taken_up_again():
    runs = []
    for stops in (False, True):
        model = network()
        optimizer = make_optimizer(model, SETTINGS)
        for seed in range(4):
            with_gradients(model, seed)
            if stops and seed == 2:
                kept = {name: value.clone() for name, value in optimizer_tensors(model, optimizer).items()}
                optimizer = make_optimizer(model, SETTINGS)
                load_optimizer_tensors(model, optimizer, kept)
            optimizer.step()
        runs.append(dict(model.named_parameters()))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert "momentum_buffer/blocks.0.0.weight" in kept and "exp_avg/head.weight" in kept
