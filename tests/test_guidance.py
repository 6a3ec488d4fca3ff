"""The contrast as guidance: the tilt against enumeration, then the dial on whole models."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize, one_hot

from cdcd_video import ImageToVideo, request
from cdcd_video.config import BridgeProcess, CdcdProcess, HybridProcess, MaskProcess, ReplaceProcess, video_record
from cdcd_video.contrast.contrastive_guidance import TEMPERATURE, closeness, tilted
from cdcd_video.contrast.info_nce import info_nce
from cdcd_video.data.sprites import World, sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError
from cdcd_video.sampling import code_sampler
from cdcd_video.sampling.captions import CaptionSchedule
from cdcd_video.tools import guidance

B, N, K, J = 5, 3, 4, 6
FRAMES = one_hot(torch.tensor(list(itertools.product(range(K), repeat=N))), K).double()
"""Every frame that this world has, (K**N, N, K)."""


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def joint(log_p):
    """Probability of every frame under laws that are independent from place to place: (B, K**N)."""
    return torch.einsum("bnk,xnk->bx", log_p, FRAMES).exp()


def linear_score(seed=1):
    gain = numbers(N, K, seed=seed)
    return lambda soft: (soft * gain).sum((1, 2))


def embedding_score(seed=2, rows=slice(None)):
    """Like the codec's: values of soft codes, mixed, on the sphere; close to two things of each row's own."""
    mix = numbers(N * K, J, seed=seed)
    near = [normalize(numbers(B, J, seed=seed + shift), dim=-1)[rows] for shift in (1, 2)]
    return lambda soft: closeness(normalize((soft.flatten(1) @ mix).tanh(), dim=-1), near)


# ------------------------------------------------------------------------------------------------------ the score


def test_closeness_is_info_nce_against_nothing_in_particular():
    anchor, one, other = (normalize(numbers(B, J, seed=seed), dim=-1) for seed in range(3))
    found = closeness(anchor, [one, other])
    for row in range(B):
        cosines = [float(anchor[row] @ positive[row]) for positive in (one, other)]
        nats = [-math.log(1 + math.exp(-cosine / TEMPERATURE)) for cosine in cosines]
        assert found[row].item() == pytest.approx(sum(nats), rel=1e-9)
    nothing, everyone = torch.zeros(1, J).double(), torch.ones(B, 1, dtype=torch.bool)
    torch.testing.assert_close(closeness(anchor, [one]), -info_nce(anchor, one, nothing, everyone, TEMPERATURE)[0])


def test_closeness_is_bounded_and_so_is_its_slope():
    anchor = normalize(numbers(64, J), dim=-1).requires_grad_()
    near = [normalize(numbers(64, J, seed=seed), dim=-1) for seed in (1, 2)]
    score = closeness(anchor, near)
    (slope,) = torch.autograd.grad(score.sum(), anchor)
    worst = -2 * math.log(1 + math.exp(1 / TEMPERATURE))
    assert worst <= score.min() and score.max() <= -2 * math.log(1 + math.exp(-1 / TEMPERATURE))
    assert slope.norm(dim=-1).max() <= 2 / TEMPERATURE
    torch.testing.assert_close(closeness(near[0], near[:1]).max(), closeness(near[0][:1], [near[0][:1]])[0])


def test_closeness_of_a_row_does_not_depend_on_the_others():
    anchor, near = normalize(numbers(B, J), dim=-1), normalize(numbers(B, J, seed=1), dim=-1)
    alone = closeness(anchor[2:3], [near[2:3]])
    torch.testing.assert_close(closeness(anchor, [near])[2:3], alone, rtol=1e-12, atol=0)


# ------------------------------------------------------------------------------------------------------- the tilt


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0, 40.0])
def test_a_linear_score_tilts_whole_frames_exactly(strength):
    """q(x) = p(x) exp(strength score(x)) / Z over all 64 frames, although no frame was looked at."""
    logits, score = numbers(B, N, K), linear_score()
    wanted = joint(logits.log_softmax(-1)) * (strength * score(FRAMES)).exp()
    torch.testing.assert_close(joint(tilted(logits, score, strength)), wanted / wanted.sum(1, keepdim=True))


def test_the_expected_score_rises_with_the_strength():
    """By enumeration: strictly, from the model's own expectation to the best frame there is."""
    logits, score = numbers(B, N, K), linear_score()
    expected = torch.stack(
        [joint(tilted(logits, score, s)) @ score(FRAMES) for s in (0.0, 0.1, 0.5, 1.0, 3.0, 10.0, 1000.0)]
    )
    torch.testing.assert_close(expected[0], joint(logits.log_softmax(-1)) @ score(FRAMES))
    assert (expected.diff(dim=0) > 0).all()
    torch.testing.assert_close(expected[-1], score(FRAMES).max().expand(B))


