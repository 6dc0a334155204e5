"""The references of a translation: the best map of intensities, and the distance of intensities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from medgan.errors import MedganError
from medgan.evaluation.translation import AIR, IntensityMap, intensity_distance


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
