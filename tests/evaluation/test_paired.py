from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from medgan.errors import MedganError
from medgan.evaluation.classification import area_under_curve
from medgan.evaluation.paired import includes_zero, mean_difference, statistic_difference


def test_one_seed_is_the_ordinary_bootstrap_of_scipy() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((1, 40)), rng.random((1, 40)) + 0.05
    found = mean_difference(first, second, resamples=20_000)
    theirs = bootstrap(((second - first)[0],), np.mean, n_resamples=20_000, method="percentile", rng=rng)
    assert found.value == pytest.approx((second - first).mean())
    low, high = theirs.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.006)


def test_the_variance_is_the_one_of_the_pigeonhole_bootstrap() -> None:
    """Of rows alone that differ, a resampled mean has the variance of the rows' mean; of columns alone likewise."""
    rows = np.repeat(np.arange(6.0)[:, None], 50, axis=1)
    for scores, count in ((rows, 6), (rows.T, 6)):
        found = mean_difference(np.zeros_like(scores), scores, resamples=40_000, confidence=0.6827)
        assert (found.high - found.low) / 2 == pytest.approx(np.arange(6.0).std() / np.sqrt(count), rel=0.06)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Seeds and subjects with effects of their own: 200 simulated comparisons of five seeds and 40 subjects."""
    rng, held = np.random.default_rng(1), 0
    for number in range(200):
        effects = 0.3 + 0.5 * rng.standard_normal((5, 1)) + rng.standard_normal((1, 40))
        scores = effects + rng.standard_normal((5, 40))
        found = mean_difference(np.zeros((5, 40)), scores, resamples=400, seed=number)
        held += found.low <= 0.3 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(2)
    subjects = 5 * rng.standard_normal((1, 30))
    first = subjects + 0.1 * rng.standard_normal((3, 30))
    found = mean_difference(first, first + 0.2 + 0.1 * rng.standard_normal((3, 30)))
    assert found.high - found.low < 0.4
    assert not includes_zero(found)
    assert includes_zero(mean_difference(first, first))


def test_subjects_without_a_score_are_left_out_of_both() -> None:
    first = np.array([[0.5, np.nan, 0.7]])
    assert mean_difference(first, first + 0.1).value == pytest.approx(0.1)
    with pytest.raises(MedganError, match="others"):
        mean_difference(first, np.ones((1, 3)))
    with pytest.raises(MedganError, match="no subject"):
        mean_difference(np.full((2, 2), np.nan), np.full((2, 2), np.nan))
    with pytest.raises(MedganError, match="one shape"):
        mean_difference(np.ones((2, 2)), np.ones((2, 3)))


def test_a_figure_that_is_no_mean() -> None:
    rng = np.random.default_rng(3)
    truth = np.array([0] * 15 + [1] * 25)
    poor, good = (rng.standard_normal((2, 40)) + gap * truth for gap in (0.3, 2.5))

    def area(scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
        return float(np.mean([roc_auc_score(truth[columns], scores[row][columns]) for row in rows]))

    found = statistic_difference(
        lambda rows, columns: area(poor, rows, columns),
        lambda rows, columns: area(good, rows, columns),
        2,
        truth,
        resamples=60,
    )
    assert found.value == pytest.approx(
        np.mean([roc_auc_score(truth, good[row]) - roc_auc_score(truth, poor[row]) for row in (0, 1)])
    )
    assert 0 < found.low < found.value < found.high


@pytest.mark.parametrize("classes", [2, 3])
def test_areas_agree_with_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth = rng.integers(classes, size=50)
    probabilities = rng.dirichlet(np.ones(classes), 50).round(2)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    theirs = (
        roc_auc_score(truth, probabilities[:, 1])
        if classes == 2
        else roc_auc_score(truth, probabilities, multi_class="ovr")
    )
    assert area_under_curve(truth, probabilities) == pytest.approx(theirs)
