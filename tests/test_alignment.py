"""The term `alignment`: its formula written out, what it cannot be pleased by, and where it ends."""

import math
from dataclasses import replace

import pytest
import torch
from together import NUM_CODES, SIZES, code_pair, codec, generator, uneven
from torch import Tensor

from cdcd_video.config import ContrastConfig, DiffusionConfig, LossConfig
from cdcd_video.contrast_terms import heads_of
from cdcd_video.contrast_terms.alignment import AlignmentHead, alignment_loss, normalised
from cdcd_video.diffusion import process as processes
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.objective import diffusion_objective
from cdcd_video.records import FrameAfter
from cdcd_video.training.step_draws import make_step_draws

ROWS, PLACES, WIDTH = 3, 4, 3


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


def test_the_loss_equals_its_formula():
    projected, target, source, after = torch.randn(
        4, ROWS, PLACES, WIDTH, generator=generator("align"), dtype=torch.float64
    )
    has_after = torch.tensor([True, False, True])
    losses, wins = alignment_loss(projected, target, source, after, has_after)
    for row in range(ROWS):
        near = {}
        for name, values in dict(target=target, source=source, after=after).items():
            rows = values[row]
            centred = (rows - rows.mean(0)) / (rows.var(0, correction=0).sqrt() + 1e-3)
            near[name] = sum(cosine(projected[row, n], centred[n]) for n in range(PLACES)) / PLACES
        w = math.exp(-1) if has_after[row] else 0.0
        expected = 1 - (near["target"] + w * near["source"] + w * near["after"]) / (1 + 2 * w)
        assert float(losses[row]) == pytest.approx(expected)
        assert wins[row] == float(near["target"] > near["source"])


def test_what_all_places_share_is_not_aligned():
    values = torch.randn(2, PLACES, WIDTH, generator=generator("shared"), dtype=torch.float64)
    torch.testing.assert_close(
        normalised(3.0 * values + torch.tensor([5.0, -2.0, 0.5])), normalised(values), rtol=1e-2, atol=1e-2
    )
    flat = normalised(torch.ones(2, PLACES, WIDTH))
    projected = torch.randn(2, PLACES, WIDTH, requires_grad=True)
    losses, _ = alignment_loss(projected, flat, flat, flat, torch.ones(2, dtype=torch.bool))
    assert losses.tolist() == pytest.approx([1.0, 1.0])
    assert not torch.autograd.grad(losses.sum(), projected)[0].any(), "a flat frame has nothing to be aligned to"


def test_the_head_is_a_convolution_over_the_grid():
    head = AlignmentHead(2, 1, 9)
    hidden = torch.randn(1, 9, 2, generator=generator("head"))
    padded = torch.zeros(5, 5, 2)
    padded[1:4, 1:4] = hidden[0].view(3, 3, 2)
    for place in range(9):
        y, x = divmod(place, 3)
        expected = (head.map.weight[0].permute(1, 2, 0) * padded[y : y + 3, x : x + 3]).sum() + head.map.bias[0]
        torch.testing.assert_close(head(hidden)[0, place, 0], expected)
    with pytest.raises(ValueError, match="no square grid"):
        AlignmentHead(2, 1, 8)


def test_in_a_step_it_trains_the_first_half_of_the_blocks_and_ends_at_half_of_the_stage():
    space, batch = codec().requires_grad_(False), code_pair(0)
    codes = torch.randint(NUM_CODES, batch.target.shape, generator=generator("after"))
    batch = replace(batch, after=FrameAfter(codes, torch.arange(len(codes)) % 2 == 0))
    shape = dict(
        levels=space.levels, table=space.table, num_patches=space.num_patches, groups=space.groups, text_width=8
    )
    torch.manual_seed(1)
    denoiser = uneven(Denoiser(SIZES, **shape))
    cfg, share = DiffusionConfig(num_steps=4), 0.6
    loss = LossConfig(bound=0.0, auxiliary=0.0, contrast=ContrastConfig(extra={"alignment": 0.5}, share=share))
    heads, process = heads_of(loss.contrast, denoiser, space), processes.mask(NUM_CODES)
    draws = make_step_draws(batch, cfg, loss, torch.Generator().manual_seed(3))

    def step(progress: float):
        at = replace(batch, progress=progress)
        return diffusion_objective(denoiser, process, space, at, draws, cfg, loss, heads=heads)

    terms, states = None, []
    handles = [block.register_forward_hook(lambda module, given, out: states.append(out)) for block in denoiser.blocks]
    terms = step(0.49)
    for handle in handles:
        handle.remove()
    rows = round(share * len(codes))
    values = [space.values(one[:rows]) for one in (batch.target, batch.source, codes)]
    losses, _ = alignment_loss(heads["alignment"](states[0])[:rows], *values, batch.after.is_there[:rows])
    torch.testing.assert_close(terms.total, 0.5 * losses.mean())
    assert float(terms.shares()["gradient_share_alignment"]) == pytest.approx(1)

    named = dict(denoiser.named_parameters()) | {f"head.{name}": value for name, value in heads.named_parameters()}
    slopes = dict(zip(named, torch.autograd.grad(terms.total, list(named.values()), allow_unused=True), strict=True))
    reached = {name for name, slope in slopes.items() if slope is not None and slope.any()}
    assert {"code_in.weight", "blocks.0.mlp.0.weight", "head.alignment.map.weight"} <= reached
    assert not [
        name
        for name in reached
        if name.startswith(("blocks.1.", "to_", "norm."))
        and name != "to_modulation.weight"
        and name != "to_modulation.bias"
    ]

    late = step(0.5)
    assert late.total == 0 and late.parts["alignment"] == terms.parts["alignment"], "it is still measured"
    after = torch.autograd.grad(late.total, list(named.values()), allow_unused=True)
    assert [slope is None for slope in after] == [slope is None for slope in slopes.values()]
    assert not [slope for slope in after if slope is not None and slope.any()]