def test_the_tilt_is_the_slope_by_finite_differences():
    logits, score, strength, h = numbers(B, N, K), embedding_score(), 0.01, 1e-6
    log_p = logits.log_softmax(-1)
    found = (tilted(logits, score, strength) - log_p) / strength
    for place, code in itertools.product(range(N), range(1, K)):
        away = torch.zeros(N, K, dtype=torch.float64)
        away[place, code], away[place, 0] = h, -h
        slope = (score(log_p.exp() + away) - score(log_p.exp() - away)) / (2 * h)
        torch.testing.assert_close(found[:, place, code] - found[:, place, 0], slope, rtol=1e-6, atol=1e-8)


def test_to_first_order_the_score_rises_by_the_variance_of_its_slope():
    """d score(q) / d strength at 0 is the sum over places of Var_p(slope): never negative, whatever the score."""
    logits, score = numbers(B, N, K), embedding_score()
    p = logits.softmax(-1).requires_grad_()
    (slope,) = torch.autograd.grad(score(p).sum(), p)
    p = p.detach()
    variance = ((p * slope**2).sum(-1) - (p * slope).sum(-1) ** 2).sum(-1)
    for strength in (1e-3, 1e-4):
        rate = (score(tilted(logits, score, strength).exp()) - score(p)) / strength
        torch.testing.assert_close(rate, variance, rtol=20 * strength, atol=0)
    assert variance.min() > 0


def test_among_all_distributions_it_has_the_best_of_score_and_nearness():
    """Highest strength <slope, q> - KL(q | p): no law nearby, joint ones included, does better."""
    logits, score, strength = numbers(1, N, K), linear_score(), 1.5
    log_p, best = joint(logits.log_softmax(-1)).log(), joint(tilted(logits, score, strength))

    def worth(q):
        return float((q * (strength * score(FRAMES) - q.log() + log_p)).sum())

    for seed in range(20):
        assert worth((best.log() + 0.1 * numbers(1, len(FRAMES), seed=seed)).softmax(-1)) < worth(best)


@pytest.mark.parametrize("strength", [30.0, 1e3, 1e4])
def test_no_strength_lowers_the_score(strength):
    """The bare step overshoots a summit close by, and lands lower than it began; ours does not, and rises."""
    logits = numbers(B, N, K)
    target = 0.9 * logits.softmax(-1) + 0.1 * one_hot(torch.tensor(0), K)

    def summit(soft):
        return -100 * (soft - target).square().sum((1, 2))

    p = logits.softmax(-1)
    slope = 200 * (target - p)
    assert (summit((logits.log_softmax(-1) + strength * slope).softmax(-1)) < summit(p)).any()
    for score in (summit, embedding_score()):
        q, at = tilted(logits, score, strength).exp(), p.clone().requires_grad_()
        (slope,) = torch.autograd.grad(score(at).sum(), at)
        rise = score(q) - score(p)
        assert (rise > 0).all() and (rise >= 0.5 * ((q - p) * slope).sum((1, 2))).all(), (
            "half of what the slope predicts"
        )


def test_rows_are_tilted_by_themselves():
    """Also where one has to be halved often and its neighbour never."""
    logits = numbers(B, N, K)
    logits[0] *= 20
    together = tilted(logits, embedding_score(), 50.0)
    for row in range(B):
        own = slice(row, row + 1)
        alone = tilted(logits[own], embedding_score(rows=own), 50.0)
        torch.testing.assert_close(together[own], alone, rtol=0, atol=1e-12)


