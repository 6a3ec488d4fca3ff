"""Distances between sets of features: closed forms, the two libraries that others report with, bias, intervals."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pytorch_fid import fid_score
from torch_fidelity import metric_fid, metric_isc, metric_kid

from cdcd_video.errors import UserError
from cdcd_video.metrics.sets.distribution import (
    frechet_distance,
    inception_score,
    jedi,
    kernel_distance,
    kernel_distance_of_subsets,
)
from cdcd_video.metrics.statistics.intervals import around, over_halves
from cdcd_video.tools import set_intervals


def generator(seed: int, stream: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def features(seed: int, n: int, d: int, shift: float = 0.0, stretch: float = 1.0) -> np.ndarray:
    """Correlated, skewed and not centred, as real features are."""
    rng = generator(seed)
    mix = generator(99).normal(size=(d, d)) / math.sqrt(d)
    return np.maximum(rng.normal(size=(n, d)) @ mix * stretch + 0.3 + shift, 0)


def exactly(mean: np.ndarray, root: np.ndarray, n: int = 200) -> np.ndarray:
    """A set whose sample mean and covariance are just these; `root.T @ root` is the covariance."""
    rows = generator(5).normal(size=(n, len(mean)))
    rows -= rows.mean(axis=0)
    whitener = np.linalg.inv(np.linalg.qr(rows, mode="r")) * math.sqrt(n - 1)
    return rows @ whitener @ root + mean


# ------------------------------------------------------------------------------------------------- Frechet distance

SETS = [(300, 300, 20), (60, 60, 40), (500, 90, 64), (30, 200, 64)]
"""Rows, rows, features: the last ones with fewer samples than features."""


@pytest.mark.parametrize(("n", "m", "d"), SETS)
def test_frechet_is_torch_fidelitys(n, m, d):
    first, second = features(1, n, d), features(2, m, d, shift=0.2, stretch=1.4)
    statistics = [metric_fid.fid_features_to_statistics(torch.from_numpy(rows)) for rows in (first, second)]
    known = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)[metric_fid.KEY_METRIC_FID]
    assert frechet_distance(first, second) == pytest.approx(known, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), SETS[:2])
def test_frechet_is_pytorch_fids(n, m, d, monkeypatch):
    root = fid_score.linalg.sqrtm
    # pytorch-fid 0.3 passes an argument that SciPy 1.18 no longer knows.
    monkeypatch.setattr(fid_score.linalg, "sqrtm", lambda matrix, disp=True: (root(matrix), None))
    first, second = features(1, n, d), features(2, m, d, shift=0.2, stretch=1.4)
    moments = [moment for rows in (first, second) for moment in (rows.mean(axis=0), np.cov(rows, rowvar=False))]
    assert frechet_distance(first, second) == pytest.approx(fid_score.calculate_frechet_distance(*moments), rel=1e-6)


@pytest.mark.parametrize(("n", "d"), [(200, 16), (20, 300)])
def test_equal_sets_are_at_no_distance(n, d):
    rows = 10 * features(3, n, d)
    scale = np.trace(np.atleast_2d(np.cov(rows, rowvar=False)))
    assert frechet_distance(rows, rows) <= 1e-12 * scale
    assert frechet_distance(rows, rows[::-1]) <= 1e-12 * scale


def test_a_shifted_mean_costs_its_square():
    rows = features(4, 120, 30)
    shift = generator(6).normal(size=30)
    assert frechet_distance(rows, rows + shift) == pytest.approx(shift @ shift, rel=1e-9)


def test_diagonal_and_commuting_covariances():
    spread, other = generator(7).uniform(0.1, 3, size=(2, 12))
    mean = np.linspace(-1, 1, 12)
    turn = np.linalg.qr(generator(8).normal(size=(12, 12)))[0]
    for axes in (np.eye(12), turn):
        found = frechet_distance(
            exactly(mean, np.diag(spread) @ axes), exactly(np.zeros(12), np.diag(other) @ axes, n=90)
        )
        assert found == pytest.approx(mean @ mean + ((spread - other) ** 2).sum(), rel=1e-9)


def test_one_feature_and_constant_features():
    assert frechet_distance(
        exactly(np.array([1.0]), np.array([[2.0]])), exactly(np.array([4.0]), np.array([[5.0]]))
    ) == pytest.approx(9 + 9)
    assert frechet_distance(np.zeros((8, 400)), np.full((8, 400), 0.5)) == pytest.approx(100.0)


def test_frechet_is_symmetric_and_blind_to_rotation_and_order():
    first, second = features(1, 50, 80), features(2, 70, 80, stretch=2.0)
    value = frechet_distance(first, second)
    turn = np.linalg.qr(generator(9).normal(size=(80, 80)))[0]
    assert frechet_distance(second, first) == pytest.approx(value, rel=1e-10)
    assert frechet_distance(first @ turn, second @ turn) == pytest.approx(value, rel=1e-10)
    assert frechet_distance(first[::-1], generator(1).permutation(second)) == pytest.approx(value, rel=1e-10)


def test_frechet_keeps_its_digits_where_the_product_of_covariances_loses_them():
    """Few samples, huge differences of scale: the roots of tiny eigenvalues of C1 C2 are mostly rounding."""
    rows = exactly(np.zeros(40), np.diag(10.0 ** np.linspace(3, -6, 40)))
    assert frechet_distance(rows, 2 * rows) == pytest.approx(np.trace(np.cov(rows, rowvar=False)), rel=1e-12)


def test_one_sample_is_a_users_mistake():
    with pytest.raises(UserError, match="at least 2 samples"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


# ------------------------------------------------------------------------------------------------- kernel distance


def test_kernel_distance_is_torch_fidelitys():
    first, second = features(1, 40, 16), features(2, 40, 16, shift=0.1)
    kernels = [
        metric_kid.kernel_poly(a, b, kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1)
        for a, b in ((first, first), (first, second), (second, second))
    ]
    assert kernel_distance(first, second) == pytest.approx(metric_kid.mmd2(*kernels), rel=1e-9)


def test_jedi_by_plain_loops():
    """The mean of (x.y / D)^2 over all pairs, within and between; equal sets are at 0, because each sample meets itself."""
    first, second = features(1, 6, 5), features(2, 4, 5, shift=0.2)

    def mean_kernel(one: np.ndarray, other: np.ndarray) -> float:
        values = [
            (sum(a * b for a, b in zip(x, y, strict=True)) / 5) ** 2 for x in one.tolist() for y in other.tolist()
        ]
        return sum(values) / len(values)

    expected = mean_kernel(first, first) + mean_kernel(second, second) - 2 * mean_kernel(first, second)
    assert jedi(first, second) == pytest.approx(100 * expected, rel=1e-12)
    assert jedi(first, first[::-1]) == pytest.approx(0, abs=1e-12)
    # Rows of one length that are orthogonal in expectation: 100 (1 / n + 1 / m) too much, whatever the distribution.
    rows = [generator(seed).normal(size=(40, 2000)) for seed in (3, 4)]
    assert jedi(*rows) == pytest.approx(100 * 2 / 40, rel=0.02)


def test_kernel_distance_of_subsets_is_torch_fidelitys_on_whole_sets():
    first, second = features(1, 30, 8), features(2, 30, 8, shift=0.1)
    known = metric_kid.kid_features_to_metric(
        torch.from_numpy(first), torch.from_numpy(second), kid_subsets=3, kid_subset_size=30, verbose=False
    )
    mean, deviation = kernel_distance_of_subsets(first, second, generator(0), num_subsets=3, subset_size=30)
    assert mean == pytest.approx(known[metric_kid.KEY_METRIC_KID_MEAN], rel=1e-9)
    assert deviation == pytest.approx(0, abs=1e-12)
    with pytest.raises(UserError, match="subset_size is 31"):
        kernel_distance_of_subsets(first, second, generator(0), subset_size=31)


def test_kernel_distance_is_unbiased_and_frechet_is_not():
    """Two halves of one law: whatever the number of samples, the kernel distance is 0 on average."""
    for n in (8, 64):
        pairs = [generator(seed, n).normal(size=(2, n, 12)) for seed in range(300)]
        kernel = np.array([kernel_distance(*pair) for pair in pairs])
        assert abs(kernel.mean()) < 3 * kernel.std() / math.sqrt(len(pairs))
        assert np.mean([frechet_distance(*pair) for pair in pairs[:20]]) > (1.0 if n == 64 else 6.0)


def test_kernel_distance_in_expectation():
    """The linear kernel's is the squared distance of means."""
    rows = features(1, 30, 6)
    shift = np.arange(6.0)
    values = [
        kernel_distance(generator(s, 1).normal(size=(40, 6)), generator(s, 2).normal(size=(25, 6)) + shift, degree=1)
        for s in range(200)
    ]
    assert np.mean(values) == pytest.approx(shift @ shift / 6, rel=0.03)
    assert kernel_distance(rows, rows + shift) > kernel_distance(rows, rows + 0.5 * shift) > kernel_distance(rows, rows)


