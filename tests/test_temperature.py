"""Learned temperatures come up again from their bound, and contrasts are scored in float32 whatever the networks run in."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from cdcd_video.config import CodecConfig, ContrastConfig
from cdcd_video.contrast import contrastive_guidance
from cdcd_video.contrast.info_nce import batch_info_nce, info_nce
from cdcd_video.contrast.temperature import LARGEST_SCALE, held
from cdcd_video.contrast_terms import Temperatures
from cdcd_video.networks.clip import FrozenClip, built_in
from cdcd_video.networks.codec.codec_loss import latent_contrast
from cdcd_video.records import FramePair, LossTerms

BOUND = math.log(LARGEST_SCALE)


def rows(number: int, seed: int, num: int = 48, width: int = 16) -> torch.Tensor:
    """Unit-norm rows in float64, unrelated to those of other seeds."""
    drawn = torch.randn(num, width, generator=torch.Generator().manual_seed(100 * number + seed), dtype=torch.float64)
    return F.normalize(drawn, dim=-1)


def clip_nats(image: torch.Tensor, text: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss by its formula, in the type of what is given; every row has a caption of its own."""
    logits = log_scale.exp() * image @ text.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own) + (logits.logsumexp(0) - own)).mean() / 2


def loss_of(image: torch.Tensor, text: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    return built_in.contrastive_loss(image, text, held(log_scale).exp(), torch.arange(len(image))).total


# ----------------------------------------------------------------------------------------------------------- the bound


@pytest.mark.parametrize("start", [4.0, 4.60, BOUND, 4.61, 7.0])
def test_the_gradient_of_a_temperature_passes_at_the_bound_and_beyond(start: float):
    image, text = rows(1, 1), rows(1, 2)
    log_scale = torch.nn.Parameter(torch.tensor(start))
    (gradient,) = torch.autograd.grad(loss_of(image.float(), text.float(), log_scale), log_scale)
    exact = torch.tensor(min(start, BOUND), dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(clip_nats(image, text, exact), exact)
    assert gradient.item() == pytest.approx(expected.item(), rel=1e-4) and expected > 1
    assert log_scale.item() == pytest.approx(min(start, BOUND), abs=1e-6)


@pytest.mark.parametrize("start", [4.60, 4.61, 9.0])
def test_a_temperature_that_fell_too_low_comes_up_again(start: float):
    image, text = rows(2, 1).float(), rows(2, 2).float()
    log_scale = torch.nn.Parameter(torch.tensor(start))
    for _ in range(60):  # a step of Adam, as long as the gradient keeps its sign
        (gradient,) = torch.autograd.grad(loss_of(image, text, log_scale), log_scale)
        log_scale.data -= 0.02 * gradient.sign()
    assert log_scale.item() == pytest.approx(min(start, BOUND) - 60 * 0.02, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("start", [-3.0, 2.5, 4.59375, 4.605, 4.7, 100.0])
def test_what_is_held_is_at_most_the_bound_and_else_untouched(start: float, dtype: torch.dtype):
    log_scale = torch.nn.Parameter(torch.tensor(start, dtype=dtype))
    before = log_scale.item()
    assert held(log_scale) is log_scale
    after = log_scale.item()
    assert after <= BOUND and (after == before or before > BOUND)
    assert BOUND - after < 8 * torch.finfo(dtype).eps or before <= BOUND


def test_all_learned_temperatures_have_the_same_limit():
    temperatures = Temperatures(ContrastConfig(frame_frame=1.0, frame_text=1.0, learn_temperature=True))
    with torch.no_grad():
        temperatures.log_scales["frame_text"].fill_(8.0)
    temperature = temperatures("frame_text")
    assert temperature.item() == pytest.approx(0.01, rel=1e-6)
    temperature.backward()
    assert float(temperatures.log_scales["frame_text"].grad) == pytest.approx(-0.01, rel=1e-6)


@pytest.mark.parametrize("log_scale", [2.5, BOUND, 4.61])
def test_what_is_written_of_a_clip_is_at_most_the_bound(log_scale: float, tiny_model, tmp_path):
    from transformers import AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(tiny_model / "clip", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model / "clip", local_files_only=True)
    model.logit_scale.data.fill_(log_scale)
    built_in.save_clip(model, tokenizer, ["a"], tmp_path)
    written = float(load_file(tmp_path / "model.safetensors")["logit_scale"])
    assert written == log_scale if log_scale < 4 else BOUND - 4e-3 < written <= BOUND


# ------------------------------------------------------------------------------------------------------- the precision


def under(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_clips_loss_is_that_of_float64_under_autocast(dtype: torch.dtype):
    image, text = rows(3, 1, 64), F.normalize(rows(3, 1, 64) + 2 * rows(3, 2, 64), dim=-1)
    given = [side.float().requires_grad_() for side in (image, text)]
    log_scale = torch.nn.Parameter(torch.tensor(BOUND))
    with under(dtype):
        total = loss_of(*given, log_scale)
        assert total.dtype is torch.float32
    found = torch.autograd.grad(total, [*given, log_scale])
    exact = [side.clone().requires_grad_() for side in (image, text)] + [log_scale.detach().double().requires_grad_()]
    right = clip_nats(*exact)
    assert total.item() == pytest.approx(right.item(), abs=1e-4) and right > 1
    for one, other in zip(found, torch.autograd.grad(right, exact), strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-4


def test_rows_of_a_clip_have_norm_1_under_autocast(tiny_model, monkeypatch):
    frozen = FrozenClip(tiny_model / "clip")
    frozen.model.requires_grad_(True)
    pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ids, mask = frozen.tokenize(["the red circle moves right", "the blue star stays still"] * 3)
    seen = []
    nothing = LossTerms(torch.zeros(()), {})
    monkeypatch.setattr(built_in, "contrastive_loss", lambda *given: seen.extend(given[:4]) or nothing)
    with under(torch.bfloat16):
        built_in.clip_objective(frozen.model, pixels, ids, mask, torch.arange(6))
        seen += [frozen.encode_image(pixels.sigmoid(), ()).embedding, frozen.encode_text(["the red circle"]).embedding]
    for number in (0, 1, 4, 5):
        assert seen[number].dtype is torch.float32
        assert float((seen[number].detach().double().norm(dim=-1) - 1).abs().max()) < 1e-6


def half(*sides: torch.Tensor) -> list[torch.Tensor]:
    """As a tower in 16 bits would give them."""
    return [side.to(torch.bfloat16) for side in sides]


def test_every_contrast_scores_rows_of_16_bits_in_float32():
    """The rows are what they are; the scores of those very rows must be exact."""
    anchor, positive = half(rows(4, 1, 12), F.normalize(rows(4, 1, 12) + rows(4, 2, 12), dim=-1))
    own = half(rows(4, 3, 36).unflatten(0, (12, 3)))[0]
    is_negative, is_own = ~torch.eye(12, dtype=torch.bool), torch.ones(12, 3, dtype=torch.bool)
    exact = [side.double() for side in (anchor, positive)]
    with under(torch.bfloat16):
        one = info_nce(anchor, positive, positive, is_negative, 0.01, own, is_own)[0]
        both = batch_info_nce(anchor, positive, is_negative, 0.01, own, is_own, symmetric=True)[0]
        close = contrastive_guidance.closeness(anchor, [positive])
    pairs = [
        (one, info_nce(*exact, exact[1], is_negative, 0.01, own.double(), is_own)[0]),
        (both, batch_info_nce(*exact, is_negative, 0.01, own.double(), is_own, symmetric=True)[0]),
        (close, contrastive_guidance.closeness(exact[0], [exact[1]])),
    ]
    for found, right in pairs:
        assert found.dtype is torch.float32
        torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-4)


def test_the_codecs_contrast_is_that_of_float64_under_autocast():
    cfg = CodecConfig(frame_frame=1.0, frame_text=1.0, temperature=0.01)
    embedded, said, nothing = rows(5, 1, 16), rows(5, 2, 8), torch.zeros(8, 3, 8, 8)
    names = dict(clip=torch.arange(8), caption=torch.arange(8))
    with under(torch.bfloat16):
        found = latent_contrast(
            embedded.float(), FramePair(nothing, nothing, nothing, **names, caption_embedding=said.float()), cfg
        )[0]
    right = latent_contrast(embedded, FramePair(nothing, nothing, nothing, **names, caption_embedding=said), cfg)[0]
    assert float(found) == pytest.approx(float(right), abs=1e-4)
