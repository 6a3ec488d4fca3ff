"""The eye for steps: what it sees, that it learns motion where an eye for frames cannot, and its place in training."""

import pytest
import torch
from fixtures_model import ROOT
from test_objective import batch, codec  # noqa: F401 (fixtures)
from torch import Tensor

from cdcd_video.config import Config, ContrastConfig, config_file
from cdcd_video.contrast.info_nce import batch_info_nce
from cdcd_video.contrast_terms import contrast_terms
from cdcd_video.engine import checkpoint
from cdcd_video.errors import UserError
from cdcd_video.networks.step_encoder import StepTextEncoder, step_encoder_objective
from cdcd_video.records import TextStates
from cdcd_video.training.training_run import TrainingRun

NUM, PATCHES, VALUES = 64, 4, 3


def fresh(text_width: int = 5, width: int = 32) -> StepTextEncoder:
    torch.manual_seed(0)
    return StepTextEncoder(VALUES, PATCHES, text_width, width)


def world(stream: torch.Generator, num: int = NUM) -> tuple[Tensor, Tensor, Tensor, TextStates]:
    """Sources at random; sentence k moves everything along axis k % 3, forwards or backwards."""
    said = torch.randint(6, (num,), generator=stream)
    source = torch.rand(num, PATCHES, VALUES, generator=stream)
    step = torch.nn.functional.one_hot(said % 3, 3) * (1 - 2 * (said // 3))[:, None]
    text = torch.nn.functional.one_hot(said, 6).float()[:, None, :]
    return (
        said,
        source,
        source + 0.1 * step[:, None],
        TextStates(text, torch.ones(num, 1, dtype=torch.bool), text[:, 0]),
    )


@torch.no_grad()
def test_embeddings_have_length_one_and_padding_is_not_read():
    step_encoder, stream = fresh(), torch.Generator().manual_seed(0)
    source, values = torch.rand(2, 6, PATCHES, VALUES, generator=stream)
    assert step_encoder.encode_step(source, values, torch.ones(6)).norm(dim=-1) == pytest.approx(
        torch.ones(6), abs=1e-5
    )
    tokens = torch.rand(6, 4, 5, generator=stream)
    is_word = torch.tensor([[True, True, False, False]]).expand(6, 4)
    text = TextStates(tokens, is_word, tokens[:, 0])
    other = TextStates(torch.where(is_word[..., None], tokens, 9.0), is_word, tokens[:, 0])
    assert step_encoder.encode_text(text).norm(dim=-1) == pytest.approx(torch.ones(6), abs=1e-5)
    assert step_encoder.encode_text(text).equal(step_encoder.encode_text(other))
    short = TextStates(tokens[:, :2], is_word[:, :2], tokens[:, 0])
    torch.testing.assert_close(step_encoder.encode_text(short), step_encoder.encode_text(text))


def test_it_learns_what_an_encoder_of_frames_cannot():
    """Frames alone do not tell where they came from; steps do. The control sees a source of zeros."""
    wins = {}
    for name in ("step", "frame"):
        step_encoder, stream = fresh(text_width=6), torch.Generator().manual_seed(1)
        optimizer = torch.optim.AdamW(step_encoder.parameters(), 3e-3)
        for step in range(101):
            said, source, values, text = world(stream)
            seen = step_encoder.encode_step(
                source if name == "step" else torch.zeros_like(source), values, torch.ones(NUM)
            )
            nats, won = batch_info_nce(seen, step_encoder.encode_text(text), said[:, None] != said, 0.1)
            if step < 100:
                optimizer.zero_grad()
                nats.mean().backward()
                optimizer.step()
        wins[name] = float(won.mean())
    assert wins["step"] > 0.95 and wins["frame"] < 0.6


def test_its_term_reaches_the_logits_and_not_the_encoder(batch, codec):  # noqa: F811
    torch.manual_seed(0)
    width = codec.table.shape[1] * codec.groups
    step_encoder = StepTextEncoder(width, codec.num_patches, batch.text.tokens.shape[-1], 32).requires_grad_(False)
    cfg = ContrastConfig(frame_text=0.5, share=1.0, text_eye="step")
    logits = torch.randn(len(batch.target), codec.num_tokens, codec.num_codes).requires_grad_()

    term = contrast_terms(logits, None, batch, codec, cfg, None, None, step_encoder)["frame_text"]
    term.weighted.backward()
    assert logits.grad.norm() > 0

    values = codec.soft_values(logits.detach().softmax(-1))
    seen = step_encoder.encode_step(codec.values(batch.source), values, batch.gap_s)
    scores = seen @ step_encoder.encode_text(batch.text).T / 0.1
    nats = []
    for row in range(len(scores)):
        own = scores[row, row]
        others = [scores[row, col] for col in range(len(scores)) if batch.caption[col] != batch.caption[row]]
        nats.append(torch.stack([own, *others]).logsumexp(0) - own)
    assert term.nats.item() == pytest.approx(float(torch.stack(nats).mean()), rel=1e-5)


def test_its_own_loss_masks_equal_captions(batch, codec):  # noqa: F811
    torch.manual_seed(0)
    width = codec.table.shape[1] * codec.groups
    step_encoder = StepTextEncoder(width, codec.num_patches, batch.text.tokens.shape[-1], 32)
    found = step_encoder_objective(step_encoder, codec, batch, 0.1)
    seen, read = (
        step_encoder.encode_step(codec.values(batch.source), codec.values(batch.target), batch.gap_s),
        step_encoder.encode_text(batch.text),
    )
    is_other = batch.caption[:, None] != batch.caption
    nats = [batch_info_nce(*pair, is_other, 0.1)[0].mean() for pair in ((seen, read), (read, seen))]
    assert found.total.item() == pytest.approx(sum(nats).item() / 2, rel=1e-5)
    found.total.backward()
    assert all(parameter.grad is not None for parameter in step_encoder.parameters())


def tiny(tiny_model, *changes: str) -> Config:
    small = ("data.num_clips=4", "data.num_val_clips=2", "train.diffusion.num_steps=3", "train.eye.num_steps=3")
    batches = ("train.eye.batch_size=4", f"reuse={tiny_model}", "loss.contrast.text_eye=step")
    return config_file.load(ROOT / "configs" / "tiny.yaml", Config, [*small, *batches, *changes])


def test_it_is_trained_before_the_diffusion_which_looks_with_it(tiny_model, tmp_path):
    run = TrainingRun(tiny(tiny_model), tmp_path / "run", ["test"])
    with pytest.raises(UserError, match="eye"):
        run.train(["diffusion"])
    run.train(["eye"])
    weights = checkpoint.load_weights(run.out, "eye", "ema")
    run.train(["diffusion"])
    assert all(weights[name].equal(value) for name, value in checkpoint.load_weights(run.out, "eye", "ema").items())
    assert (run.folder / "denoiser.safetensors").is_file() and not list(run.folder.glob("*eye*"))


def test_it_is_skipped_where_no_term_looks_with_it(tiny_model, tmp_path):
    run = TrainingRun(tiny(tiny_model, "loss.contrast.frame_text=0"), tmp_path / "run", ["test"])
    run.train(["eye", "diffusion"])
    assert not checkpoint.home(run.out, "eye").exists()
