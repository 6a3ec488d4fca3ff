"""The self-test of the ruler tests itself, on a handful of videos: what is seen, what cannot be, and what must not matter.

How the distances rise with each defect is in test_degrade.py; docs/evaluation.md has the curves at a useful number.
"""

import sys

import numpy as np
import pytest

from cdcd_video.errors import UserError
from cdcd_video.metrics.degradations import DEGRADATIONS
from cdcd_video.tools import ruler as tool
from cdcd_video.tools.metric_validation import validation_page as page
from cdcd_video.tools.metric_validation.curves import Findings, _curve, calibrate, spearman
from cdcd_video.tools.metric_validation.trial import Trial, concatenated, present_networks

NUM_VIDEOS = 6


@pytest.fixture(scope="module")
def trial() -> Trial:
    offline = {name: network for name, network in present_networks().items() if name.startswith(("sprites", "flow"))}
    return Trial(NUM_VIDEOS, 5, offline)


@pytest.fixture(scope="module")
def found(trial) -> Findings:
    return calibrate(trial, strengths=(0.3, 1.0), num_splits=12)


@pytest.fixture(scope="module")
def curves(found) -> dict:
    return {(curve.score, curve.defect): curve for curve in found.curves}


def test_every_score_meets_every_defect(found, curves):
    scores = {curve.score for curve in found.curves}
    assert {
        "fid",
        "kid",
        "is",
        "fvd",
        "kvd",
        "video_is",
        "psnr",
        "position_error",
        "warp_error",
        "flow",
        "flow_vmd",
        "mse",
        "spatial_iou",
    } <= scores
    assert set(curves) == {(score, defect) for score in scores for defect in DEGRADATIONS}
    assert all(len(curve.values) == 3 and None not in curve.values for curve in found.curves)


@pytest.mark.parametrize("defect", DEGRADATIONS)
def test_nearness_to_the_truth_sees_everything(curves, defect):
    for score in ("psnr", "ssim", "identity_iou"):
        curve = curves[score, defect]
        assert curve.verdict == "sees" and curve.spearman == 1 and curve.worsening == 1
        assert list(curve.values) == sorted(curve.values, reverse=True)


def test_distances_of_sets_rise(curves):
    for score, defects in (("fid", ("blur", "noise", "tint")), ("fvd", ("noise", "freeze", "tint"))):
        for defect in defects:
            assert curves[score, defect].values[-1] > 1.2 * curves[score, defect].values[0], (score, defect)


def test_who_looks_at_single_frames_is_blind_to_their_order(curves):
    for score in ("fid", "kid", "is", "colour_drift"):
        curve = curves[score, "shuffle"]
        assert curve.verdict == "blind" and np.ptp(curve.values) <= 1e-5 * abs(curve.values[0])
    for score in ("position_error", "warp_error", "flow", "motion_ratio"):
        assert curves[score, "shuffle"].moved[-1] == 1


def test_what_stands_still_is_seen_by_what_looks_at_motion(found, curves):
    for score in ("motion_ratio", "flow", "warp_error"):
        curve = curves[score, "freeze"]
        assert curve.values[-1] == pytest.approx(0, abs=1e-3) and curve.moved[-1] == 1
    wins = {name for name, told in found.still.items() if told["still_video"] == "wins"}
    assert not {name for name in wins if not name.startswith(("is", "fid", "kid"))}, wins
    assert found.still["fvd[sprites-video]"]["still"] > found.still["fvd[sprites-video]"]["truth"]


def test_equal_sets(trial, found):
    assert found.equal["fid[sprites-frame]"]["equal_sets"] < 1e-9
    assert found.equal["fvd[sprites-video]"]["equal_sets"] < 1e-9
    assert found.equal["psnr"]["equal_sets"] == 60 and found.equal["position_error"]["equal_sets"] < 0.1
    # The unbiased estimate leaves a sample's likeness to itself out within a set, and has it in between equal sets.
    features = trial.extractors["sprites-video"](trial.true[0]).features
    kernel = (features @ features.T / features.shape[1] + 1) ** 3
    apart = (kernel.sum() - np.trace(kernel)) / (NUM_VIDEOS * (NUM_VIDEOS - 1))
    expected = 2 / NUM_VIDEOS * (apart - np.trace(kernel) / NUM_VIDEOS)
    assert found.equal["kvd[sprites-video]"]["equal_sets"] == pytest.approx(expected, rel=1e-4)
    low, high = (found.equal["kvd[sprites-video]"][f"real_against_real_{end}"] for end in ("from", "to"))
    assert low < 0 < high, "real against real is 0 on average, and scatters around it"


