"""One axis: weights against numerical integration, transfer functions and moments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dct, idct
from scipy.integrate import quad

from medgan.acquisition import SliceProfile
from medgan.acquisition.profiles import (
    band_limit_matrix,
    effective_fwhm,
    low_centres,
    profile_matrix,
    reflected,
)
from medgan.acquisition.pulse import excited_profile

GRIDS = [(20, 40), (17, 51), (15, 60), (24, 60), (41, 101), (7, 8), (9, 9), (1, 5), (3, 40)]
FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))
SLICES = ("gaussian", "rectangular", "shinnar_le_roux", "measured")
SHAPES = SLICES[:3]
TENT = SliceProfile((0.0, 1.0, 2.0, 1.0, 0.0), 0.5)
# The slice of a Shinnar-Le Roux pulse by its own table, with the moments and the spectrum that follow from it.
EXCITED, STEP = excited_profile()
WHERE = (np.arange(len(EXCITED)) - len(EXCITED) // 2) * STEP
VARIANCE = {
    "gaussian": 1 / FWHM_PER_SIGMA**2,
    "rectangular": 1 / 12,
    "shinnar_le_roux": (EXCITED * WHERE**2).sum() / EXCITED.sum() + STEP**2 / 6,
    "measured": 1 / 6,
}


def transfer(profile: str, frequency: float) -> float:
    """What is left of a wave, in cycles per full width at half maximum."""
    if profile == "gaussian":
        return float(np.exp(-2 * (np.pi * frequency / FWHM_PER_SIGMA) ** 2))
    if profile == "rectangular":
        return float(np.sinc(frequency))
    return float((EXCITED * np.cos(2 * np.pi * frequency * WHERE)).sum() / EXCITED.sum())


@pytest.mark.parametrize(("low", "high"), GRIDS)
@pytest.mark.parametrize("fwhm", [0.0, 0.3, 1.1, 3.5, 30.0])
@pytest.mark.parametrize("profile", SLICES)
def test_rows_are_averages(low: int, high: int, fwhm: float, profile: str) -> None:
    matrix = profile_matrix(low, high, fwhm=fwhm, profile=profile, measured=TENT)
    assert matrix.shape == (low, high)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-12)


@pytest.mark.parametrize(("low", "high", "fwhm"), [(60, 240, 3.9), (80, 120, 1.1), (41, 101, 2.2), (50, 100, 0.0)])
@pytest.mark.parametrize("profile", SLICES)
def test_ramps_are_kept_away_from_the_borders(low: int, high: int, fwhm: float, profile: str) -> None:
    sampled = profile_matrix(low, high, fwhm=fwhm, profile=profile, measured=TENT) @ np.arange(high)
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


@pytest.mark.parametrize(
    ("low", "high", "fwhm"), [(60, 240, 3.87), (80, 120, 1.118), (100, 300, 1.0), (90, 90, 0.7), (41, 101, 2.9)]
)
@pytest.mark.parametrize("profile", SLICES)
def test_variance_is_the_one_asked_for(low: int, high: int, fwhm: float, profile: str) -> None:
    """Or that of linear interpolation, in rows where nothing narrower keeps ramps."""
    matrix = profile_matrix(low, high, fwhm=fwhm, profile=profile, measured=TENT)
    offsets = np.arange(high) - low_centres(low, high)[:, None]
    variance = (matrix * offsets**2).sum(axis=1)[low // 3 : 2 * low // 3]
    fraction = low_centres(low, high)[low // 3 : 2 * low // 3] % 1
    expected = np.maximum(VARIANCE[profile] * fwhm**2, fraction * (1 - fraction))
    np.testing.assert_allclose(variance, expected, rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 2.5, 3, 4])
@pytest.mark.parametrize("profile", SHAPES)
def test_thick_slices_of_voxels_are_thick_slices_of_the_object(factor: float, profile: str) -> None:
    """Sampling waves first with 1 mm and then with the matrix gives what slices of the full thickness see directly."""
    high = 240
    low = round(high / factor)
    matrix = profile_matrix(low, high, fwhm=effective_fwhm(factor, 1.0), profile=profile)
    middle = slice(low // 3, 2 * low // 3)
    whole = profile == "rectangular" and factor == int(factor)
    tolerance = 1e-12 if whole else 3e-4 if profile == "gaussian" else 4e-3
    for frequency in (0.02, 0.05, 0.1):

        def seen(fwhm: float, positions: np.ndarray, frequency: float = frequency) -> np.ndarray:
            return transfer(profile, frequency * fwhm) * np.cos(2 * np.pi * frequency * positions + 0.7)

        voxels, slices = seen(1.0, np.arange(high)), seen(factor, low_centres(low, high))
        np.testing.assert_allclose((matrix @ voxels)[middle], slices[middle], atol=tolerance)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7])
def test_rectangular_slices_that_touch_are_plain_means(factor: int) -> None:
    matrix = profile_matrix(5, 5 * factor, fwhm=effective_fwhm(factor, 1.0), profile="rectangular")
    np.testing.assert_allclose(matrix, np.kron(np.eye(5), np.full(factor, 1 / factor)), atol=1e-12)


def test_rectangular_slices_with_a_gap_leave_out_what_lies_between() -> None:
    """Slices of 2 mm every 4 mm see the two voxels in the middle of each four."""
    matrix = profile_matrix(5, 20, fwhm=effective_fwhm(2.0, 1.0), profile="rectangular")
    np.testing.assert_allclose(matrix, np.kron(np.eye(5), [0, 0.5, 0.5, 0]), atol=1e-12)


def test_rectangular_slices_that_overlap_share_voxels() -> None:
    """Slices of 4 mm every 2 mm; the outer ones see the reflected voxel twice."""
    matrix = profile_matrix(3, 6, fwhm=effective_fwhm(4.0, 1.0), profile="rectangular")
    expected = np.array([[2, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 0, 1, 1, 2]]) / 4
    np.testing.assert_allclose(matrix, expected, atol=1e-12)


def test_a_narrow_rectangle_grows_into_a_wide_one_without_a_jump() -> None:
    widths = np.linspace(1.0, 6.0, 401)
    rows = np.stack([profile_matrix(7, 43, fwhm=effective_fwhm(width, 1.0), profile="rectangular") for width in widths])
    assert np.abs(np.diff(rows, axis=0)).max() < 0.03


@pytest.mark.parametrize("profile", SHAPES)
@pytest.mark.parametrize(("spacing", "thickness"), [(4, 2), (4, 3), (5, 2.5), (4, 4), (4, 6)])
def test_what_slices_with_a_gap_miss_appears_as_something_slower(profile: str, spacing: int, thickness: float) -> None:
    """A wave faster than the slices follow one another comes back as its alias, as strong as the profile lets it be."""
    low, frequency = 60, 0.75 / spacing
    high = low * spacing
    voxels = transfer(profile, frequency) * np.sin(2 * np.pi * frequency * np.arange(high) + 0.4)
    measured = profile_matrix(low, high, fwhm=effective_fwhm(thickness, 1.0), profile=profile) @ voxels
    # 0.75 cycles for each slice look like 0.25 cycles backwards.
    centres = low_centres(low, high)
    phase = 0.4 + 2 * np.pi / spacing * centres[0]
    alias = np.sin(2 * np.pi * (frequency - 1 / spacing) * centres + phase) * transfer(profile, frequency * thickness)
    middle = slice(low // 3, 2 * low // 3)
    np.testing.assert_allclose(measured[middle], alias[middle], atol=0.06)
    spectrum = np.abs(np.fft.rfft(measured[middle]))
    assert spectrum.argmax() == 5
    strength = 2 * spectrum[5] / 20
    assert strength == pytest.approx(abs(transfer(profile, frequency * thickness)), abs=0.06)


def test_slices_no_thicker_than_a_voxel_add_no_blur() -> None:
    assert effective_fwhm(1.0, 1.0) == 0
    assert effective_fwhm(0.5, 1.0) == 0
    assert effective_fwhm(5.0, 3.0) == pytest.approx(4 / 3)
    for profile in SLICES:
        np.testing.assert_allclose(
            profile_matrix(12, 12, fwhm=0, profile=profile, measured=TENT), np.eye(12), rtol=0, atol=1e-12
        )
        # Between two voxels it is linear interpolation.
        np.testing.assert_allclose(
            profile_matrix(3, 6, fwhm=0, profile=profile, measured=TENT), np.kron(np.eye(3), [0.5, 0.5]), atol=1e-12
        )


@pytest.mark.parametrize(("low", "high"), GRIDS)
def test_band_limit_is_a_truncated_cosine_series(low: int, high: int) -> None:
    scan = np.random.default_rng(1).random(high)
    expected = idct(dct(scan, norm="ortho")[:low], norm="ortho") * np.sqrt(low / high)
    np.testing.assert_allclose(band_limit_matrix(low, high) @ scan, expected, atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(20, 40), (41, 101), (24, 60), (8, 9), (9, 9)])
def test_band_limit_is_a_symmetric_crop_of_k_space(low: int, high: int) -> None:
    """By a complex Fourier transform of the even extension: symmetric crop, scaled to keep values, real by symmetry."""
    scan = np.random.default_rng(2).random(high)
    extended = np.concatenate([scan, scan[::-1]])
    k = np.arange(-(low - 1), low)
    positions = np.arange(2 * high) + 0.5
    k_space = np.fft.fft(extended)[k] * np.exp(-2j * np.pi * k * 0.5 / (2 * high)) / (2 * high)
    np.testing.assert_allclose(
        k_space, np.exp(-2j * np.pi * k[:, None] * positions / (2 * high)) @ extended / (2 * high), atol=1e-12
    )
    np.testing.assert_allclose(k_space, k_space[::-1].conj(), atol=1e-12)
    spectrum = np.zeros(2 * low, complex)
    spectrum[k] = k_space * np.exp(2j * np.pi * k * 0.5 / (2 * low))
    image = np.fft.ifft(spectrum) * 2 * low
    np.testing.assert_allclose(image.imag, 0, atol=1e-12)
    np.testing.assert_allclose(image.real[:low], image.real[: low - 1 : -1], atol=1e-12)
    np.testing.assert_allclose(band_limit_matrix(low, high) @ scan, image.real[:low], atol=1e-12)


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
