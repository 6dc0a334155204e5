from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from medgan.errors import MedganError
from medgan.evaluation.tails import fitted_tail


@pytest.mark.parametrize("count", [12, 40, 96])
def test_one_innocent_scan_in_a_hundred_raises_the_alarm(count: int) -> None:
    random = np.random.default_rng(count)
    thresholds = [fitted_tail(random.exponential(size=count)).threshold(0.01) for _ in range(3000)]
    # Exponential scores exceed a threshold t with probability exp(-t).
    assert np.exp(-np.array(thresholds)).mean() == pytest.approx(0.01, rel=0.35)


def test_of_many_scores_the_threshold_is_their_quantile() -> None:
    random = np.random.default_rng(0)
    tail = fitted_tail(random.exponential(2.0, size=20_000) + 5)
    assert tail.threshold(0.01) == pytest.approx(stats.expon(5, 2).ppf(0.99), rel=0.02)
    assert not tail.is_extrapolated
    assert tail.outlying == ()


def test_lighter_tails_than_exponential_ones_raise_fewer_alarms() -> None:
    random = np.random.default_rng(0)
    thresholds = np.array([fitted_tail(random.normal(size=84)).threshold(0.01) for _ in range(1000)])
    assert stats.norm.sf(thresholds).mean() < 0.01


def test_chance_is_the_inverse_of_the_threshold_and_falls() -> None:
    tail = fitted_tail(np.random.default_rng(0).normal(size=60))
    for rate in (0.1, 0.01, 1e-4):
        assert tail.chance(tail.threshold(rate)) == pytest.approx(rate)
    values = [tail.chance(score) for score in np.linspace(-3, 9, 50)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))


def test_a_repeated_scan_does_not_hide_copies() -> None:
    scores = np.random.default_rng(0).exponential(0.1, size=80)
    clean = fitted_tail(scores).threshold(0.01)
    with_pair = fitted_tail(np.concatenate([scores, [8.0, 8.1]]))
    assert with_pair.outlying == (80, 81)
    assert with_pair.threshold(0.01) == pytest.approx(clean, rel=0.2)


def test_few_scores_are_refused_and_equal_ones_are_not() -> None:
    with pytest.raises(MedganError, match="2 real scans"):
        fitted_tail(np.array([1.0, 2.0]))
    same = fitted_tail(np.ones(5))
    assert same.threshold(0.01) == 1.0
    assert same.chance(1.1) == 0.0