def test_a_row_for_which_no_step_is_short_enough_stays_as_it_is():
    """Its score falls wherever its slope says that it rises; the other row's is as it says."""
    logits, gain = numbers(2, N, K), numbers(N, K, seed=1)

    def score(soft):
        told = (soft * gain).sum((1, 2))
        return torch.stack([told[0] - 2 * told[0].detach(), told[1]])

    found = tilted(logits, score, 3.0)
    assert torch.equal(found[0], logits[0].log_softmax(-1))
    torch.testing.assert_close(found[1], (logits[1].log_softmax(-1) + 3.0 * gain).log_softmax(-1))


def test_what_is_cut_off_stays_cut_off_and_a_flat_score_tilts_nothing():
    logits = numbers(B, N, K)
    logits[:, 1, 2] = -torch.inf
    found = tilted(logits, linear_score(), 3.0)
    assert (found[:, 1, 2] == -torch.inf).all() and found.exp().sum(-1).allclose(torch.ones(()).double())
    flat = tilted(logits, lambda soft: 0 * soft.sum((1, 2)), 3.0)
    torch.testing.assert_close(flat, logits.log_softmax(-1))


def test_it_works_where_gradients_are_off_and_leaves_none_behind():
    logits = numbers(B, N, K).requires_grad_()
    with torch.no_grad():
        found = tilted(logits, embedding_score(), 1.0)
    assert not found.requires_grad and not tilted(logits, embedding_score(), 1.0).requires_grad and logits.grad is None


# -------------------------------------------------------------------------------------------------- on whole models