# ------------------------------------------------------------------------------------------------- inception score


@pytest.mark.parametrize("num_splits", [1, 3, 10])
def test_inception_score_is_torch_fidelitys(num_splits):
    logits = 3 * generator(1).normal(size=(57, 11))
    known = metric_isc.isc_features_to_metric(torch.from_numpy(logits), splits=num_splits, shuffle=False)
    mean, deviation = inception_score(logits, num_splits=num_splits)
    assert mean == pytest.approx(known[metric_isc.KEY_METRIC_ISC_MEAN], rel=1e-9)
    assert deviation == pytest.approx(known[metric_isc.KEY_METRIC_ISC_STD], rel=1e-6, abs=1e-12)


def test_inception_score_of_the_extremes():
    same = np.tile(generator(1).normal(size=7), (30, 1))
    sure = 1000 * np.eye(6)[np.arange(30) % 6]
    assert inception_score(same)[0] == pytest.approx(1)
    assert inception_score(sure)[0] == pytest.approx(6)
    assert inception_score(np.zeros((5, 400)))[0] == pytest.approx(1)
    assert inception_score(1000 * np.eye(400)[:4])[0] == pytest.approx(4), "no more than there are samples"


def test_inception_score_draws_its_order_from_the_generator_alone():
    logits = 1000 * np.eye(5)[np.repeat(np.arange(5), 6)]
    assert inception_score(logits, num_splits=5)[0] == pytest.approx(1), "sorted by class, each part holds one class"
    mixed = inception_score(logits, num_splits=5, rng=generator(3))
    assert mixed[0] > 2.5
    assert mixed == inception_score(logits, num_splits=5, rng=generator(3))
    with pytest.raises(UserError, match="num_splits is 10, but there are 3 samples"):
        inception_score(logits[:3], num_splits=10)


