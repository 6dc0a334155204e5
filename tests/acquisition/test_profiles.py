"""One axis: weights against numerical integration, transfer functions and moments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dct, idct
from scipy.integrate import quad

from medgan.acquisition.profiles import (
    band_limit_matrix,
    effective_fwhm,
    low_centres,
    profile_matrix,
    reflected,
)

GRIDS = [(20, 40), (17, 51), (15, 60), (24, 60), (41, 101), (7, 8), (9, 9), (1, 5), (3, 40)]
FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))


@pytest.mark.parametrize(("low", "high"), GRIDS)
@pytest.mark.parametrize("fwhm", [0.0, 0.3, 1.1, 3.5, 30.0])
def test_rows_are_averages(low: int, high: int, fwhm: float) -> None:
    matrix = profile_matrix(low, high, fwhm=fwhm)
    assert matrix.shape == (low, high)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-12)


@pytest.mark.parametrize(("low", "high", "fwhm"), [(60, 240, 3.9), (80, 120, 1.1), (41, 101, 2.2), (50, 100, 0.0)])
def test_ramps_are_kept_away_from_the_borders(low: int, high: int, fwhm: float) -> None:
    sampled = profile_matrix(low, high, fwhm=fwhm) @ np.arange(high)
    middle = slice(low // 3, 2 * low // 3)
    np.testing.assert_allclose(sampled[middle], low_centres(low, high)[middle], atol=1e-10)


@pytest.mark.parametrize(("low", "high", "fwhm"), [(15, 60, 3.87), (24, 60, 2.29), (17, 51, 2.83)])
def test_weights_equal_direct_integration(low: int, high: int, fwhm: float) -> None:
    """The profile, integrated by quadrature over the scan drawn linearly between voxel centres, borders reflected."""
    scan = np.random.default_rng(0).random(high)
    row = low // 2
    centre = (row + 0.5) * high / low - 0.5
    # At these widths the interpolation's own variance is 1/6 at every position.
    sigma = np.sqrt((fwhm / FWHM_PER_SIGMA) ** 2 - 1 / 6)

    def integrand(u: float) -> float:
        j = int(np.floor(u))
        pair = scan[reflected(np.array([j, j + 1]), high)]
        value = pair[0] + (u - j) * (pair[1] - pair[0])
        return value * np.exp(-0.5 * ((u - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))

    first, last = int(np.floor(centre - 8 * sigma)), int(np.ceil(centre + 8 * sigma))
    integral = sum(quad(integrand, j, j + 1, epsabs=1e-12)[0] for j in range(first, last))
    # The variance of 1/6 is exact up to its first harmonic, exp(-2 pi^2 sigma^2).
    assert (profile_matrix(low, high, fwhm=fwhm) @ scan)[row] == pytest.approx(integral, abs=2e-6)


@pytest.mark.parametrize(("low", "high", "fwhm"), [(60, 240, 3.87), (80, 120, 1.118), (100, 300, 1.0), (90, 90, 0.7)])
def test_variance_is_the_one_asked_for(low: int, high: int, fwhm: float) -> None:
    matrix = profile_matrix(low, high, fwhm=fwhm)
    offsets = np.arange(high) - low_centres(low, high)[:, None]
    variance = (matrix * offsets**2).sum(axis=1)[low // 3 : 2 * low // 3]
    np.testing.assert_allclose(variance, (fwhm / FWHM_PER_SIGMA) ** 2, rtol=1e-6)


@pytest.mark.parametrize("factor", [2, 2.5, 3, 4])
def test_thick_slices_of_voxels_are_thick_slices_of_the_object(factor: float) -> None:
    """Sampling waves first with 1 mm and then with the matrix gives what slices of the full thickness see directly."""
    high = 200
    low = round(high / factor)
    matrix = profile_matrix(low, high, fwhm=effective_fwhm(factor, 1.0))
    middle = slice(low // 3, 2 * low // 3)
    for frequency in (0.02, 0.05, 0.1):

        def seen(fwhm: float, positions: np.ndarray, frequency: float = frequency) -> np.ndarray:
            damping = np.exp(-2 * (np.pi * frequency * fwhm / FWHM_PER_SIGMA) ** 2)
            return damping * np.cos(2 * np.pi * frequency * positions + 0.7)

        voxels, slices = seen(1.0, np.arange(high)), seen(factor, low_centres(low, high))
        np.testing.assert_allclose((matrix @ voxels)[middle], slices[middle], atol=3e-4)


def test_slices_no_thicker_than_a_voxel_add_no_blur() -> None:
    assert effective_fwhm(1.0, 1.0) == 0
    assert effective_fwhm(0.5, 1.0) == 0
    assert effective_fwhm(5.0, 3.0) == pytest.approx(4 / 3)
    np.testing.assert_array_equal(profile_matrix(12, 12, fwhm=0), np.eye(12))


@pytest.mark.parametrize(("low", "high"), GRIDS)
def test_band_limit_is_a_truncated_cosine_series(low: int, high: int) -> None:
    scan = np.random.default_rng(1).random(high)
    expected = idct(dct(scan, norm="ortho")[:low], norm="ortho") * np.sqrt(low / high)
    np.testing.assert_allclose(band_limit_matrix(low, high) @ scan, expected, atol=1e-12)


@pytest.mark.parametrize("taper", [0.0, 0.3, 1.0])
def test_band_limit_keeps_constants_and_symmetry(taper: float) -> None:
    matrix = band_limit_matrix(41, 101, taper=taper)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-12)


def test_taper_attenuates_only_the_upper_band() -> None:
    high, low, position = 64, 32, np.arange(64) + 0.5
    matrix = band_limit_matrix(low, high, taper=0.25)
    for mode, gain in ((10, 1.0), (24, 1.0), (28, 0.5)):
        expected = gain * np.cos(np.pi * mode * (np.arange(low) + 0.5) / low)
        np.testing.assert_allclose(matrix @ np.cos(np.pi * mode * position / high), expected, atol=1e-12)


def test_reflection_is_half_sample() -> None:
    np.testing.assert_array_equal(reflected(np.arange(-7, 10), 3), np.pad(np.arange(3), 7, mode="symmetric"))
