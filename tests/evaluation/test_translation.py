"""The references of a translation: the best map of intensities, and the distance of intensities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from medgan.errors import MedganError
from medgan.evaluation.translation import (
    AIR,
    IntensityMap,
    air_brightness,
    intensity_distance,
    relative_change,
)


def test_the_map_is_the_conditional_mean() -> None:
    rng = np.random.default_rng(0)
    source = rng.random((20, 21, 22))
    target = np.sin(2 * source) + rng.normal(0, 0.1, source.shape)
    made = IntensityMap.fitted([(source[:10], target[:10]), (source[10:], target[10:])]).applied(source)
    edges = np.linspace(-0.5, 2.0, 257)
    inside = np.digitize(source, edges) == np.digitize(0.4, edges)
    np.testing.assert_allclose(made[inside], target[inside].mean(), rtol=1e-5)
    # No other function of the intensity is nearer, not even the one that the target was made by.
    assert np.square(made - target).mean() < np.square(np.sin(2 * source) - target).mean()


def test_bins_without_voxels_are_interpolated() -> None:
    source = np.repeat([0.0, 1.0], 50).reshape(10, 10, 1)
    half = IntensityMap.fitted([(source, 3 * source)]).applied(np.full((1, 1, 1), 0.5))
    assert half.item() == pytest.approx(1.5, abs=0.02)


def test_the_distance_is_wassersteins() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.gamma(3, 0.2, (30, 30, 30)), rng.gamma(4, 0.2, (30, 30, 30))
    expected = wasserstein_distance(one[one > AIR], other[other > AIR])
    assert intensity_distance([one], [other]) == pytest.approx(expected, rel=0.02)
    assert intensity_distance([one], [one]) == 0


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(MedganError, match="no pair"):
        IntensityMap.fitted([])
    with pytest.raises(MedganError, match="one shape"):
        IntensityMap.fitted([(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))])
    with pytest.raises(MedganError, match="nothing but air"):
        intensity_distance([np.zeros((2, 2, 2))], [np.ones((2, 2, 2))])


def test_no_map_of_intensities_changes_less_than_the_distance() -> None:
    rng = np.random.default_rng(0)
    source = rng.uniform(0.1, 1.0, (12, 12, 12))
    targets = rng.uniform(0.1, 1.0, (12, 12, 12)) ** 2 + 0.1
    # Rank for rank is the least change that reaches the other histogram; any other order of ranks changes more.
    ranks = source.ravel().argsort().argsort()
    sorted_targets = np.sort(targets.ravel())
    least = sorted_targets[ranks].reshape(source.shape)
    inverted = sorted_targets[::-1][ranks].reshape(source.shape)
    assert relative_change(source, least, targets) == pytest.approx(1, abs=0.02)
    assert relative_change(source, inverted, targets) > 2
    assert relative_change(source, source, targets) == 0
    half = source + 0.5 * (least - source)
    assert relative_change(source, half, targets) == pytest.approx(0.5, abs=0.02)


def test_there_is_no_share_of_nothing() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.uniform(0.1, 1, (2, 10, 10, 10))
    assert relative_change(one, other, one) is None
    assert relative_change(np.zeros(5), np.ones(5), one) is None
    assert relative_change(one, one, np.zeros(5)) is None


def test_air_that_turns_bright() -> None:
    source = np.array([0.0, 0.01, 0.3, 0.6, 0.9])
    assert air_brightness(source, source) == pytest.approx(0.005 - 0.6)
    assert air_brightness(source, 1 - source) == pytest.approx(0.995 - 0.4)
    # A few dark voxels are no air, and without tissue there is nothing to compare with.
    assert air_brightness(np.array([0.01] + [0.5] * 20), np.ones(21)) is None
    assert air_brightness(np.zeros(4), np.ones(4)) is None