# ------------------------------------------------------------------------------------------------------- intervals


def interval(statistic: Callable[..., float], *sets: np.ndarray, seed: int = 0, num_halves: int = 100) -> np.ndarray:
    """Value, low and high, as an evaluation works them out."""

    def of_kept(*kept: np.ndarray) -> np.ndarray:
        return np.array([statistic(*(rows[which] for rows, which in zip(sets, kept, strict=True)))])

    sizes = tuple(map(len, sets))
    value = of_kept(*map(np.arange, sizes))
    return np.array([value, *around(value, over_halves(of_kept, sizes, seed, num_halves))])[:, 0]


@pytest.mark.parametrize("statistic", [frechet_distance, kernel_distance])
def test_intervals_hold_what_they_promise(statistic):
    """Over many repetitions, about 95% hold the statistic's expectation at this number of samples."""

    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
        first, second = generator(seed, 7).normal(size=(2, 40, 12))
        return first, 1.3 * second + 0.4

    expected = np.mean([statistic(*drawn(seed)) for seed in range(400)])
    value, low, high = np.array([interval(statistic, *drawn(1000 + seed), num_halves=60) for seed in range(100)]).T
    assert 0.88 <= np.mean((low <= expected) & (expected <= high)) <= 1.0
    assert 0.7 < np.mean(high - low) / (3.92 * np.std(value)) < 1.5


def test_a_difference_of_distances_on_the_same_halves_is_known_better_than_either():
    """What `NAME_over_floor` rests on: rows that share most of what they are, against the same real set."""
    floor, real = features(1, 60, 12), features(2, 60, 12)
    row = floor + 0.03 + 0.01 * generator(3).normal(size=floor.shape)

    def of_kept(kept: np.ndarray, real_kept: np.ndarray) -> np.ndarray:
        return np.array([frechet_distance(rows[kept], real[real_kept]) for rows in (row, floor)])

    value, halves = of_kept(np.arange(60), np.arange(60)), over_halves(of_kept, (60, 60), 0, 100)
    low, high = around(value, halves)
    low_apart, high_apart = around(value[:1] - value[1:], halves[:, :1] - halves[:, 1:])
    assert high_apart[0] - low_apart[0] < 0.2 * (high[0] - low[0])


def test_intervals_are_reproducible_and_honest_about_few_samples():
    sets = features(1, 30, 12), features(2, 44, 12)
    one = interval(frechet_distance, *sets, seed=4)
    assert np.array_equal(one, interval(frechet_distance, *sets, seed=4))
    assert not np.array_equal(one, interval(frechet_distance, *sets, seed=5)) and one[1] < one[0] < one[2]
    assert np.isnan(interval(frechet_distance, sets[0][:6], sets[1])[1:]).all()
    value, low, high = interval(lambda logits: inception_score(logits)[0], 3 * generator(1).normal(size=(50, 6)))
    assert low < value < high


def test_intervals_of_sets_are_too_wide_at_the_floor_and_right_beside_a_clear_difference():
    """What docs/evaluation.md says of them, on few trials: too wide where it does no harm, and nowhere too narrow."""
    floor, clear = (set_intervals.trial(kernel_distance, 16, 6, shift, 40, 0, 30) for shift in (0.0, 2.0))
    assert 1.2 < floor.width < 2.6 and floor.covered > 0.9
    assert 0.7 < clear.width < 1.4 and clear.covered > 0.8 and clear.value > 1 > abs(floor.value)
    assert clear.width < floor.width
