from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medgan.evaluation.spectrum import RadialBands, spectrum_distance

SHAPE, SPACING = (40, 32, 15), (1.0, 1.25, 4.0)


def wave(frequency: tuple[float, float, float]) -> np.ndarray:
    """A plane wave of amplitude one; frequencies in 1/mm along each axis."""
    x, y, z = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SPACING, strict=True)), indexing="ij")
    return np.cos(2 * np.pi * (frequency[0] * x + frequency[1] * y + frequency[2] * z))


@pytest.mark.parametrize("frequency", [(0.3, 0, 0), (0, 0.2, 0), (0, 0, 0.1), (0.1, 0.175, 0.05)])
def test_a_plane_wave_lies_at_its_frequency_in_millimetres(frequency: tuple[float, float, float]) -> None:
    bands = RadialBands(SHAPE, SPACING)
    powers = bands.powers(wave(frequency))
    peak = int(np.argmax(powers))
    assert bands.frequencies[peak] == pytest.approx(np.linalg.norm(frequency), abs=0.5 / 60)
    assert (np.delete(powers, peak) < powers[peak] - 60).all()


def test_white_noise_has_its_variance_everywhere() -> None:
    random = np.random.default_rng(0)
    bands = RadialBands(SHAPE, SPACING)
    powers = np.mean([10 ** (bands.powers(random.normal(3, 0.1, SHAPE)) / 10) for _ in range(200)], axis=0)
    assert powers == pytest.approx(np.full(len(powers), 0.01), rel=0.2)
    assert np.median(powers) == pytest.approx(0.01, rel=0.02)


def test_power_is_conserved() -> None:
    """Parseval: all bands of a volume whose spectrum they hold, weighted by their coefficients, give its variance."""
    random = np.random.default_rng(1)
    bands = RadialBands((16, 16, 16), (2, 2, 2))
    smooth = ndimage.gaussian_filter(random.normal(size=(16, 16, 16)), 2, mode="wrap")
    radii = np.linalg.norm(np.stack(np.meshgrid(*[np.fft.fftfreq(16, 2)] * 3, indexing="ij")), axis=0)
    counts = np.bincount(np.maximum(np.rint(radii * 32), 1)[(radii > 0) & (radii <= 0.25)].astype(int))[1:]
    total = np.sum(10 ** (bands.powers(smooth) / 10) * counts) / smooth.size
    assert total == pytest.approx(smooth.var(), rel=1e-3)


def test_bands_are_physical() -> None:
    fine, coarse = RadialBands((32, 32, 32), (1, 1, 1)), RadialBands((16, 16, 16), (2, 2, 2))
    assert fine.frequencies.max() == pytest.approx(0.5, abs=0.02)
    assert coarse.frequencies.max() == pytest.approx(0.25, abs=0.02)
    assert fine.frequencies[:6] == pytest.approx(coarse.frequencies[:6], rel=0.02)


def test_blur_and_noise_are_told_apart(heads: list[np.ndarray]) -> None:
    bands = RadialBands((20, 24, 22), (2, 2, 2))

    def spectra(scans: list[np.ndarray]) -> np.ndarray:
        return np.stack([bands.powers(scan) for scan in scans])

    random = np.random.default_rng(2)
    real, other = spectra(heads[:10]), spectra(heads[10:20])
    blurred = spectra([ndimage.gaussian_filter(head, 0.5) for head in heads[10:20]])
    noisy = spectra([head + random.normal(0, 0.1, head.shape) for head in heads[10:20]])
    assert spectrum_distance(real, blurred) > 3 * spectrum_distance(real, other)
    assert spectrum_distance(real, noisy) > 3 * spectrum_distance(real, other)
    assert blurred[:, -1].mean() < real[:, -1].mean() < noisy[:, -1].mean()


def test_distance_is_the_mean_difference_in_decibels() -> None:
    assert spectrum_distance(np.array([[0.0, 10], [2, 10]]), np.array([[4.0, 4]])) == pytest.approx((3 + 6) / 2)


def test_an_empty_volume_has_a_spectrum() -> None:
    assert np.isfinite(RadialBands((8, 8, 8), (1, 1, 1)).powers(np.zeros((8, 8, 8)))).all()
