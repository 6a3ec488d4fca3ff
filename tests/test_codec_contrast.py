"""The contrast in the codec: InfoNCE on the frames' own codes, off unless asked for; and the figures of the space."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapes
import torch
from test_codec import PixelClip
from torch.nn.functional import normalize

from cdcd_video.config import CodecConfig, Config, config_file
from cdcd_video.metrics.latent.space import space_metrics
from cdcd_video.model import load_model
from cdcd_video.networks.codec.codec_loss import codec_objective, latent_contrast
from cdcd_video.networks.codec.frame_codec import Codec
from cdcd_video.records import FramePair
from cdcd_video.training.pixel_stages import CodecStage, DecoderStage
from cdcd_video.training.training_data import open_clips
from cdcd_video.training.training_run import TrainingRun

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "configs" / "tiny.yaml"
ON = ["codec.frame_frame=0.3", "codec.frame_text=0.3"]
SIZES = dict(projection_width=32, groups=2, decoder_width=32, decoder_layers=1, pixel_width=8, embed_width=32)
CLIP, CAPTION = torch.tensor([4, 7, 4, 9, 2]), torch.tensor([0, 1, 1, 2, 0])


def codec(**dials) -> Codec:
    torch.manual_seed(0)
    cfg = CodecConfig(layers=(0, 1), **SIZES, **dials)
    return Codec(cfg, clip_width=192, num_patches=16, joint_width=3, size_px=32)


@pytest.fixture
def pair() -> FramePair:
    """Clips 4 twice, captions 0 and 1 twice."""
    first, source, target = torch.rand(3, 5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    said = normalize(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)), dim=-1)
    return FramePair(first, source, target, CLIP, CAPTION, said[CAPTION])


def unit_rows(*shape, seed=0):
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(rows, dim=-1)


# --------------------------------------------------------------------------------------------------------- the terms


def test_the_terms_are_those_written_out(pair):
    """Rows of one clip, and equal sentences, are no negatives of each other."""
    cfg = CodecConfig(frame_frame=0.7, frame_text=0.2, temperature=0.3)
    target, source, said = unit_rows(5, 3, seed=1), unit_rows(5, 3, seed=2), unit_rows(3, 3, seed=3)[CAPTION]
    total, parts = latent_contrast(torch.cat([target, source]), replace(pair, caption_embedding=said), cfg)

    def nats(anchor, positive, negatives):
        pull = math.exp(anchor @ positive / 0.3)
        return -math.log(pull / (pull + sum(math.exp(anchor @ row / 0.3) for row in negatives)))

    frame_frame, frame_text = [], []
    for i in range(5):
        others = [j for j in range(5) if CLIP[j] != CLIP[i]]
        frame_frame.append(nats(target[i], source[i], [source[j] for j in others]) / 2)
        frame_frame.append(nats(source[i], target[i], [target[j] for j in others]) / 2)
        unlike = [said[j] for j in range(5) if CAPTION[j] != CAPTION[i]]
        frame_text += [nats(frame[i], said[i], unlike) for frame in (target, source)]
    assert parts["frame_frame"].item() == pytest.approx(sum(frame_frame) / 5)
    assert parts["frame_text"].item() == pytest.approx(sum(frame_text) / 10)
    assert total.item() == pytest.approx(0.7 * sum(frame_frame) / 5 + 0.2 * sum(frame_text) / 10)
    assert 0 < parts["frame_frame_wins"] < 1 and 0 < parts["frame_text_wins"] < 1


def test_false_negatives_alone_cost_nothing_and_move_nothing(pair):
    rows = unit_rows(10, 3).requires_grad_()
    same = replace(
        pair,
        clip=torch.zeros_like(CLIP),
        caption=torch.zeros_like(CAPTION),
        caption_embedding=pair.caption_embedding.double(),
    )
    total, parts = latent_contrast(rows, same, CodecConfig(frame_frame=1.0, frame_text=1.0))
    total.backward()
    assert total == 0 and not rows.grad.any()
    assert parts["frame_frame_wins"] == parts["frame_text_wins"] == 1


def test_the_gradient_reaches_projection_and_head_and_nothing_else(pair):
    for name in ("frame_frame", "frame_text"):
        model = codec(**{name: 1.0})
        seen = PixelClip().encode_image(torch.cat([pair.target, pair.source]), (0, 1))
        embedded = model.embed_head(model.quantize(seen.patches)[1].values.flatten(2))
        latent_contrast(embedded, pair, model.cfg)[0].backward()
        moved = {part.split(".")[0] for part, weight in model.named_parameters() if weight.grad is not None}
        assert moved == {"projection", "embed_head"}
        assert all(weight.grad.abs().max() > 0 for weight in model.projection.mix.parameters())


def test_off_the_loss_has_the_same_bits_with_and_without_sentences(pair):
    bare = replace(pair, clip=None, caption=None, caption_embedding=None)
    off, told = (codec_objective(codec(), PixelClip(), batch) for batch in (bare, pair))
    assert torch.equal(off.total, told.total) and set(off.parts) == {"reconstruction", "still", "embed", "psnr_db"}
    parts = off.parts
    assert torch.equal(off.total, parts["reconstruction"] + parts["still"] + 0.2 * parts["embed"] + 0.0)


def test_on_the_other_terms_are_untouched_and_the_contrast_stands_apart(pair):
    off, on = (codec_objective(codec(**dials), PixelClip(), pair) for dials in ({}, {"frame_frame": 0.5}))
    assert all(torch.equal(on.parts[name], value) for name, value in off.parts.items())
    assert set(on.parts) - set(off.parts) == {"frame_frame", "frame_frame_wins"}
    torch.testing.assert_close(on.total, off.total + 0.5 * on.parts["frame_frame"])


# --------------------------------------------------------------------------------------------------------- the stage


@pytest.fixture(scope="module")
def stages(tiny_model):
    """Codec stages without and with the contrast, and the decoder's with it, over the same clips."""
    model = load_model(tiny_model)

    def stage(kind, changes):
        config = config_file.load(TINY, Config, changes)
        clips = open_clips(config, "train")
        return kind(model.codec, model.clip, config, clips, clips, torch.device("cpu"))

    return stage(CodecStage, []), stage(CodecStage, ON), stage(DecoderStage, ON)


