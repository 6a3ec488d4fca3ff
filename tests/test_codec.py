"""Quantisers, the codec's round trips, and what its losses and figures mean."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from vector_quantize_pytorch import FSQ

from cdcd_video.config import CodecConfig, VqConfig
from cdcd_video.data.store import Clips
from cdcd_video.networks.clip import FrozenClip, VisionStates
from cdcd_video.networks.codec.codec_loss import (
    codec_objective,
    decoder_objective,
    has_changed,
    is_patch_changed,
    psnr,
    reconstruction_loss,
    still_loss,
)
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.networks.codec.quantizer import FiniteScalarQuantizer, VectorQuantizer
from cdcd_video.records import FramePair
from cdcd_video.training.codec_metrics import codec_metrics_of
from cdcd_video.training.pixel_stages import DecoderStage

LEVELS = (8, 6, 5)


class PixelClip(FrozenClip):
    """Stands in for CLIP: a patch's state is its pixels, the embedding their mean colour."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def encode_image(self, images, layers, grid=None):
        patches = torch.nn.functional.unfold(images, 8, stride=8).transpose(1, 2)
        mean = torch.nn.functional.normalize(images.mean((2, 3)), dim=-1)
        return VisionStates(tuple(patches for _ in layers), mean)


@pytest.fixture
def codec() -> Codec:
    torch.manual_seed(0)
    cfg = CodecConfig(
        layers=(0, 1), projection_width=32, groups=2, decoder_width=32, decoder_layers=1, pixel_width=8, embed_width=32
    )
    return Codec(cfg, clip_width=192, num_patches=16, joint_width=3, size_px=32)


@pytest.fixture
def pair() -> FramePair:
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(3, 4, 3, 32, 32, generator=generator)
    target = frames[0].clone()
    target[:, :, :8, :8] = frames[1][:, :, :8, :8]  # only the first patch differs from the source
    return FramePair(first=frames[2], source=frames[0], target=target)


def test_fsq_equals_the_library_forward_and_gradient():
    ours, library = FiniteScalarQuantizer(LEVELS), FSQ(list(LEVELS))
    latents = torch.randn(2, 50, 1, 3, generator=torch.Generator().manual_seed(0)) * 2
    mine, theirs = latents.clone().requires_grad_(), latents.clone().requires_grad_()
    quantized = ours(mine)
    values, codes = library(theirs.squeeze(2))
    assert torch.equal(quantized.codes.squeeze(2), codes.long())
    torch.testing.assert_close(quantized.values.squeeze(2), values)
    cotangent = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    (quantized.values.squeeze(2) * cotangent).sum().backward()
    (values * cotangent).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("levels", [LEVELS, (2,), (3, 3), (4, 2, 2)])
def test_every_fsq_code_round_trips_through_its_values(levels):
    quantizer = FiniteScalarQuantizer(levels)
    codes = torch.arange(quantizer.num_codes)
    digits = (quantizer.table * quantizer.middle + quantizer.middle).round().long()
    assert torch.equal((digits * quantizer.radix).sum(-1), codes)
    assert len(torch.unique(quantizer.table, dim=0)) == quantizer.num_codes
    bounded = (quantizer.table * quantizer.middle + quantizer.offset) / quantizer.half_width
    latents = torch.atanh(bounded.clamp(-0.9999, 0.9999)) - quantizer.shift
    assert torch.equal(quantizer(latents.view(1, -1, 1, len(levels))).codes.flatten(), codes)


def test_vq_learns_its_codebook_from_the_latents():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(4, 2)
    centres = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    latents = centres[torch.randint(4, (64, 8, 1))] + 0.05 * torch.randn(64, 8, 1, 2)
    before = (quantizer(latents).values - latents).square().mean()
    for _ in range(20):
        quantized = quantizer(latents)
    assert (quantized.values - latents).square().mean() <= before
    assert torch.equal(quantizer.table[quantized.codes].float(), quantized.values.detach().float())
    assert VqConfig().num_codes == 256