def test_batches_order_and_threads_do_not_matter(found):
    assert set(found.invariance) == {"batch_size_1", "batch_size_7", "order", "threads"}
    assert max(found.invariance.values()) < 1e-4
    assert found.invariance["order"] < 1e-6  # rows of a batch may differ in the last bit of 32


def test_a_look_in_parts_is_the_whole(trial):
    """Sets of several videos are made of looks at each; nothing but the row says whose a feature is."""
    videos = trial.true[1]
    whole = trial.measure(videos)
    turned = whole.part([3, 0])
    for name, seen in trial.features(videos[[3, 0]]).items():
        np.testing.assert_allclose(turned.outputs[name].features, seen.features, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(turned.sums["psnr"], whole.sums["psnr"][[3, 0]])
    again = concatenated(whole.part([0, 1, 2]), whole.part([3, 4, 5]))
    assert again.values() == whole.values()
    np.testing.assert_array_equal(again.outputs["sprites-frame"].logits, whole.outputs["sprites-frame"].logits)


def test_verdicts():
    def verdict(values, changes, score="psnr"):
        return _curve(score, None, "blur", (0, 0.5, 1), values, changes)

    assert verdict((60, 40, 30), (False, True, True)).verdict == "sees"
    assert verdict((60, 40, 30), (False, False, True)).seen_from == 1
    assert verdict((60, 59, 60.1), (False, False, False)).verdict == "blind"
    assert verdict((60, 50, 55), (False, True, True)).verdict == "uneven", "worst in the middle"
    assert verdict((50, 60, 30), (False, True, True)).verdict == "uneven", "better at first"
    assert verdict((50, 50.1, 30), (False, False, True)).verdict == "sees", "that was chance"
    assert verdict((60, 30, 30), (False, True, True)).verdict == "sees", "as bad as can be"
    assert verdict((0.5, 0.2, 0.1), (False, True, True), "fid").verdict == "fooled"
    grown = verdict((1, 1.3, 2.0), (False, True, True), "motion_ratio")
    assert (grown.verdict, grown.moved, grown.spearman) == ("sees", (0, 1, 1), 1.0)
    assert verdict((2.0, 1.0, 0.0), (False, True, True), "warp_error").verdict == "sees", "the truth is right"


def test_spearman_by_hand():
    assert spearman(np.arange(4.0), np.array([1.0, 3, 2, 4])) == pytest.approx(0.8)
    assert spearman(np.arange(3.0), np.array([2.0, 2, 5])) == pytest.approx(np.sqrt(3) / 2)
    assert spearman(np.arange(3.0), np.ones(3)) is None
    assert spearman(np.arange(3.0), np.array([1, np.nan, 2])) is None


def test_what_is_written(found):
    facts = {"num_videos": NUM_VIDEOS, "seed": 0}
    text = page.markdown(found, facts)
    rows = [line for line in text.splitlines() if line.startswith("| fid[sprites-frame]")]
    assert len(rows) == 4 and rows[0].split(" | ")[4] == "blind", "the column of shuffling"
    assert f"--num-videos {NUM_VIDEOS} --seed 0" in text
    some = [curve for curve in found.curves if curve.score in ("psnr", "fvd")]
    picture = page.svg(some)
    assert picture == page.svg(some) and "fvd[sprites-video]" in picture and len(picture) < 100_000
    assert "fooled" in page.table(found.curves) or "blind" in page.table(found.curves)


def test_too_few_videos_are_a_users_mistake(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ruler", "--num-videos", "3"])
    with pytest.raises(UserError, match="at least 4"):
        tool.main()