def test_a_batch_brings_sentences_only_where_they_are_asked_for_and_the_same_frames(stages):
    off, on, decoder = stages
    for step in (0, 7):
        without, pair = off.batch(step), on.batch(step)
        assert without.clip is without.caption is without.caption_embedding is None
        for name in ("first", "source", "target"):
            assert torch.equal(getattr(without, name), getattr(pair, name))
        told = [on.clips.captions(int(clip)) for clip in pair.clip]
        read = torch.cat([on.clip.encode_text(captions[:1]).embedding for captions in told])
        torch.testing.assert_close(pair.caption_embedding, read)  # sprites have one sentence each
        same = torch.tensor([[one == other for other in told] for one in told])
        assert torch.equal(pair.caption[:, None] == pair.caption, same)
    assert decoder.batch(3).caption_embedding is None


def test_the_frames_of_a_pair_are_those_of_its_clip(stages):
    _, on, _ = stages
    pair = on.batch(2)
    for row, clip in enumerate(pair.clip):
        first = torch.from_numpy(on.clips.frames(int(clip), [0])[0]).permute(2, 0, 1) / 255
        torch.testing.assert_close(pair.first[row], first)


def test_a_codec_learns_to_keep_clips_and_sentences_apart(pair):
    """On one batch; the same steps without the contrast do not do it."""
    found = {}
    for weight in (0.0, 0.5):
        model = codec(frame_frame=weight, frame_text=weight)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(40):
            optimizer.zero_grad()
            codec_objective(model, PixelClip(), pair).total.backward()
            optimizer.step()
        seen = PixelClip().encode_image(torch.cat([pair.target, pair.source]), (0, 1))
        embedded = model.embed_head(model.quantize(seen.patches)[1].values.flatten(2))
        found[weight] = latent_contrast(embedded, pair, CodecConfig(frame_frame=1.0, frame_text=1.0))[1]
    for name in ("frame_frame", "frame_text"):
        assert found[0.5][name] < 0.5 * found[0.0][name], found


