"""Networks on grids of patches that are no squares: CLIP, codec, denoiser; on their own grid they keep every bit."""

import numpy as np
import pytest
import torch

from cdcd_video.config import CodecConfig, DenoiserConfig, FsqConfig
from cdcd_video.model import SHIPPED
from cdcd_video.networks.clip import FrozenClip, plain_towers
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.conditioning import Condition, of_rows, with_empty_captions
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.networks.patch_grid import positions_on, square_grid
from cdcd_video.networks.step_encoder import StepTextEncoder
from cdcd_video.records import TextStates

GRIDS = [(4, 6), (6, 4), (3, 8)]
FOLDER = SHIPPED / "sprites" / "clip"


def test_positions_on_their_own_grid_are_the_table_itself():
    table = torch.randn(16, 3)
    assert positions_on(table, None) is table and positions_on(table, (4, 4)) is table
    with pytest.raises(ValueError, match="6 patches are no square grid"):
        square_grid(6)


@pytest.mark.parametrize("how", ["linear", "bicubic"])
def test_positions_are_those_of_torchs_own_interpolation(how: str):
    table = torch.randn(16, 3, requires_grad=True)
    square = table.detach().unflatten(0, (4, 4)).permute(2, 0, 1)[None]
    mode = "bilinear" if how == "linear" else how
    for grid in GRIDS:
        expected = torch.nn.functional.interpolate(square, size=grid, mode=mode, align_corners=False)
        found = positions_on(table, grid, how)
        assert torch.allclose(found, expected[0].flatten(1).T, atol=1e-5)
    rows = torch.arange(4.0).repeat_interleave(4)[:, None]
    assert positions_on(rows, (4, 6)).view(4, 6).std(1).max() < 1e-6, "rows stay rows"
    found.square().sum().backward()
    assert table.grad.abs().min() > 0


def test_a_clip_sees_wide_frames_as_the_published_code_does():
    plain = FrozenClip(FOLDER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_towers, "config_of", lambda files: None)
        other = FrozenClip(FOLDER)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    mine, theirs = (clip.encode_image(images, (0, 2, 4), (8, 12)) for clip in (plain, other))
    assert mine.patches[0].shape == (2, 96, 192)
    assert torch.allclose(mine.embedding, theirs.embedding, atol=1e-5)
    assert all(torch.allclose(one, two, atol=1e-4) for one, two in zip(mine.patches, theirs.patches, strict=True))
    # a frame of another scale is resized to the same pixels for each patch
    assert plain.encode_image(torch.rand(1, 3, 128, 192), (0,), (8, 12)).patches[0].shape[1] == 96
    square = torch.rand(2, 3, 64, 64)
    assert torch.equal(plain.encode_image(square, ()).embedding, plain.encode_image(square, (), (8, 8)).embedding)


def codec() -> Codec:
    cfg = CodecConfig(
        layers=(0,), groups=2, quantizer=FsqConfig(levels=(3, 2)), decoder_width=32, decoder_layers=1, embed_width=32
    )
    torch.manual_seed(0)
    return Codec(cfg, clip_width=32, num_patches=16, joint_width=8, size_px=32).eval()


@pytest.mark.parametrize("grid", GRIDS)
def test_a_codec_decodes_a_frame_of_the_starting_frames_size(grid: tuple[int, int]):
    net, (rows, columns) = codec(), grid
    assert net.grid_of(8 * rows, 8 * columns) == grid
    codes = torch.randint(6, (2, rows * columns * 2))
    start = torch.rand(2, 3, 8 * rows, 8 * columns)
    frame = net.decode(codes, start)
    assert frame.shape == start.shape and net.embed(codes, grid).shape == (2, 8)
    values = net.values(codes)
    assert torch.equal(net.decode_values(values, start, values), start), "nothing has changed, and all is copied"
    other = values.clone()
    other[:, columns] += 1  # the first patch of the second row
    kept = (net.decode_values(other, start, values) == start).all(1)
    assert not kept[:, 8:16, :8].all() and kept[:, :8].all() and kept[:, :, 8:].all()
    with pytest.raises(ValueError, match="no whole number of patches of 8 px"):
        net.grid_of(32, 36)


@pytest.mark.parametrize("rotary", [False, True])
def test_a_denoiser_predicts_codes_on_any_grid(rotary: bool):
    torch.manual_seed(0)
    cfg = DenoiserConfig(width=32, num_layers=2, num_heads=2, rotary=rotary)
    table = codec().table
    net = Denoiser(cfg, levels=(3, 2), table=table, num_patches=16, groups=2, text_width=8).eval()
    torch.nn.init.normal_(net.to_digits.weight)
    text = TextStates(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool), torch.randn(2, 4))

    def condition(codes: torch.Tensor, grid: tuple[int, int] | None) -> Condition:
        ones = torch.ones(2)
        return Condition(codes, codes, torch.ones(2, dtype=torch.bool), ones, ones, text, grid=grid)

    found = {}
    for grid in [(4, 6), (6, 4)]:
        codes = torch.from_numpy(np.random.default_rng(0).integers(6, size=(2, 48)))
        given = condition(codes, grid)
        found[grid] = net(codes, torch.ones(2), given)
        assert found[grid].shape == (2, 48, 6)
        assert of_rows(given, slice(1)).grid == with_empty_captions(given).grid == grid
    assert not torch.allclose(found[4, 6], found[6, 4]), "the grid matters, not the number of patches alone"
    codes = torch.randint(6, (2, 32))
    assert torch.equal(
        net(codes, torch.ones(2), condition(codes, None)), net(codes, torch.ones(2), condition(codes, (4, 4)))
    )


def test_a_step_encoder_embeds_steps_on_any_grid():
    net = StepTextEncoder(4, 16, 8, 32)
    for rows, columns in GRIDS:
        values = torch.randn(2, rows * columns, 4)
        assert net.encode_step(values, values, torch.ones(2), (rows, columns)).shape == (2, 32)