def test_soft_codes_of_certain_codes_are_the_codes(codec):
    codes = torch.randint(codec.num_codes, (3, codec.num_tokens), generator=torch.Generator().manual_seed(0))
    certain = torch.nn.functional.one_hot(codes, codec.num_codes).float()
    torch.testing.assert_close(codec.soft_values(certain), codec.values(codes))
    torch.testing.assert_close(codec.embed_soft(certain), codec.embed(codes))
    assert torch.allclose(codec.embed(codes).norm(dim=-1), torch.ones(3))


def test_the_embedding_reaches_the_logits(codec):
    logits = torch.randn(2, codec.num_tokens, codec.num_codes, requires_grad=True)
    codec.embed_soft(logits.softmax(-1))[:, 0].sum().backward()
    assert logits.grad.abs().max() > 0 and torch.isfinite(logits.grad).all()


def test_the_decoder_uses_the_starting_frame(codec):
    codes = torch.zeros(1, codec.num_tokens, dtype=torch.long)
    dark, light = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    assert (codec.decode(codes, light) - codec.decode(codes, dark)).mean() > 0.3
    assert codec.decode(codes, dark).shape == (1, 3, 32, 32)


def test_a_fresh_codec_learns(codec, pair):
    clip, optimizer = PixelClip(), torch.optim.Adam(codec.parameters(), lr=3e-3)
    first = codec_objective(codec, clip, pair)
    for _ in range(60):
        terms = codec_objective(codec, clip, pair)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    assert terms.parts["reconstruction"] < 0.8 * first.parts["reconstruction"]
    assert terms.parts["embed"] < first.parts["embed"]


def test_the_decoder_stage_leaves_the_codes_alone(codec, pair):
    clip = PixelClip()
    codec.requires_grad_(False)
    codec.decoder.requires_grad_(True)
    before = codec.encode(clip.encode_image(pair.target, (0, 1)).patches)
    decoder_objective(codec, clip, pair).total.backward()
    assert all(weight.grad is None for name, weight in codec.named_parameters() if not name.startswith("decoder"))
    assert codec.decoder.to_pixels.weight.grad.abs().max() > 0
    assert torch.equal(before, codec.encode(clip.encode_image(pair.target, (0, 1)).patches))


def test_the_reconstruction_equals_its_formula(pair):
    """L1 + 4 L2 over all values, those of changed pixels times 1 + the weight, over the mean of the weights."""
    decoded = torch.rand(pair.target.shape, generator=torch.Generator().manual_seed(2))
    first = torch.where(torch.arange(32) < 12, pair.target, pair.target + 0.1)  # 12 columns of 32 have not changed
    loss = reconstruction_loss(decoded, replace(pair, first=first), 2.5)
    weight = torch.where(torch.arange(32) < 12, 1.0, 3.5)
    error = (decoded - pair.target).abs()
    torch.testing.assert_close(loss, (weight * (error + 4 * error**2)).mean() / weight.mean())


def test_change_is_found_where_it_is(pair):
    changed = is_patch_changed(pair.target, pair.source, 4, 0.0)
    assert changed[:, 0].all() and not changed[:, 1:].any()
    assert not has_changed(pair.source, pair.source + 1 / 255).any()


def test_the_still_term_counts_only_equal_patches(pair):
    latents = torch.zeros(8, 16, 6)
    latents[:4, 0] = 5.0  # the patch that really changed
    assert still_loss(latents, pair, 0.0) == 0
    latents[:4, 1] = 5.0
    assert still_loss(latents, pair, 0.0) == still_loss(latents, pair, 3.0) == pytest.approx(25 / 15)


def shaken(frame: torch.Tensor, levels: list[float]) -> torch.Tensor:
    """Each row of patches moved by so many levels of 255, up and down by turns."""
    sign = torch.tensor([1.0, -1.0]).repeat(16)
    return frame + sign * torch.tensor(levels).repeat_interleave(8)[:, None] / 255


