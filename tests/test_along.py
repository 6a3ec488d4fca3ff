"""Retention, slope and frames kept, on curves whose figures are known."""

import numpy as np
import pytest

from cdcd_video.metrics import curve_summary
from cdcd_video.metrics.measurements import EvalVideo, measured
from cdcd_video.metrics.scores import MEASURES, Measure
from cdcd_video.metrics.summary import per_video, scores_of

HIGHER = Measure("dB", "higher", loss=3)
LOWER = Measure("distance", "lower", loss=1.0, is_relative=True)
REAL = Measure("levels", "real", loss=0.5, is_relative=True)


def figures(values, measure=HIGHER, frames=None, num_frames=None):
    curve = np.atleast_2d(np.asarray(values, dtype=np.float64))
    places = np.arange(1, curve.shape[1] + 1) if frames is None else np.asarray(frames)
    return curve_summary.figures(curve, places, num_frames or int(places[-1]) + 1, measure)


def test_a_straight_line():
    found = figures(40 - np.arange(16.0))
    assert found.slope[0] == pytest.approx(-1)
    assert found.retention[0] == pytest.approx((40 - 13.5) / (40 - 1.5))
    assert found.frames_kept[0] == 6 and not found.is_at_least[0]  # 38.5 - 3 = 35.5, and frame 6 is at 35


def test_what_never_falls_is_kept_at_least_to_the_end():
    found = figures(np.full(16, 30.0))
    assert (found.retention[0], found.slope[0], found.frames_kept[0], found.is_at_least[0]) == (1, 0, 17, True)
    assert figures(np.linspace(30, 50, 16)).is_at_least[0]  # better is no loss


def test_each_measure_has_its_own_worse_side():
    rising = np.linspace(10, 40, 8)
    assert figures(rising, LOWER).frames_kept[0] == 5  # beginning 12.1, doubled at 24.3
    assert figures(rising[::-1], LOWER).is_at_least[0]
    for curve in (rising, rising[::-1]):
        assert not figures(curve, REAL).is_at_least[0]


def test_a_frame_that_lost_just_the_threshold_is_not_kept():
    assert figures([30.0, 28, 27, 26]).frames_kept[0] == 3  # 3 dB at the third place; the fourth is worse still
    assert figures([10.0, 15, 20, 30], LOWER).frames_kept[0] == 3


def test_frames_of_which_nothing_is_known_are_passed_over():
    values = 40 - np.arange(16.0)
    values[[0, 5]] = np.nan
    found = figures(values)
    assert found.slope[0] == pytest.approx(-1) and found.retention[0] == pytest.approx((40 - 13.5) / (40 - 2))
    nothing = figures(np.full(16, np.nan))
    assert (
        np.isnan([nothing.retention[0], nothing.slope[0], nothing.frames_kept[0]]).all() and not nothing.is_at_least[0]
    )
    one = figures([5.0])
    assert np.isnan([one.retention[0], one.slope[0], one.frames_kept[0]]).all()


def test_a_beginning_at_zero_has_no_ratio_and_curves_do_not_touch_each_other():
    found = figures([[0.0, 1, 2, 3], [4, 4, 4, 4]], LOWER)
    assert np.isnan(found.retention[0]) and np.isnan(found.frames_kept[0]) and not found.is_at_least[0]
    assert found.retention[1] == 1 and found.is_at_least[1]


def test_windows_are_placed_at_their_first_frame():
    found = figures([10.0, 15, 30], LOWER, frames=[0, 8, 16], num_frames=32)
    assert found.frames_kept[0] == 16 and found.slope[0] == pytest.approx(20 / 16) and found.retention[0] == 3


def drifting(slopes, name="psnr", num_frames=9):
    """Videos whose score falls by so much per frame; frame 0 is given, and perfect."""
    for number, slope in enumerate(slopes):
        curve = np.concatenate([[60.0], 40 - slope * np.arange(num_frames - 1)])
        yield measured(name, EvalVideo(f"v{number}", f"v{number}"), curve)


def test_scores_along_the_video_have_intervals_over_videos():
    rng = np.random.Generator(np.random.Philox(key=2))
    seen = list(drifting(rng.normal(1, 0.3, 40)))
    scores = {score.metric: score for score in scores_of("model", seen, 1, 0, {}) if score.frame is None}
    slope, kept, retention = (scores[f"psnr_{name}"] for name in ("slope", "frames_kept", "retention"))
    assert slope.low < -1 < slope.high and slope.value == pytest.approx(-1, abs=0.15)
    assert slope.unit == "dB per frame" and kept.unit == "frames" and retention.unit == "ratio"
    assert 1 <= kept.low <= kept.value <= kept.high and not kept.is_at_least
    assert retention.low < retention.value < retention.high < 1
    assert {score.resamples for score in scores.values()} == {2000}
    (alone,) = [s for s in scores_of("model", seen[:1], 1, 0, {}) if s.metric == "psnr_slope"]
    assert alone.low is None is alone.high


def test_the_given_frame_counts_only_where_it_is_told_to():
    seen = list(drifting([1, 1]))
    whole = [next(s for s in scores_of("model", seen, first, 0, {}) if s.frame is None).value for first in (1, 0)]
    assert whole == [pytest.approx(36.5), pytest.approx((60 + 8 * 36.5) / 9)]
    assert {s.frame for s in scores_of("model", seen, 1, 0, {}) if s.metric == "psnr"} == {None, *range(9)}


def test_sums_per_video_make_the_score():
    seen = [*drifting([0.5, 1.5], "position_error"), *drifting([1.0], "position_error")]  # two objects in video v0
    lines = list(per_video("model", seen, 1, by_frame=True))
    whole = [line for line in lines if line.frame is None]
    assert [line.video for line in whole] == ["v0", "v1"] and [line.weight for line in whole] == [16, 8]
    (score,) = [s for s in scores_of("model", seen, 1, 0, {}) if s.metric == "position_error" and s.frame is None]
    assert score.value == pytest.approx(sum(line.total for line in whole) / sum(line.weight for line in whole))
    frames = [line for line in lines if line.frame is not None and line.video == "v1"]
    assert [line.frame for line in frames] == list(range(9)) and frames[1].total == 40
    assert [line.frame for line in per_video("truth", seen, 1, by_frame=False)] == [None, None]


def test_every_curve_has_its_three_figures_named():
    for name, measure in list(MEASURES.items()):
        if measure.loss is not None:
            assert all(f"{name}_{figure}" in MEASURES for figure in ("retention", "slope", "frames_kept"))
    assert "does_right_thing_slope" not in MEASURES
