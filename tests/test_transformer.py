"""Rotary positions against complex numbers, and blocks that begin as the identity."""

import pytest
import torch

from cdcd_video.config import Config, DenoiserConfig
from cdcd_video.networks.codec.quantizer import FiniteScalarQuantizer
from cdcd_video.networks.conditional_transformer import rotation_of_grid
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.patch_grid import square_grid
from cdcd_video.networks.transformer import Attention, Block, rotated

SIDE, HEAD = 3, 8


def heads(seed: int) -> torch.Tensor:
    return torch.randn(2, 1, SIDE**2, HEAD, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_rotation_is_a_product_of_complex_numbers():
    """Channels i and i + d/2 are one complex number, multiplied by exp(i angle); the angles by hand."""
    rates = [1.0, 0.1]  # 100^(-4i/8)
    angles = torch.tensor(
        [[y * rate for rate in rates] + [x * rate for rate in rates] for y in range(3) for x in range(3)]
    )
    x = heads(0)
    wanted = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(9, 4), angles)
    found = rotated(x, rotation_of_grid((3, 3), HEAD))
    torch.testing.assert_close(found, torch.cat([wanted.real, wanted.imag], -1), atol=1e-6, rtol=0)


def test_scores_depend_on_how_far_patches_are_apart():
    query, key = heads(1)[:, :, :1], heads(2)[:, :, :1]  # the same content everywhere
    rotation = rotation_of_grid((SIDE, SIDE), HEAD)
    everywhere = (1, 1, SIDE**2, 1)
    scores = rotated(query.repeat(everywhere), rotation) @ rotated(key.repeat(everywhere), rotation).mT
    places = [divmod(patch, SIDE) for patch in range(SIDE**2)]
    by_distance: dict[tuple[int, int], list[torch.Tensor]] = {}
    for i, (row, column) in enumerate(places):
        for j, (its_row, its_column) in enumerate(places):
            by_distance.setdefault((its_row - row, its_column - column), []).append(scores[0, 0, i, j])
    assert len(by_distance) == 25
    for found in by_distance.values():
        torch.testing.assert_close(torch.stack(found), found[0].expand(len(found)), atol=1e-6, rtol=0)
    assert len({round(float(found[0]), 5) for found in by_distance.values()}) == 25


def test_attention_turns_queries_and_keys_and_leaves_values():
    torch.manual_seed(0)
    attention, x, rotation = Attention(2 * HEAD, 2), torch.randn(2, 9, 2 * HEAD), rotation_of_grid((3, 3), HEAD)
    q = attention._heads(attention.query(x))
    k, v = (attention._heads(part) for part in attention.key_value(x).chunk(2, -1))
    scores = rotated(q, rotation) @ rotated(k, rotation).mT / HEAD**0.5
    wanted = attention.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, rotation=rotation), wanted)
    assert (attention(x) - wanted).abs().max() > 1e-3


def denoiser(**settings: bool) -> Denoiser:
    torch.manual_seed(0)
    cfg, table = DenoiserConfig(width=32, num_layers=2, num_heads=2, **settings), FiniteScalarQuantizer((3, 2)).table
    return Denoiser(cfg, levels=(3, 2), table=table, num_patches=4, groups=2, text_width=8)


def test_both_settings_add_no_parameter_and_nothing_to_a_checkpoint():
    plain, both = denoiser().state_dict(), denoiser(rotary=True, zero_init=True).state_dict()
    assert plain.keys() == both.keys()
    differ = {name for name in plain if not torch.equal(plain[name], both[name])}
    assert {name.split(".", 2)[2] for name in differ} == {
        f"{part}.{kind}"
        for part in ("self_attention.out", "cross_attention.out", "mlp.2")
        for kind in ("weight", "bias")
    }


def test_a_block_of_zero_outputs_is_the_identity_and_learns():
    torch.manual_seed(0)
    block = Block(32, 2, context_width=8, modulated=True)
    block.zero_outputs()
    x, modulation = torch.randn(2, 4, 32), torch.randn(2, 6, 32)
    context = block.cross_attention.keys_values(torch.randn(2, 3, 8))
    y = block(x, modulation=modulation, context=context)
    assert torch.equal(y, x)
    y.square().sum().backward()
    for layer in (block.self_attention.out, block.cross_attention.out, block.mlp[2]):
        assert layer.weight.grad.abs().max() > 0


def test_patches_that_are_no_square_and_heads_that_cannot_be_turned_are_refused():
    with pytest.raises(ValueError, match="6 patches are no square grid"):
        square_grid(6)
    with pytest.raises(ValueError, match="rotary needs heads whose width is a multiple of 4"):
        DenoiserConfig(width=32, num_heads=3, rotary=True)
    assert Config(name="x", data={"kind": "sprites"}).denoiser.rotary is False