@pytest.mark.parametrize(
    ("tolerance", "still"), [(0.0, [1, 0, 0, 0]), (0.9, [1, 0, 0, 0]), (1.0, [1, 1, 0, 0]), (3.0, [1, 1, 1, 0])]
)
def test_a_patch_is_still_up_to_the_tolerance(tolerance, still):
    frame = torch.full((2, 3, 32, 32), 0.5)
    changed = is_patch_changed(frame, shaken(frame, [0.0, 1.0, 3.0, 3.1]), 4, tolerance)
    assert changed.tolist() == [[not one for one in still for _ in range(4)]] * 2
    spot = frame.clone()
    spot[0, 0, 3, 3] += 60 / 255  # one value of one pixel: 0.3 levels over the patch
    assert is_patch_changed(frame, spot, 4, tolerance)[0].tolist() == [tolerance == 0] + [False] * 15


def test_the_still_term_and_the_figure_take_the_tolerance_of_the_config(codec, pair):
    noisy = replace(pair, target=shaken(pair.source, [2.0] * 4))
    terms = {}
    for tolerance in (0.0, 3.0):
        codec.cfg = codec.cfg.model_copy(update={"still_tolerance": tolerance})
        terms[tolerance] = codec_objective(codec, PixelClip(), noisy).parts["still"]
        figures = codec_metrics_of(codec, PixelClip(), NoisyClip(), num_clips=1)
        assert figures["still_tolerance"] == tolerance and figures["still_share"] == (tolerance == 3.0)
        assert np.isnan(figures["flicker"]) if tolerance == 0 else 0 < figures["flicker"] < 1
    assert terms[0.0] == 0 < terms[3.0]


def test_psnr_is_the_textbook_one():
    frame = torch.full((1, 3, 4, 4), 0.5)
    assert psnr(frame, frame + 0.1).item() == pytest.approx(20.0, abs=1e-4)


class TwoClips(Clips):
    """One still clip and one whose first patch blinks."""

    size_px, fps, mode = 32, 8.0, "crop"

    def __len__(self):
        return 2

    def num_frames(self, clip):
        return 8

    def cuts(self, clip):
        return ()

    def frames(self, clip, indices):
        frames = np.full((8, 32, 32, 3), 100, np.uint8)
        frames[::2, :8, :8] += 100 * clip
        return frames[list(indices)]


class NoisyClip(TwoClips):
    """One clip of a texture that nothing but noise moves, two levels at the most."""

    def __len__(self):
        return 1

    def frames(self, clip, indices):
        rng = np.random.Generator(np.random.Philox(key=1))
        texture, noise = rng.integers(2, 254, (32, 32, 3)), rng.integers(-2, 3, (8, 32, 32, 3))
        return (texture + noise).astype(np.uint8)[list(indices)]


def test_flicker_counts_only_where_nothing_moves(codec):
    figures = codec_metrics_of(codec, PixelClip(), TwoClips(), num_clips=2)
    assert figures["flicker"] == 0.0  # the stand-in CLIP is local: equal patches, equal codes
    assert 0 < figures["usage"] <= 1 and 1 <= figures["perplexity"] <= codec.num_codes
    assert -1 <= figures["embed_cosine"] <= 1
    everything = codec_metrics_of(codec, PixelClip(), TwoClips(), 2, lambda clip, frame: np.ones((32, 32), bool))
    assert np.isnan(everything["background_psnr_db"])


def test_a_learned_codebook_stands_still_while_the_decoder_learns(pair):
    torch.manual_seed(0)
    cfg = CodecConfig(
        layers=(0,), projection_width=16, groups=1, quantizer=VqConfig(num_codes=8, width=2), decoder_width=32
    )
    codec = Codec(cfg, clip_width=192, num_patches=16, joint_width=3, size_px=32)
    stage = DecoderStage.__new__(DecoderStage)
    stage.codec, stage.clip, stage.picture = codec, PixelClip(), None
    codec.encode(PixelClip().encode_image(pair.target, (0,)).patches)  # the codebook begins at its first data
    before = codec.table.clone()
    codec.train()
    stage.objective(pair, torch.Generator())
    assert torch.equal(codec.table, before)
