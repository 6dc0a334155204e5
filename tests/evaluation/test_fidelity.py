from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.evaluation.fidelity import kid, median_distance, mmd, mmd_floor, real_floor


def by_double_loop(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The published formula, spelled out."""

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float((sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    across = sum(kernel(a, b) for a in x for b in y) / (n * m)
    return within_x + within_y - 2 * across


def true_discrepancy(mean: float) -> float:
    """Between N(0, 1) and N(mean, 1) on the line: expanding (xy + 1)^3 leaves squared differences of the moments."""
    return 3 * mean**2 + 3 * (mean**2) ** 2 + (mean**3 + 3 * mean) ** 2


def test_by_hand() -> None:
    """Four ones against four zeros, one feature: kernels (1 + 1)^3 = 8 within, 1 within, 1 across."""
    estimate = kid(np.ones((4, 1)), np.zeros((4, 1)))
    assert estimate.value == pytest.approx(8 + 1 - 2)
    assert (estimate.low, estimate.high) == (pytest.approx(7), pytest.approx(7))
    assert "jackknife" in estimate.method


def test_against_a_double_loop() -> None:
    random = np.random.default_rng(3)
    x, y = random.normal(size=(7, 5)), random.normal(0.5, 2, (5, 5))
    assert kid(x, y).value == pytest.approx(by_double_loop(x, y), rel=1e-12)


def test_unbiased_on_equal_distributions() -> None:
    """Small samples of one distribution average to zero; the biased estimate would be large and positive."""
    random = np.random.default_rng(0)
    values = [kid(random.normal(size=(8, 6)), random.normal(size=(6, 6)), subsets=2).value for _ in range(2000)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_value_and_interval_against_the_analytic_distance() -> None:
    """The mean estimate is the true distance, and about 95 % of the intervals hold it."""
    random, mean = np.random.default_rng(1), 0.4
    estimates = [
        kid(random.normal(size=(50, 1)), random.normal(mean, 1, (40, 1)), subsets=100, seed=repeat)
        for repeat in range(300)
    ]
    values = np.array([e.value for e in estimates])
    assert abs(values.mean() - true_discrepancy(mean)) < 3 * values.std() / np.sqrt(len(values))
    covered = np.mean([e.low <= true_discrepancy(mean) <= e.high for e in estimates])
    assert 0.88 < covered < 0.98


def test_subset_size_does_not_change_the_intervals_scale() -> None:
    random = np.random.default_rng(2)
    x, y = random.normal(size=(100, 4)), random.normal(1, 1, (100, 4))
    widths = [e.high - e.low for e in (kid(x, y, subsets=400, subset_size=size) for size in (25, 50, 75))]
    assert max(widths) < 1.3 * min(widths)


def test_seed_decides_the_interval() -> None:
    random = np.random.default_rng(4)
    x, y = random.normal(size=(20, 4)), random.normal(1, 1, (20, 4))
    assert kid(x, y, seed=5) == kid(x, y, seed=5)
    assert kid(x, y, seed=5) != kid(x, y, seed=6)
    assert kid(x, y, seed=5).value == kid(x, y, seed=6).value


def test_floor_holds_a_fresh_sample_but_not_another_distribution() -> None:
    random = np.random.default_rng(5)
    real = random.normal(size=(60, 10))
    floor = real_floor(real)
    assert floor.low < 0 < floor.high
    assert abs(floor.value) < 0.2 * (floor.high - floor.low)
    assert floor.low < kid(real, random.normal(size=(60, 10))).value < floor.high
    assert kid(real, random.normal(1, 1, (60, 10))).value > 3 * floor.high


@pytest.mark.parametrize("size", [1, 6])
def test_impossible_subset_size(size: int) -> None:
    with pytest.raises(MedganError, match=f"subset_size is {size}"):
        kid(np.zeros((6, 2)), np.zeros((8, 2)), subset_size=size)


def test_too_few_scans_or_different_encoders() -> None:
    with pytest.raises(MedganError, match="synthetic set has 3 scans"):
        kid(np.zeros((4, 2)), np.zeros((3, 2)))
    with pytest.raises(MedganError, match="real set has 3 scans"):
        real_floor(np.zeros((3, 2)))
    with pytest.raises(MedganError, match="2 columns"):
        kid(np.zeros((4, 2)), np.zeros((4, 3)))


def test_gaussian_kernel_against_scikit_learn() -> None:
    from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

    random = np.random.default_rng(6)
    x, y = random.normal(size=(9, 5)), random.normal(0.5, 2, (7, 5))
    bandwidth = float(np.median(euclidean_distances(x)[np.triu_indices(9, k=1)]))
    assert median_distance(x) == pytest.approx(bandwidth)

    def of_distinct(kernel: NDArray[np.float64]) -> float:
        return float(kernel[~np.eye(len(kernel), dtype=bool)].mean())

    gamma = 0.5 / bandwidth**2
    expected = of_distinct(rbf_kernel(x, gamma=gamma)) + of_distinct(rbf_kernel(y, gamma=gamma))
    expected -= 2 * rbf_kernel(x, y, gamma=gamma).mean()
    assert mmd(x, y).value == pytest.approx(expected, rel=1e-10)
    assert mmd(x, y).low <= mmd(x, y).value <= mmd(x, y).high


def test_gaussian_discrepancy_of_known_gaussians() -> None:
    """On the line the mean of the kernel over N(0, 1) and N(m, 1) is s / r exp(-m^2 / (2 r^2)) with r^2 = s^2 + 2."""
    random, bandwidth, shift = np.random.default_rng(7), 1.5, 0.8
    width = bandwidth**2 + 2
    expected = 2 * bandwidth / width**0.5 * (1 - np.exp(-(shift**2) / (2 * width)))
    values = [
        mmd(random.normal(size=(40, 1)), random.normal(shift, 1, (30, 1)), bandwidth=bandwidth, subsets=2).value
        for _ in range(400)
    ]
    assert abs(np.mean(values) - expected) < 3 * np.std(values) / 20


def test_gaussian_floor_and_far_sets() -> None:
    random = np.random.default_rng(8)
    real = random.normal(size=(60, 10))
    floor = mmd_floor(real)
    assert floor.low < mmd(real, random.normal(size=(60, 10))).value < floor.high
    assert mmd(real, random.normal(50, 1e-3, (60, 10))).value > 1
    with pytest.raises(MedganError, match="all alike"):
        mmd(np.ones((5, 3)), np.zeros((5, 3)))
