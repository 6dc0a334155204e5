"""Slice thickness from the scan alone: simulated from a real 1 mm scan, real thick slices, and phantoms."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.acquisition import Acquisition, SliceProfile, estimate_fwhm
from medgan.errors import MedganError


@pytest.fixture(scope="module")
def flair(test_data: Path) -> np.ndarray:
    """The brain of a 1 mm FLAIR scan, in quarters of its brightest, whole numbers of 3, 4 and 5 slices."""
    image = nib.load(test_data / "mri_multicontrast_openms_1mm" / "patient07" / "FLAIR.nii.gz")
    voxels = np.asarray(image.dataobj, dtype=np.float32)[16:166, 16:196, 1:181]
    return voxels / np.percentile(voxels, 99.9)


def sliced(
    scan: np.ndarray, axis: int, distance: int, thickness: float, profile: str = "gaussian"
) -> tuple[np.ndarray, list[float]]:
    """Slices `thickness` mm thick every `distance` mm of a 1 mm scan, and their spacing."""
    low, thick, spacing = list(scan.shape), [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]
    low[axis], thick[axis], spacing[axis] = scan.shape[axis] // distance, thickness, float(distance)
    model = Acquisition.between(scan.shape, low, high_spacing=(1, 1, 1), thickness=thick, profile=profile)
    return model.forward(torch.from_numpy(scan)).numpy(), spacing


@pytest.mark.slow
@pytest.mark.parametrize("distance", [3, 4, 5])
@pytest.mark.parametrize("thickness", [2.0, 3.0, 4.0, 5.0])
def test_axial_slices_of_a_real_scan(flair: np.ndarray, distance: int, thickness: float) -> None:
    """Touching and overlapping, and less surely with a gap, which leaves out what would tell."""
    scan, spacing = sliced(flair, 2, distance, thickness)
    assert estimate_fwhm(scan, spacing, 2) == pytest.approx(thickness, abs=0.2 if thickness >= distance else 0.4)


@pytest.mark.slow
@pytest.mark.parametrize(("axis", "direction"), [(0, -1), (1, 1)])
@pytest.mark.parametrize(("distance", "thickness"), [(3, 3.0), (4, 4.0), (5, 5.0)])
def test_sagittal_and_coronal_slices_are_less_sure(
    flair: np.ndarray, axis: int, direction: int, distance: int, thickness: float
) -> None:
    """A head is not alike along all axes: sagittal slices come out too thin, coronal ones too thick."""
    error = estimate_fwhm(*sliced(flair, axis, distance, thickness), axis) - thickness
    assert -0.1 < direction * error < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["rectangular", "shinnar_le_roux"])
def test_the_width_belongs_to_the_shape_assumed(flair: np.ndarray, profile: str) -> None:
    """A rectangle of 4 mm varies as much as a Gaussian of 2.7 mm, and cannot be told from it."""
    scan, spacing = sliced(flair, 2, 4, 4.0, profile)
    assert estimate_fwhm(scan, spacing, 2, profile=profile) == pytest.approx(4, abs=0.35)
    assert estimate_fwhm(scan, spacing, 2) == pytest.approx(4 * np.sqrt(8 * np.log(2) / 12), abs=0.25)


@pytest.mark.slow
def test_noise_that_is_told_does_no_harm(flair: np.ndarray) -> None:
    scan, spacing = sliced(flair, 2, 3, 4.0)
    noisy = scan + np.random.default_rng(0).normal(0, 0.03, scan.shape).astype(np.float32)
    told = estimate_fwhm(noisy, spacing, 2, noise=0.03)
    assert told == pytest.approx(4, abs=0.2)
    assert estimate_fwhm(noisy, spacing, 2) < told - 0.15


@pytest.mark.slow
@pytest.mark.parametrize(("contrast", "thickness"), [("FLAIR", 3.0), ("T1W", 3.0), ("T2W", 3.0)])
def test_real_thick_slices(test_data: Path, contrast: str, thickness: float) -> None:
    """A scanner's own slices, nominally 3 mm thick, every 3 mm (T2W: every 3.3 mm)."""
    image = nib.load(test_data / "mri_thick2d_openms_raw" / "patient12_study1" / f"{contrast}.nii.gz")
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    assert estimate_fwhm(voxels, image.header.get_zooms(), 2) == pytest.approx(thickness, abs=0.3)


@pytest.fixture(scope="module")
def noise_object() -> np.ndarray:
    """Isotropic random texture with a falling spectrum, 60 x 72 x 96 voxels, periodic."""
    shape = (60, 72, 96)
    frequencies = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(f**2 for f in frequencies))
    white = np.fft.fftn(np.random.default_rng(1).standard_normal(shape))
    return np.fft.ifftn(white / (0.03 + radius) ** 2).real.astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("distance", "thickness"), [(3, 3.0), (4, 2.5), (3, 5.0)])
def test_isotropic_texture_and_its_unit(noise_object: np.ndarray, axis: int, distance: int, thickness: float) -> None:
    scan, spacing = sliced(noise_object, axis, distance, thickness)
    estimate = estimate_fwhm(scan, spacing, axis)
    assert estimate == pytest.approx(thickness, abs=0.25)
    in_other_units = estimate_fwhm(500 - 20 * scan, [2 * value for value in spacing], axis)
    assert in_other_units == pytest.approx(2 * estimate, abs=0.02)
    assert estimate_fwhm(np.flip(scan, axis), spacing, axis) == pytest.approx(estimate, abs=0.01)


def test_a_scan_that_was_not_blurred_has_thin_slices(noise_object: np.ndarray) -> None:
    assert estimate_fwhm(noise_object, (1, 1, 1), 2) == pytest.approx(1, abs=0.5)
    assert estimate_fwhm(noise_object[:, :, 1::4], (1, 1, 4), 2) < 1.5


def test_a_measured_shape_can_be_assumed(noise_object: np.ndarray) -> None:
    tent = SliceProfile((1.0,), 1.0)
    scan, spacing = sliced(noise_object, 2, 4, 4.0)
    widths = [estimate_fwhm(scan, spacing, 2, profile="measured", measured=tent), estimate_fwhm(scan, spacing, 2)]
    # Equal variances: a triangle's is a sixth of its squared half-width.
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(6 / (8 * np.log(2))), rel=0.05)


@pytest.mark.parametrize(
    ("voxels", "spacing", "axis", "words"),
    [
        (np.ones((20, 20, 10)), (1, 1, 3), 2, "all alike"),
        (np.full((20, 20, 10), np.nan), (1, 1, 3), 2, "not finite"),
        (np.random.default_rng(0).random((40, 40, 5)), (1, 1, 3), 2, "too few"),
        (np.random.default_rng(0).random((10, 10, 20)), (1, 1, 3), 2, "too few"),
        (np.random.default_rng(0).random((40, 40, 20)), (1, 1, 3), 0, "coarsest"),
        (np.random.default_rng(0).random((40, 40, 20)), (1, 0, 3), 2, "spacing"),
        (np.random.default_rng(0).random((40, 40)), (1, 1, 3), 2, "X, Y, Z"),
        (np.random.default_rng(0).random((40, 40, 20)), (1, 1, 3), 3, "axis 3"),
    ],
)
def test_what_cannot_be_estimated_is_refused(voxels: np.ndarray, spacing: tuple, axis: int, words: str) -> None:
    with pytest.raises(MedganError, match=words):
        estimate_fwhm(voxels, spacing, axis)
