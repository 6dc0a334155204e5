from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from medgan.evaluation.fidelity import Features
from medgan.evaluation.frechet import frechet, frechet_distance, frechet_floor, rank_warning
from medgan.evaluation.halvings import halvings

RNG = np.random.default_rng(0)


def by_matrix_root(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The published formula, with scipy's root."""
    a, b = np.cov(x.T), np.cov(y.T)
    apart = x.mean(0) - y.mean(0)
    return float(apart @ apart + np.trace(a + b - 2 * np.real(sqrtm(a @ b))))


def correlated(count: int, columns: int) -> NDArray[np.float64]:
    return RNG.normal(size=(count, columns)) @ RNG.normal(size=(columns, columns)) + RNG.normal(size=columns)


def test_against_the_root_of_scipy() -> None:
    x, y = correlated(60, 6), correlated(200, 6)
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-9)


def test_against_fifty_digits() -> None:
    """The eigenvalues of the product of nearly singular covariances, without rounding."""
    import mpmath

    x, y = correlated(40, 4) * [1, 1e-3, 1e-5, 1e-7], correlated(30, 4) * [1e-7, 1, 1e-3, 1e-5]
    with mpmath.workdps(50):
        centred = [mpmath.matrix((s - s.mean(0)).tolist()) for s in (x, y)]
        a, b = (c.T * c / (c.rows - 1) for c in centred)
        roots = [mpmath.sqrt(mpmath.re(value)) for value in mpmath.eig(a * b, left=False, right=False)]
        trace = sum(a[i, i] + b[i, i] for i in range(4)) - 2 * sum(roots)
        expected = float(trace + sum(mpmath.mpf(float(d)) ** 2 for d in x.mean(0) - y.mean(0)))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_fewer_scans_than_features_lose_nothing() -> None:
    """In a larger space the distance is that of the space in which the scans lie."""
    x, y = correlated(20, 5), correlated(15, 5)
    basis = np.linalg.qr(RNG.normal(size=(300, 5)))[0].T
    assert frechet_distance(x @ basis, y @ basis) == pytest.approx(by_matrix_root(x, y), rel=1e-9)


def test_zero_to_itself_and_squared_shift() -> None:
    x = correlated(10, 30)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9 * np.sum(x**2))
    assert frechet_distance(x, x + 0.5) == pytest.approx(30 * 0.25, rel=1e-9)


def test_many_scans_of_known_gaussians() -> None:
    """Independent columns: squared differences of means and of standard deviations."""
    means, deviations = np.array([1.0, 0, -2]), np.array([1.0, 3, 0.5])
    x, y = RNG.normal(size=(100_000, 3)), means + RNG.normal(size=(100_000, 3)) * deviations
    assert frechet_distance(x, y) == pytest.approx(np.sum(means**2) + np.sum((deviations - 1) ** 2), rel=0.02)


def test_extrapolation_takes_the_bias_away() -> None:
    """Two Gaussians of one shape a unit apart: 80 scans give far too much, the straight line about one."""
    found = [frechet(RNG.normal(size=(80, 10)), RNG.normal(size=(80, 10)) + 10**-0.5, seed=s) for s in range(16)]
    values = np.array([one.value for one in found])
    limits = np.array([one.extrapolated.value for one in found if one.extrapolated is not None])
    assert values.mean() > 1.5
    assert abs(limits.mean() - 1) < 0.2 * (values.mean() - 1) + 3 * limits.std() / 4
    held = np.mean([one.extrapolated.low <= 1 <= one.extrapolated.high for one in found if one.extrapolated])
    assert held > 0.7


def test_intervals_hold_their_values() -> None:
    found = frechet(correlated(40, 6), correlated(40, 6))
    assert found.low <= found.value <= found.high
    assert found.extrapolated is not None
    assert found.extrapolated.low <= found.extrapolated.value <= found.extrapolated.high
    assert found.extrapolated.value < found.value
    assert found.warning is None


def test_few_scans_are_warned_of() -> None:
    found = frechet(correlated(12, 20), correlated(30, 20))
    assert found.extrapolated is None
    assert found.warning is not None
    assert "12 scans" in found.warning
    assert "20 features" in found.warning
    assert "cannot determine" in str(rank_warning(20, 20))
    assert "fewer than twice" in str(rank_warning(21, 20))
    assert rank_warning(40, 20) is None


def test_twice_as_many_scans_as_features_are_enough_to_extrapolate() -> None:
    """Equal Gaussians, whose distance is zero: that is what the warning rests on."""

    def left(count: int) -> float:
        """The extrapolated part of the distance."""
        found = [frechet(RNG.normal(size=(count, 20)), RNG.normal(size=(count, 20))) for _ in range(5)]
        return sum(f.extrapolated.value for f in found if f.extrapolated) / sum(f.value for f in found)

    assert abs(left(40)) < 0.15
    assert left(20) > 0.2


def test_floor_and_what_compares_with_it_have_one_size() -> None:
    def drawn(count: int, shift: float = 0.0) -> Features:
        return RNG.normal(shift, 1, (count, 10))

    real = drawn(60)
    floor, same = frechet_floor(real, drawn(90), halvings(60, 90))
    _, other = frechet_floor(real, drawn(90, 2.0), halvings(60, 90))
    assert floor.scans == (30, 30)
    assert same.value == pytest.approx(floor.value, rel=0.3)
    assert other.low > 2 * floor.high