def test_the_terms_fall_when_a_codec_is_trained_and_are_logged_apart(trained, tmp_path):
    changes = ["codec.frame_frame=1", "codec.frame_text=1", "train.codec.log_every=5", "train.codec.precision=fp32"]
    run = TrainingRun(config_file.load(TINY, Config, changes), tmp_path, ["test"])
    shutil.copytree(trained / "model" / "clip", run.folder / "clip")
    with shapes.unchecked():
        run.train(["codec"])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    terms = [line["terms"] for line in lines if line["task"] == "codec" and "terms" in line]
    for name, bar in {"frame_frame": 0.8, "frame_text": 0.99}.items():  # the tiny CLIP hardly knows sentences apart
        found = [one[name] for one in terms]
        assert np.mean(found[-3:]) < bar * np.mean(found[:3]), found
        assert 0 <= terms[-1][f"{name}_wins"] <= 1
    assert terms[-1]["frame_frame_wins"] > terms[0]["frame_frame_wins"]
    (found,) = [line for line in lines if line["task"] == "codec" and "near_ratio" in json.dumps(line)][-1:]
    assert {"alignment", "uniformity", "effective_rank", "caption_retrieval"} <= set(found["evaluation"])


# ------------------------------------------------------------------------------------------------------- the figures


def test_a_space_as_it_should_be_one_that_collapsed_and_one_without_order():
    axes = np.eye(8)
    still = np.broadcast_to(axes[:, None, None], (8, 2, 2, 8))
    found = space_metrics(still, 3 * still, axes)
    assert found["alignment"] == found["near_ratio"] == found["value_near_ratio"] == 0
    assert found["effective_rank"] == pytest.approx(8) and found["caption_retrieval"] == 1
    assert found["uniformity"] == pytest.approx(-4)  # all at a squared distance of 2

    point = np.broadcast_to(axes[0], (8, 2, 2, 8))
    found = space_metrics(point, point + np.arange(8)[:, None, None, None], axes)
    assert found["uniformity"] == 0 and found["effective_rank"] == pytest.approx(1)
    assert found["caption_retrieval"] == 0.125  # the one whose sentence all lie on
    assert math.isnan(found["near_ratio"]) and found["value_near_ratio"] == 0

    rng = np.random.Generator(np.random.Philox(key=0))
    noise = rng.standard_normal((40, 2, 2, 8))
    noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
    found = space_metrics(noise, noise, noise[:, 0, 0])
    assert found["near_ratio"] == pytest.approx(1, abs=0.05) and found["alignment"] == pytest.approx(2, abs=0.2)
    assert found["caption_retrieval"] == pytest.approx(0.25 + 0.75 / 40, abs=0.05)


def test_clips_with_one_sentence_share_it():
    """Two clips say the same: each finds it, and neither is the other's rival."""
    axes = np.eye(4)
    said = axes[[0, 0, 1, 2]]
    frames = np.broadcast_to(axes[[0, 0, 1, 3]][:, None, None], (4, 2, 2, 4))
    assert space_metrics(frames, frames, said)["caption_retrieval"] == 0.75


def test_a_single_clip_has_no_others():
    rng = np.random.Generator(np.random.Philox(key=0))
    one = rng.standard_normal((1, 2, 2, 4))
    found = space_metrics(one, one, one[:, 0, 0])
    assert math.isnan(found["uniformity"]) and math.isnan(found["near_ratio"]) and found["alignment"] > 0
