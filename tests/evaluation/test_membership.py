from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from medgan.errors import MedganError
from medgan.evaluation.membership import membership_attack, nearness


def test_area_against_scikit_learn() -> None:
    random = np.random.default_rng(0)
    members, outsiders = random.integers(0, 9, 30).astype(float), random.integers(2, 11, 20).astype(float)
    found = membership_attack(members, outsiders)
    truth = np.concatenate([np.ones(30), np.zeros(20)])
    assert found.auc == pytest.approx(roc_auc_score(truth, -np.concatenate([members, outsiders])))
    assert found.auc == pytest.approx(mannwhitneyu(outsiders, members).statistic / 600)
    assert (found.members, found.outsiders) == (30, 20)


def test_the_interval_holds_the_true_area() -> None:
    random = np.random.default_rng(0)
    truth = norm.cdf(1 / np.sqrt(2))
    held = 0
    for seed in range(60):
        found = membership_attack(random.normal(0, 1, 60), random.normal(1, 1, 30), seed=seed)
        held += found.low <= truth <= found.high
    assert held >= 52


def test_a_generator_that_copies_is_found_and_one_that_does_not_is_not() -> None:
    random = np.random.default_rng(0)
    training, holdout, fresh = (random.normal(size=(count, 6)) for count in (60, 40, 60))

    def area(samples: np.ndarray) -> float:
        to_samples, to_training = (
            [np.linalg.norm(scans[:, None] - other[None], axis=2) for scans in (training, holdout)]
            for other in (samples, training)
        )
        np.fill_diagonal(to_training[0], np.inf)
        return membership_attack(*(nearness([a], [b]) for a, b in zip(to_samples, to_training, strict=True))).auc

    assert area(fresh) == pytest.approx(0.5, abs=0.12)
    assert area(training + 0.1 * random.normal(size=training.shape)) > 0.98


def test_nearness_by_hand() -> None:
    samples = [np.array([[2.0, 4.0]]), np.array([[8.0, 9.0]])]
    training = [np.array([[np.inf, 1.0, 3.0]]), np.array([[np.inf, 1.0, 1.0]])]
    # 2 over the mean of 1 and 3, and 8 over 1: geometric mean of 1 and 8.
    assert nearness(samples, training)[0] == pytest.approx(np.sqrt(8))


def test_one_scan_is_no_attack() -> None:
    with pytest.raises(MedganError, match="1 others"):
        membership_attack(np.ones(5), np.ones(1))
