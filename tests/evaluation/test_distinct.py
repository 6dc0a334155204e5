"""The effective number of scans where it is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.evaluation.distinct import effective_number, pairwise_distances, relative_diversity


def test_copies_are_worth_one_and_scans_without_anything_in_common_their_number() -> None:
    assert effective_number(np.ones((7, 3)), 1.0) == pytest.approx(1)
    apart = 1e3 * np.eye(5)
    assert effective_number(apart, 1.0) == pytest.approx(5)
    # Each of the five three times, and unequal shares: the exponential of the entropy.
    assert effective_number(np.repeat(apart, 3, axis=0), 1.0) == pytest.approx(5)
    shares = np.array([8, 4, 2, 1, 1]) / 16
    entropy = -(shares * np.log(shares)).sum()
    uneven = np.repeat(apart, [8, 4, 2, 1, 1], axis=0)
    assert effective_number(uneven, 1.0) == pytest.approx(math.exp(entropy))


def test_two_scans_by_hand() -> None:
    # Distance sqrt((3^2 + 4^2) / 2); eigenvalues of [[1, k], [k, 1]] / 2 are (1 + k) / 2 and (1 - k) / 2.
    features = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert pairwise_distances(features)[0, 1] == pytest.approx(math.sqrt(12.5))
    k = math.exp(-0.5 * 12.5 / 4)
    entropy = -sum(p * math.log(p) for p in ((1 + k) / 2, (1 - k) / 2))
    assert effective_number(features, 2.0) == pytest.approx(math.exp(entropy))


def test_relative_diversity_is_one_for_the_population_and_falls_with_lost_modes() -> None:
    random = np.random.default_rng(0)
    modes = random.standard_normal((27, 40))

    def drawn(allowed: int, count: int) -> np.ndarray:
        return modes[random.integers(0, allowed, count)] + 0.05 * random.standard_normal((count, 40))

    real = drawn(27, 400)
    values = {
        allowed: np.mean([relative_diversity(real, drawn(allowed, 16)) for _ in range(20)]) for allowed in (27, 3, 1)
    }
    assert values[27] == pytest.approx(1, abs=0.1)
    assert 0.05 < values[3] < 0.4
    assert values[1] < 0.03
    assert relative_diversity(real, np.repeat(real[:1], 16, axis=0)) == pytest.approx(0, abs=1e-9)


def test_sets_that_cannot_be_compared_are_refused() -> None:
    different, same = np.random.default_rng(0).standard_normal((5, 4)), np.ones((5, 4))
    for real, synthetic in ((same, different), (different, different[:1]), (different[:1], different)):
        with pytest.raises(MedganError, match="diversity cannot be compared"):
            relative_diversity(real, synthetic)
