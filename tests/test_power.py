"""The sign-flip test, its size and its power, and the minimum detectable effect: by enumeration and by simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from cdcd_video.metrics.statistics import detectable, sign_flip
from cdcd_video.metrics.statistics.paired import holm
from cdcd_video.metrics.statistics.sign_flip import sign_flip_p


def generator(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


@pytest.mark.parametrize("num", [1, 2, 5, 9])
def test_p_is_the_share_of_all_patterns_of_signs(num: int):
    differences = generator(num).normal(0.4, 1.0, num)
    patterns = np.array(list(itertools.product((1, -1), repeat=num)))
    expected = (np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-12).mean()
    assert sign_flip_p(differences) == pytest.approx(expected, abs=1e-12)
    assert sign_flip_p(-7 * differences) == sign_flip_p(differences), "neither sign nor unit matters"


def test_p_of_ties_and_of_no_difference():
    assert sign_flip_p(np.array([1.0, 1.0, 1.0, 0.0])) == 2 * 2 / 16  # the sign of a zero makes no difference
    assert sign_flip_p(np.zeros(4)) == 1.0
    assert sign_flip_p(np.array([0.1, 0.2, 0.3])) == sign_flip_p(np.array([0.3, 0.1, 0.2])) == 0.25


def test_random_patterns_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch):
    differences = generator(3).normal(0.5, 1.0, 12)
    exact = sign_flip_p(differences)
    monkeypatch.setattr(sign_flip, "EXACT_UP_TO", 5)
    assert sign_flip_p(differences) == pytest.approx(exact, abs=4 * math.sqrt(exact / 9999))
    assert sign_flip_p(differences + 100) < 0.002
    assert sign_flip_p(differences) == sign_flip_p(differences), "the same seed gives the same patterns"


@pytest.mark.parametrize("num", [3, 6, 8, 20, 21])
def test_the_smallest_p_is_that_of_differences_of_one_sign(num: int):
    assert sign_flip_p(np.arange(1.0, num + 1)) == pytest.approx(sign_flip.smallest_p(num), rel=1e-9)


def test_the_attained_level_is_a_possible_p_value_that_is_not_above_the_level():
    assert sign_flip.attained_level(8, 0.05) == 6 / 128
    assert sign_flip.attained_level(6, 1 / 32) == 1 / 32
    assert sign_flip.attained_level(5, 0.05) == 0.0, "five differences never give p below 1/16"
    for num, level in itertools.product(range(1, 12), (0.05, 0.05 / 3, 0.01)):
        possible = [count / 2 ** (num - 1) for count in range(1, 2 ** (num - 1) + 1)]
        assert sign_flip.attained_level(num, level) == max((p for p in possible if p <= level), default=0.0)


def rejections(samples: np.ndarray, level: float) -> float:
    return float(np.mean([sign_flip_p(row) <= level for row in samples]))


@pytest.mark.parametrize("kind", ["normal", "laplace", "standard_t"])
@pytest.mark.parametrize(("num", "level"), [(6, 0.05), (8, 0.05), (8, 0.0125), (11, 0.0125)])
def test_the_size_of_the_test_is_the_attained_level_for_any_symmetric_distribution(num: int, level: float, kind: str):
    shape = (2, (4000, num)) if kind == "standard_t" else (0.0, 1.0, (4000, num))
    found, attained = rejections(getattr(generator(num), kind)(*shape), level), sign_flip.attained_level(num, level)
    assert found == pytest.approx(attained, abs=4 * math.sqrt(attained / 4000))


def test_with_holm_any_of_several_true_null_hypotheses_is_rejected_at_most_at_the_level():
    samples = generator(1).normal(size=(1500, 4, 10))
    samples += generator(2).normal(size=(1500, 1, 10))  # the tests share their bases
    least = [min(holm([sign_flip_p(row) for row in one])) for one in samples]
    assert 0.01 < np.mean(np.array(least) <= 0.05) < 0.05 + 3 * math.sqrt(0.05 / 1500)


@pytest.mark.parametrize(
    ("num", "level"), [(6, 0.05), (8, 0.05), (8, 0.05 / 6), (10, 0.01), (11, 0.05 / 6), (14, 0.05)]
)
def test_at_the_minimum_detectable_effect_four_of_five_experiments_find_it(num: int, level: float):
    """Fresh normal samples and the test itself, not the numbers that the power was computed from."""
    effect = detectable.minimum_detectable_effect(3.0, num, level)
    samples = generator(100 + num).normal(effect, 3.0, (2000, num))
    assert rejections(samples, level) == pytest.approx(0.8, abs=0.045)
    assert rejections(samples - effect / 2, level) < 0.6


def test_power_at_no_effect_is_the_size_and_grows_with_the_effect():
    for num in (8, 15):
        found = [sign_flip.power_of(shift, num, 0.05) for shift in (0.0, 0.5, 1.0, 2.0)]
        assert found[0] == pytest.approx(sign_flip.attained_level(num, 0.05), abs=0.012) and found == sorted(found)
        assert sign_flip.power_of(-1.0, num, 0.05) == pytest.approx(found[2], abs=0.02)


def test_the_most_extreme_pattern_alone_has_a_power_in_closed_form():
    """At the smallest level the test rejects where all differences have one sign: Phi(shift)^n + Phi(-shift)^n."""
    share = 0.5 * (1 + math.erf(1.7 / math.sqrt(2)))
    assert sign_flip.power_of(1.7, 8, 0.01) == pytest.approx(share**8 + (1 - share) ** 8, abs=0.025)


def test_the_multiple_is_near_the_one_of_the_t_test_for_many_pairs():
    """Bloom 1995: (t_{1 - level/2} + t_{power}) / sqrt(n), with 29 degrees of freedom from a table."""
    assert detectable.multiple(30, 0.05) == pytest.approx((2.045 + 0.854) / math.sqrt(30), rel=0.01)


@pytest.mark.parametrize(("num", "level"), [(11, 0.0125), (16, 0.05), (40, 0.01), (200, 0.05)])
def test_the_power_of_the_t_test_is_that_of_the_noncentral_t_distribution(num: int, level: float):
    critical = stats.t.isf(level / 2, num - 1)
    assert sign_flip._critical_t(num, level) == pytest.approx(critical, abs=1e-9)
    for shift in (0.0, 0.1, 0.5, 1.2):
        away = shift * math.sqrt(num)
        expected = stats.nct.sf(critical, num - 1, away) + stats.nct.sf(critical, num - 1, -away)
        assert sign_flip._t_test_power(shift, num, critical) == pytest.approx(expected, abs=1e-9)


def test_too_few_pairs_find_nothing():
    assert detectable.minimum_detectable_effect(1.0, 5, 0.05) == math.inf
    assert sign_flip.power_of(100.0, 5, 0.05) == 0.0
    assert detectable.minimum_detectable_effect(0.0, 8, 0.05) == 0.0


def test_the_pairs_needed_are_the_fewest_that_find_the_effect():
    for deviation, effect, level in ((1.0, 1.0, 0.05), (2.0, 1.0, 0.05), (1.0, 3.0, 0.0125)):
        num = detectable.pairs_needed(deviation, effect, level)
        assert detectable.minimum_detectable_effect(deviation, num, level) <= effect
        fewer = [detectable.minimum_detectable_effect(deviation, less, level) for less in range(2, num)]
        assert all(one > effect for one in fewer)
    assert detectable.pairs_needed(100.0, 1.0, 0.05) is None


def test_deviations_are_pooled_around_the_mean_of_each_group():
    first, second = np.array([1.0, 3.0]), np.array([10.0, 10.0, 13.0])
    deviation, freedom = detectable.pooled_deviation([first, second, np.array([99.0])])
    assert freedom == 3 and deviation == pytest.approx(math.sqrt((2.0 + 6.0) / 3))
    assert detectable.pooled_deviation([np.array([1.0])]) is None
