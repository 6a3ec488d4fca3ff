"""The suite: what the truth, a frozen frame and a deaf or broken model are worth; intervals; the gate."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from oracle import Oracle

from cdcd_video.config import SamplingParams
from cdcd_video.data import sprites
from cdcd_video.data.sprites import World, sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.data.store import SpritesClips
from cdcd_video.errors import UserError
from cdcd_video.metrics import fidelity, suite
from cdcd_video.metrics.eval_dataset import (
    COUNTERFACTUAL_SYSTEMS,
    ClipDataset,
    SceneDataset,
    choose_clips,
    choose_scenes,
)
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.references import ORACLES, REFERENCES, SYSTEMS, faded
from cdcd_video.metrics.scores import MEASURES, METRICS, checked_metrics
from cdcd_video.metrics.single_step import GATE_WORLD, gate
from cdcd_video.metrics.statistics.intervals import around, bootstrap, over_halves

SCENES = [sample_scene(3, index, "val") for index in range(8)]
DRAWING = SamplingParams(num_frames=16, fps=8.0)
RULE = Protocol(num_videos=8, num_real=0, num_frames=16, fps=8.0, size_px=64)
METRICS_OF_SCENES = ("sprites", "psnr", "ssim", "motion")


def evaluated(pipe, scenes=SCENES, metrics=METRICS_OF_SCENES, size_px=64, **dials):
    dataset = SceneDataset(scenes, num_frames=RULE.num_frames, fps=RULE.rate)
    protocol = RULE.settled(size_px=size_px)
    return suite.evaluate(pipe, dataset, protocol, None, range(len(scenes)), metrics=metrics, **dials)


def value(found, row, metric, group="all", frame=None):
    (score,) = [s for s in found.scores if (s.row, s.metric, s.group, s.frame) == (row, metric, group, frame)]
    return score.value


@pytest.fixture(scope="module")
def perfect():
    return evaluated(Oracle(SCENES))


@pytest.mark.parametrize("apart", [0, 1, 40, 255])
def test_psnr_is_torchmetrics(apart):
    from torchmetrics.functional.image import peak_signal_noise_ratio

    generator = np.random.default_rng(0)
    true = generator.integers(0, 256, (3, 17, 33, 3))
    drawn = np.clip(true + generator.integers(-apart, apart + 1, true.shape), 0, 255)
    ours, truth = (torch.from_numpy(frames / 255).float() for frames in (drawn, true))
    expected = peak_signal_noise_ratio(ours, truth, data_range=1.0, reduction="none", dim=(1, 2, 3))
    found = fidelity.psnr(drawn.astype(np.uint8), true.astype(np.uint8))
    np.testing.assert_allclose(found, expected.clamp(max=fidelity.BEST_PSNR_DB), rtol=1e-6)


def test_the_truth_drawn_is_as_good_as_the_truth(perfect):
    for row in ("model", "truth", "codec-ceiling"):
        assert value(perfect, row, "does_right_thing") == value(perfect, row, "all_right") == 1
        assert value(perfect, row, "position_error") < 0.1
        assert value(perfect, row, "identity_iou") > 0.98
        assert value(perfect, row, "lost_share") == 0
        assert value(perfect, row, "psnr") == fidelity.BEST_PSNR_DB
        assert value(perfect, row, "ssim") == pytest.approx(1, abs=1e-3)
        assert value(perfect, row, "motion_ratio") == 1
    assert value(perfect, "counterfactual", "does_right_thing") == 1
    assert value(perfect, "sentence-ignored", "does_right_thing", "sentence=changed") <= 0.2
    assert value(perfect, "sentence-ignored", "does_right_thing", "sentence=kept") == 1


def test_a_frozen_model_scores_as_the_first_frame_and_does_not_win_by_it():
    found = evaluated(Oracle(SCENES, is_frozen=True))
    frozen = {(s.metric, s.group, s.frame): s for s in found.scores if s.row == "model"}
    reference = {(s.metric, s.group, s.frame): s for s in found.scores if s.row == "copy-first"}
    assert {key: dataclasses.replace(score, row="") for key, score in frozen.items()} == {
        key: dataclasses.replace(score, row="") for key, score in reference.items()
    }
    assert value(found, "model", "motion_ratio") == 0
    assert value(found, "model", "does_right_thing") < 0.4
    moving = [f"motion={m}" for m in sprites.STRAIGHT_MOTIONS]
    assert all(s.value == 0 for key, s in frozen.items() if key[0] == "does_right_thing" and key[1] in moving)


def test_a_deaf_model_earns_what_ignoring_the_sentence_earns():
    found = evaluated(Oracle(SCENES, is_deaf=True), metrics=["sprites"])
    assert value(found, "model", "does_right_thing") == 1
    for metric in ("does_right_thing", "direction_right"):
        deaf, ignored = (value(found, row, metric, "sentence=changed") for row in COUNTERFACTUAL_SYSTEMS)
        assert deaf == ignored < 0.4


def test_every_score_carries_its_evidence(perfect):
    for score in perfect.scores:
        measure = MEASURES[score.metric]
        assert (score.unit, score.better, score.counted) == (measure.unit, measure.better, measure.counted)
        assert score.row in SYSTEMS and score.n > 0
        if score.value is not None and score.low is not None:
            assert score.low <= score.value <= score.high
    objects = sum(len(scene.objects) for scene in SCENES)
    by_n = {(s.metric, s.group): s.n for s in perfect.scores if s.row == "model" and s.frame is None}
    assert by_n["does_right_thing", "all"] == objects and by_n["psnr", "all"] == len(SCENES)
    assert by_n["does_right_thing", "objects=1"] + by_n["does_right_thing", "objects=2"] == objects
    motions = [n for (metric, group), n in by_n.items() if metric == "does_right_thing" and group.startswith("motion=")]
    assert sum(motions) == objects
    frames = {s.frame for s in perfect.scores if s.metric == "position_error" and s.row == "model"}
    assert frames == {None, *range(16)}


def test_the_batch_does_not_change_the_scores_and_only_what_is_asked_is_measured(perfect):
    pipe, told = Oracle(SCENES), []
    found = evaluated(pipe, batch_size=3, num_examples=3, progress=told.append)
    assert found.scores == perfect.scores
    assert pipe.batches == [3, 3, 3, 3, 2, 2]
    dataset = SceneDataset(SCENES, num_frames=16, fps=8)
    assert sum(told) == suite.frames_to_sample(dataset, RULE, METRICS_OF_SCENES) == 2 * 8 * 15
    assert [example.captions["model"] for example in found.examples[:3]] == [scene.caption for scene in SCENES[:3]]
    assert found.examples[0].videos["model"].shape == (16, 64, 64, 3)
    pipe = Oracle(SCENES)
    found = evaluated(pipe, metrics=["psnr"], systems=("model", "truth"))
    figures = {"psnr", "psnr_retention", "psnr_slope", "psnr_frames_kept"}
    assert {s.metric for s in found.scores} == figures and {s.row for s in found.scores} == {"model", "truth"}
    assert len(pipe.batches) == 1  # no other sentence is drawn where nobody can judge it


def test_the_cross_fade_is_told_how_the_video_ends_and_mixes_what_moves():
    systems = ("model", "copy-first", "truth", *ORACLES)
    found = evaluated(Oracle(SCENES), metrics=["psnr", "motion"], systems=systems)
    assert not set(ORACLES) & set(SYSTEMS) and {s.row for s in found.scores} == set(systems)
    (oracle,) = ORACLES
    along = [value(found, oracle, "psnr", frame=frame) for frame in range(16)]
    frozen = [value(found, "copy-first", "psnr", frame=frame) for frame in range(16)]
    assert along[0] == along[15] == fidelity.BEST_PSNR_DB > max(along[1:15])
    assert along[15] > frozen[15] and along[14] > frozen[14] + 3


def test_a_cross_fade_of_a_still_scene_is_the_truth_and_gets_worse_the_more_moves():
    world = World(max_objects=1, motions=("stays still",))
    scene, times = sample_scene(3, 1, "val", world=world), np.arange(16) / 8
    still = render(scene, times)[None]
    assert np.array_equal(faded(still), still)
    assert np.array_equal(faded(still[:, :1]), still[:, :1])
    errors = []
    for speed in range(4):  # the scene itself is carried along, so many pixels a frame
        moved = np.stack([np.roll(still[0, frame], speed * frame, axis=1) for frame in range(16)])[None]
        mixed = faded(moved)
        assert np.array_equal(mixed[:, [0, -1]], moved[:, [0, -1]])
        errors.append(np.abs(mixed.astype(float) - moved).mean())
    assert errors[0] == 0 and np.all(np.diff(errors) > 0)


def test_a_model_of_another_size_is_judged_too():
    found = evaluated(Oracle(SCENES[:4], size_px=32), SCENES[:4], metrics=["sprites"], size_px=32)
    assert value(found, "truth", "does_right_thing") >= 0.75
    assert value(found, "truth", "position_error") < 0.5


def test_held_out_kinds_are_told_apart():
    scenes = [sample_scene(3, index, "heldout", world=World(max_objects=1)) for index in range(8)]
    found = evaluated(Oracle(scenes), scenes, metrics=["sprites"], systems=("truth",))
    kinds = {s.group: s.n for s in found.scores if s.metric == "does_right_thing" and s.group.startswith("heldout=")}
    assert set(kinds) == {"heldout=colour-shape", "heldout=shape-motion"} and sum(kinds.values()) == 8


def test_clips_are_compared_with_how_they_go_on():
    clips = SpritesClips(3, 6, "val", num_frames=10)
    pipe = Oracle([clips.scene(clip) for clip in range(6)])
    dataset = ClipDataset(clips, 4, 0, num_frames=10, size_px=64)
    params, protocol = DRAWING.changed(num_frames=10), RULE.settled(num_frames=10)
    found = suite.evaluate(pipe, dataset, protocol, params, range(4), metrics=["psnr", "ssim", "motion"])
    assert choose_clips(clips, 4, 10, 64) == [0, 1, 2, 3]
    assert {s.row for s in found.scores} == {"model", *REFERENCES}
    assert value(found, "model", "psnr") == 60 > value(found, "copy-first", "psnr")
    assert value(found, "model", "psnr", frame=9) == 60
    with pytest.raises(UserError, match="no clip has 11 frames in one shot .the longest has 10"):
        choose_clips(clips, 4, 11, 64)
    with pytest.raises(UserError, match="64 px, but 32 px are needed"):
        choose_clips(clips, 4, 10, 32)
    with pytest.raises(UserError, match="defined for sprites scenes"):
        checked_metrics(["sprites"], None)


def test_long_drawings_get_scenes_in_which_objects_stay_apart_to_the_end():
    short, world = choose_scenes(3, 8, "val", World(), 16, 8)
    assert short == SCENES and world == World()
    scenes, world = choose_scenes(3, 6, "val", World(), 32, 8)
    assert world.num_frames == 32
    for scene in scenes:
        if len(scene.objects) == 2:
            known = sprites.truth(scene, world.times_s)
            reach = sum(
                sprites.OUTER_RADIUS[sprite.shape] * known.radii[place] for place, sprite in enumerate(scene.objects)
            )
            assert (np.linalg.norm(known.centres[0] - known.centres[1], axis=-1) > reach).all()


def test_fidelity_falls_with_damage_and_is_per_frame():
    true = render(SCENES[0], np.arange(4) / 8)
    rng = np.random.Generator(np.random.Philox(key=1))
    noise = rng.normal(0, 1, true.shape)
    worse = [np.clip(true + sigma * noise, 0, 255).astype(np.uint8) for sigma in (2, 8, 32)]
    for measure in (fidelity.psnr, fidelity.ssim):
        values = [measure(drawn, true) for drawn in (true, *worse)]
        assert all((better > poorer).all() for better, poorer in itertools.pairwise(values))
        backwards = measure(worse[0][::-1], true[::-1])  # a view with negative strides
        assert np.array_equal(backwards, values[1][::-1])
    one = true.copy()
    one[2] = 255 - one[2]
    assert (fidelity.psnr(one, true) < 20).tolist() == [False, False, True, False]
    shifted = np.full_like(true, 100)
    assert fidelity.psnr(shifted, shifted + 10) == pytest.approx(20 * math.log10(255 / 10), abs=1e-3)
    ramp = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.full((1, 16, 16, 3), 7, np.uint8)
    assert np.isnan(fidelity.motion(ramp)[0]) and (fidelity.motion(ramp)[1:] == 7).all()


def ssim_by_its_formula(one: np.ndarray, other: np.ndarray) -> float:
    """Wang et al. 2004, window by window in float64: a Gaussian of 11 x 11 and sigma 1.5, each window within the frame."""
    bell = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weight = np.outer(bell, bell) / np.outer(bell, bell).sum()
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for row, column, channel in itertools.product(*(range(n - 10) for n in one.shape[:2]), range(3)):
        x, y = (side[row : row + 11, column : column + 11, channel].astype(np.float64) for side in (one, other))
        mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
        var_x, var_y = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
        both = (weight * (x - mean_x) * (y - mean_y)).sum()
        light = (2 * mean_x * mean_y + first) / (mean_x**2 + mean_y**2 + first)
        found.append(light * (2 * both + second) / (var_x + var_y + second))
    return float(np.mean(found))


def test_ssim_is_the_mean_over_windows_within_the_frame():
    rng = np.random.Generator(np.random.Philox(key=6))
    true = np.cumsum(rng.integers(-9, 10, (2, 18, 22, 3)), axis=1) + 120
    drawn = true + rng.integers(-30, 31, true.shape)
    drawn[1, :4] = 255 - drawn[1, :4]  # at the border, where mirrored windows would look twice
    true, drawn = (np.clip(frames, 0, 255).astype(np.uint8) for frames in (true, drawn))
    expected = [ssim_by_its_formula(one, other) for one, other in zip(drawn, true, strict=True)]
    assert fidelity.ssim(drawn, true) == pytest.approx(expected, abs=1e-9) and max(expected) < 0.95
    flat = [np.full((1, 16, 16, 3), level, np.uint8) for level in (40, 200)]
    constant = (0.01 * 255) ** 2
    assert fidelity.ssim(*flat) == pytest.approx((2 * 40 * 200 + constant) / (40**2 + 200**2 + constant), abs=1e-9)
    assert fidelity.ssim(true, true) == pytest.approx(1, abs=1e-12)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.Generator(np.random.Philox(key=4))
    covered = []
    for trial in range(100):
        totals = rng.normal(5, 2, (60, 1))
        mean, low, high = bootstrap(totals, np.ones_like(totals), seed=trial)
        assert mean == totals.mean()
        covered.append(low[0] <= 5 <= high[0])
    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_interval_knows_that_what_is_in_one_video_goes_together():
    together = np.array([[0.0], [8.0]] * 4)  # eight frames of each video agree
    weights = np.full((8, 1), 8.0)
    apart = np.array([[0.0], [1.0]] * 32)
    wide, narrow = bootstrap(together, weights), bootstrap(apart, np.ones((64, 1)))
    assert wide[0] == narrow[0] == 0.5
    assert wide[2] - wide[1] > 2 * (narrow[2] - narrow[1])


def test_an_interval_of_nothing_is_nothing_and_agreement_is_not_certainty():
    with np.errstate(all="raise"):
        value, low, high = bootstrap(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]]))
    assert value[0] == 0.5 and np.isnan(value[1])
    assert np.isnan(low).all() and np.isnan(high).all()
    same = np.tile([[0.0, 1.0]], (10, 1))
    shares, low, high = bootstrap(same, np.ones_like(same), is_share=True)
    assert shares.tolist() == [0, 1] == [low[0], high[1]]
    assert high[0] == pytest.approx(0.3085, abs=1e-4)  # 10 trials, none right: tabulated Clopper-Pearson bound
    assert low[1] == pytest.approx(1 - 0.3085, abs=1e-4)
    half = np.repeat([[1.0], [0.0]], 5, axis=0)  # of ten videos five were measured
    assert bootstrap(same[:, :1], half, is_share=True)[2][0] == pytest.approx(1 - 0.025 ** (1 / 5))
    _, low, high = bootstrap(same[:1], np.ones((1, 2)), is_share=True)  # of one trial
    assert (low.tolist(), high.tolist()) == ([0, pytest.approx(0.025)], [pytest.approx(0.975), 1])
    again = [bootstrap(np.arange(9.0)[:, None], np.ones((9, 1)), seed=seed) for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_metrics_that_do_not_exist_are_named():
    everywhere = ["psnr", "ssim", "motion", "physics_iq", "consistency", "flow", "flicker", "colour_drift"]
    assert checked_metrics(None, None) == everywhere
    at_home = checked_metrics(None, "sprites")
    left_out = {
        "digits",
        "lpips",
        "cd_fvd",
        "jedi",
        "nll",
        "caption_margin",
        "inbetween",
    }  # of another world; which need a download, or long
    assert set(at_home) == set(METRICS) - left_out
    assert checked_metrics(["ssim", "fvd", "ssim"], None) == ["ssim", "fvd"]
    with pytest.raises(
        UserError, match="there is no metric 'pnsr'; choose from sprites, digits, psnr, ssim, lpips, motion"
    ):
        checked_metrics(["pnsr"], "sprites")


def test_halves_scatter_as_whole_sets_do():
    rng = np.random.Generator(np.random.Philox(key=6))
    covered = []
    for trial in range(60):
        values = rng.normal(5, 2, 40)
        halves = over_halves(lambda kept, values=values: values[kept].mean(keepdims=True), (40,), trial, 200)
        assert halves.shape == (200, 1)
        low, high = around(values.mean(keepdims=True), halves)
        covered.append(low[0] <= 5 <= high[0])
    assert 0.85 <= np.mean(covered) <= 1
    first, again, other = (
        over_halves(lambda a, b: np.r_[a.sum(), b.sum()].astype(float), (9, 30), seed, 5) for seed in (1, 1, 2)
    )
    assert (first == again).all() and (first != other).any()
    few = over_halves(lambda kept: kept[:1].astype(float), (7,), 0, 5)
    assert len(few) == 0 and np.isnan(around(np.ones(3), few)).all()


def test_steadiness_is_set_beside_the_truth_and_a_frozen_video_is_not_like_it():
    dataset = SceneDataset(SCENES[:4], SCENES[4:], num_frames=16, fps=8)
    names = ("consistency", "flow", "flicker", "colour_drift", "discontinuity")
    found = suite.evaluate(Oracle(SCENES), dataset, RULE, None, range(4), metrics=names)
    for name in ("warp_error", "flow", "flicker", "colour_drift", "discontinuity"):
        assert value(found, "model", name) == value(found, "truth", name) and MEASURES[name].better == "real"
    assert value(found, "copy-first", "flow") < 0.1 * value(found, "truth", "flow")
    assert value(found, "copy-first", "discontinuity") < 0.2 < value(found, "truth", "discontinuity") < 0.8
    assert value(found, "model", "colour_drift", frame=0) == 0
    assert {s.metric for s in found.scores} >= {"flow_retention", "warp_error_slope", "flicker_frames_kept"}


def test_the_best_and_the_worst_are_kept_to_be_looked_at():
    class Uneven(Oracle):
        def sample(self, starts, captions, params, seeds, progress=None):
            videos = super().sample(starts, captions, params, seeds, progress).astype(np.int16)
            noise = np.array([2 * seed for seed in seeds])[:, None, None, None, None]
            return np.clip(videos + noise, 0, 255).astype(np.uint8)

    found = evaluated(Uneven(SCENES), metrics=["psnr"], num_examples=2, batch_size=3)
    kinds = [(one.kind, one.name[-1]) for one in found.examples]
    assert kinds == [("", "0"), ("", "1"), *(("best", n) for n in "012"), *(("worst", n) for n in "765")]
    assert found.examples[2].measured == ("psnr", pytest.approx(60)) and found.examples[-1].measured[1] < 30
    assert [one.kind for one in evaluated(Oracle(SCENES), metrics=["psnr"]).examples] == [""] * 8


# The gate ---------------------------------------------------------------------------------------------------------

GATE_SCENES = [sample_scene(0, index, "val", world=GATE_WORLD) for index in range(24)]


def test_the_gate_opens_for_a_listener_only():
    listener = gate(Oracle(GATE_SCENES), GATE_SCENES, DRAWING, batch_size=7)
    deaf = gate(Oracle(GATE_SCENES, is_deaf=True), GATE_SCENES, DRAWING)
    frozen = gate(Oracle(GATE_SCENES, is_frozen=True), GATE_SCENES, DRAWING)
    assert json.loads(json.dumps(listener)) == listener
    for gap in ("gap1", "gap4"):
        right, shuffled = listener[gap]["right"], listener[gap]["shuffled"]
        assert right["ratio"] == pytest.approx(1, abs=0.03) and right["sign_right"] == 1 and right["lost"] == 0
        assert shuffled["ratio"] == pytest.approx(shuffled["listener_ratio"], abs=0.03) and shuffled["ratio"] < 0.01
        assert shuffled["own_ratio"] == pytest.approx(1, abs=0.03)
        assert deaf[gap]["shuffled"]["ratio"] == deaf[gap]["right"]["ratio"] == pytest.approx(1, abs=0.03)
        assert frozen[gap]["right"] == listener[gap]["copy-first"]
        assert frozen[gap]["right"]["ratio"] == frozen[gap]["right"]["sign_right"] == 0
        assert listener[gap]["codec-ceiling"] == listener[gap]["truth"]


def test_the_gate_reaches_as_far_as_its_gap():
    class Spy(Oracle):
        def sample(self, starts, captions, params, seeds, progress=None):
            asked.append((params.num_frames, params.fps))
            return super().sample(starts, captions, params, seeds)

    asked = []
    gate(Spy(GATE_SCENES), GATE_SCENES, DRAWING, gaps=(1, 4))
    assert asked == [(2, 8.0), (2, 8.0), (2, 2.0), (2, 2.0)]