CAPTION = "the red circle moves right"
LOOK = {"num_frames": 3, "num_steps": 4, "temperature": 1.0}
PROCESSES = (MaskProcess(), ReplaceProcess(), BridgeProcess(), HybridProcess(), CdcdProcess())
CASES = [(process, "ancestral") for process in PROCESSES] + [(MaskProcess(), "confidence"), (MaskProcess(), "purity")]


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> ImageToVideo:
    return ImageToVideo.from_pretrained(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def starts() -> np.ndarray:
    return np.stack([render(sample_scene(0, index, "val"), np.zeros(1), 32)[0] for index in range(4)])


def nearness(pipe, codes, captions):
    """Mean cosines of drawn frames: to the earlier frame, and to the sentence."""
    embed = pipe.model.codec.embed(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
    said = pipe.model.clip.encode_text(captions).embedding
    return float((embed[:, 1:] * embed[:, :-1]).sum(-1).mean()), float((embed[:, 1:] * said[:, None]).sum(-1).mean())


@pytest.mark.sweep
@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("process, order", CASES, ids=lambda case: getattr(case, "kind", case))
def test_every_process_every_order_with_and_without_guidance(tiny, starts, process, order, guidance):
    config = tiny.model.config
    diffusion = config.diffusion.model_copy(update={"process": process})
    pipe = ImageToVideo(replace(tiny.model, config=config.model_copy(update={"diffusion": diffusion})))
    captions = [CAPTION, "the blue square stays still", "the green star moves up", "the white triangle spins"]
    codes = {
        strength: pipe.roll_out(
            starts, captions, pipe.defaults(contrast=strength, order=order, guidance=guidance, **LOOK), range(4)
        )
        for strength in (0.0, 300.0)
    }
    near = {strength: sum(nearness(pipe, drawn, captions)) for strength, drawn in codes.items()}
    assert codes[300].min() >= 0 and codes[300].max() < pipe.model.codec.num_codes
    assert near[300] > near[0] + 0.05, near


def test_a_video_does_not_depend_on_its_batch(tiny, starts):
    captions = [CAPTION, "the blue square stays still", "the green star moves up", "the white triangle spins"]
    params = tiny.defaults(contrast=100.0, **LOOK)
    together = tiny.roll_out(starts, captions, params, [5, 6, 7, 8])
    alone = tiny.roll_out(starts[1:2], captions[1:2], params, [6])
    assert (alone[0] == together[1]).float().mean() > 0.98  # matrix products may round otherwise in another batch


def test_off_is_not_even_asked(tiny, starts, monkeypatch):
    def asked(*_):
        raise AssertionError("no tilt is asked for")

    on = tiny(starts[0], CAPTION, contrast=100.0, **LOOK)
    monkeypatch.setattr(code_sampler, "tilted", asked)
    off, plain = tiny(starts[0], CAPTION, contrast=0.0, **LOOK), tiny(starts[0], CAPTION, **LOOK)
    assert np.array_equal(off.frames, plain.frames) and not np.array_equal(on.frames, plain.frames)
    with pytest.raises(AssertionError, match="no tilt"):
        tiny(starts[0], CAPTION, contrast=1e-9, **LOOK)


def test_the_json_beside_a_video_keeps_it(tiny, starts, tmp_path, tiny_model):
    asked = {"frame": None, "text": [CAPTION], "from_json": None, "checkpoint": str(tiny_model), "device": "cpu"}
    asked |= dict.fromkeys((*request.SAMPLING, "scale")) | {"out": str(tmp_path / "x.webp")}
    video = tiny(starts[0], CAPTION, contrast=80.0, **LOOK)
    order = request.Request(starts[0], "x.png", "", CaptionSchedule.of(CAPTION), str(tiny_model), "cpu", {}, None, None)
    with request.chosen_target(asked) as target:
        request.write(iter([video.frames]), video.settings, target, order, device="cpu", threads=1)
    again = request.read_request({**dict.fromkeys(asked), "from_json": str(tmp_path / "x.json")})
    assert again.sampling["contrast"] == 80.0
    assert np.array_equal(tiny(again.start, again.captions, **again.sampling).frames, video.frames)
    old = json.loads((tmp_path / "x.json").read_text())
    del old["contrast"]  # as written before there was any
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert video_record.read_record(tmp_path / "old.json").contrast == 0.0


@pytest.mark.sweep(most=1)
@pytest.mark.parametrize("num_steps", [1, 4])
def test_the_shipped_model_draws_nearer_to_sentence_and_earlier_frame(num_steps):
    pipe = ImageToVideo.from_pretrained("sprites", device="cpu")
    scenes = [sample_scene(7, index, "val", world=World(version="v2")) for index in range(16)]
    first, captions = np.stack([render(scene, np.zeros(1))[0] for scene in scenes]), [s.caption for s in scenes]
    found = []
    for strength in (0.0, 100.0, 1000.0):
        params = pipe.defaults(num_frames=4, num_steps=num_steps, contrast=strength)
        found.append(nearness(pipe, pipe.roll_out(first, captions, params, range(16)), captions))
    earlier, sentence = zip(*found, strict=True)
    for near in (earlier, sentence):
        assert near[0] < min(near[1:]), found


def test_the_command_prints_a_line_for_every_strength(tiny_model, tmp_path, monkeypatch, capsys):
    words = ["--checkpoint", str(tiny_model), "--num-videos", "2", "--num-frames", "3", "--device", "cpu"]
    monkeypatch.setattr(
        "sys.argv", ["guidance", *words, "--strengths", "0", "50", "--steps", "2", "--out", str(tmp_path)]
    )
    guidance.main()
    off, on = map(json.loads, capsys.readouterr().out.splitlines())
    assert (off["num_steps"], off["contrast"], on["contrast"]) == (2, 0, 50)
    assert all(len(line[name]) == 4 for line in (off, on) for name in (*guidance.PRINTED, "obeyed"))
    assert off["clip_text"] != on["clip_text"]
    for strength, line in ((0, off), (50, on)):
        rows = map(json.loads, (tmp_path / f"steps-2-contrast-{strength}" / "scores.jsonl").read_text().splitlines())
        (score,) = [row for row in rows if (row["metric"], row["row"], row["group"]) == ("clip_text", "model", "all")][
            :1
        ]
        assert score["value"] == line["clip_text"][0] and score["drawing"]["contrast"] == strength


@pytest.mark.parametrize("option", ["--num-frames", "--num-videos"])
def test_a_number_that_no_protocol_has_is_one_sentence(option: str, tiny_model, tmp_path, monkeypatch):
    words = ["--checkpoint", str(tiny_model), "--device", "cpu", "--out", str(tmp_path / "out"), option, str(10**12)]
    monkeypatch.setattr("sys.argv", ["guidance", *words])
    with pytest.raises(UserError, match=rf"^{option} is 1000000000000: input should be less than"):
        guidance.main()
    assert not (tmp_path / "out").exists()
