"""Spectral energy and resolution against closed forms: sinusoids, and noise blurred by Gaussians of known width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation.resolution import (
    band_energies,
    effective_resolution,
    estimated_resolution,
    residual_blur,
    spectral_ratio,
)

PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


def texture(shape: tuple[int, int, int] = (48, 52, 56), smooth: float = 1.0) -> np.ndarray:
    """Random texture of one correlation length, far from zero."""
    noise = np.random.default_rng(0).standard_normal(shape)
    return 5 + ndimage.gaussian_filter(noise, smooth, mode="reflect") / smooth**-1.5


def blurred(voxels: np.ndarray, fwhm: tuple[float, float, float]) -> np.ndarray:
    """scipy's Gaussian, half-sample reflection, in voxels."""
    return ndimage.gaussian_filter(voxels, np.array(fwhm) / PER_SIGMA, mode="reflect", truncate=8)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_energy_of_a_sinusoid_is_counted_in_its_band_alone(axis: int) -> None:
    wave = np.sin(2 * np.pi * 0.3 * np.arange(60)).reshape([60 if other == axis else 1 for other in range(3)])
    reference = np.broadcast_to(wave, [60 if other == axis else 40 for other in range(3)])
    assert spectral_ratio(reference, 0.5 * reference, band=(0.2, 0.4))[axis] == pytest.approx(0.25, rel=1e-4)
    # A ramp from border to border is no detail.
    ramp = np.linspace(0, 3, 60).reshape(wave.shape)
    assert spectral_ratio(reference, reference + ramp)[axis] == pytest.approx(1.0, abs=0.01)
    energies = [band_energies(reference, band=band)[axis] for band in ((0.05, 0.25), (0.35, 0.5), (0.25, 0.35))]
    assert max(energies[:2]) < 1e-6 * energies[2]
    # Along the other axes nothing varies.
    assert all(np.isnan(ratio) for other, ratio in enumerate(spectral_ratio(reference, reference)) if other != axis)


def test_energy_follows_the_response_of_a_blur() -> None:
    reference = np.random.default_rng(1).standard_normal((64, 64, 64))
    ratios = spectral_ratio(reference, blurred(reference, (0, 0, 2)), band=(0.2, 0.4))
    frequency = np.arange(13, 26) / 64
    expected = np.exp(-4 * np.pi**2 * (2 / PER_SIGMA) ** 2 * frequency**2).mean()
    assert ratios[2] == pytest.approx(expected, rel=0.05)


def test_a_mask_leaves_out_what_lies_outside() -> None:
    reference = np.random.default_rng(2).standard_normal((40, 40, 40))
    mask = np.zeros(reference.shape, dtype=bool)
    mask[10:30, 8:32, 9:33] = True
    spoiled = np.where(mask, reference, 100 * reference)
    assert spectral_ratio(reference, spoiled, mask=mask) == pytest.approx((1, 1, 1), rel=1e-6)
    assert min(spectral_ratio(reference, spoiled)) > 100


def test_blur_of_known_width_is_found_along_each_axis() -> None:
    reference = texture()
    fwhm = (0.0, 2.0, 4.0)
    assert residual_blur(reference, blurred(reference, fwhm), spacing=(1, 1, 1)) == pytest.approx(fwhm, abs=0.02)
    assert residual_blur(reference, blurred(reference, fwhm), spacing=(1, 0.5, 2)) == pytest.approx((0, 1, 8), abs=0.04)
    resolution = effective_resolution(reference, blurred(reference, fwhm), spacing=(1, 0.5, 2))
    assert resolution == pytest.approx((1, np.hypot(1, 0.5), np.hypot(8, 2)), abs=0.04)
    assert effective_resolution(reference, reference, spacing=(1, 0.5, 2)) == pytest.approx((1, 0.5, 2), abs=1e-3)


def test_noise_is_no_sharpness() -> None:
    reference = texture()
    noise = 0.3 * reference.std() * np.random.default_rng(3).standard_normal(reference.shape)
    found = residual_blur(reference, blurred(reference, (3, 0, 0)) + noise, spacing=(1, 1, 1))
    assert found == pytest.approx((3, 0, 0), abs=0.25)
    assert residual_blur(reference, reference + noise, spacing=(1, 1, 1)) == pytest.approx((0, 0, 0), abs=0.25)


def test_resolution_of_constant_and_sharpened_scans() -> None:
    reference = texture((24, 24, 24))
    assert residual_blur(blurred(reference, (2, 2, 2)), reference, spacing=(1, 1, 1)) == (0, 0, 0)
    flat = np.full((16, 16, 16), 3.0)
    assert residual_blur(flat, flat, spacing=(1, 1, 1)) == (0, 0, 0)
    assert estimated_resolution(flat, spacing=(1, 1, 3)) == pytest.approx((1, 1, 3))


@pytest.mark.parametrize("thickness", [2.0, 3.0, 4.0])
def test_estimate_without_reference_finds_the_thick_axis(thickness: float) -> None:
    # The spectrum of anatomy, falling with the square of frequency, and the same in all directions.
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n) for n in (96, 96, 96)), indexing="ij")))
    random = np.random.default_rng(4).standard_normal((96, 96, 96))
    anatomy = np.fft.ifftn(np.fft.fftn(random) / np.maximum(frequency, 0.02) ** 2).real
    thick = blurred(anatomy, (0, 0, np.sqrt(thickness**2 - 1)))
    found = estimated_resolution(thick, spacing=(1, 1, 1))
    assert found[:2] == pytest.approx((1, 1), abs=0.35)
    assert found[2] == pytest.approx(thickness, rel=0.15)
    # The scan's own grid resolves no less than its spacing.
    assert estimated_resolution(thick[:, :, ::4], spacing=(1, 1, 4))[2] >= 4


@pytest.mark.data
@pytest.mark.slow
def test_estimate_on_a_real_scan(test_data: Path) -> None:
    import nibabel as nib

    path = test_data / "mri_multicontrast_openms_1mm" / "patient07" / "FLAIR.nii.gz"
    scan = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj, dtype=np.float32)
    assert estimated_resolution(scan, spacing=(1, 1, 1)) == pytest.approx((1, 1, 1), abs=0.02)
    thick = blurred(scan, (0, 0, np.sqrt(3**2 - 1)))
    assert estimated_resolution(thick, spacing=(1, 1, 1)) == pytest.approx((1, 1, 3), rel=0.15)


def test_what_makes_no_sense_is_refused() -> None:
    reference = texture((12, 12, 12))
    with pytest.raises(MedganError, match="cycles per voxel"):
        spectral_ratio(reference, reference, band=(0.4, 0.2))
    with pytest.raises(MedganError, match="one shape"):
        residual_blur(reference, reference[:-1], spacing=(1, 1, 1))
    with pytest.raises(MedganError, match="spacing"):
        estimated_resolution(reference, spacing=(1, 0, 1))
