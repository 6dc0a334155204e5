"""Restoration figures against closed forms, another library and known shifts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation.restoration import (
    compare_with_interpolation,
    evaluate_restoration,
    foreground_mask,
    hfen,
    otsu_threshold,
    psnr,
    ssim,
    ssim_map,
    subvoxel_shift,
)
from medgan.geometry import default_affine, resampled_affine
from medgan.volume import Volume


def blobs(shape: tuple[int, int, int] = (40, 36, 32), shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """A smooth object in air, analytically shifted."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).astype(float) - np.array(shift)
    voxels = np.zeros(shape)
    for centre, width, height in (((20, 18, 16), 6.0, 100), ((14, 15, 18), 3.0, -40), ((25, 22, 12), 2.5, 60)):
        voxels += height * np.exp(-0.5 * ((grid - centre) ** 2).sum(-1) / width**2)
    return voxels


def volume(voxels: np.ndarray, spacing: float = 1.0) -> Volume:
    return Volume(voxels.astype(np.float32), default_affine(voxels.shape, (spacing,) * 3))


def test_psnr_of_a_known_error() -> None:
    reference = np.zeros((4, 4, 4))
    restored = reference.copy()
    restored[0] = 0.2
    assert psnr(reference, restored, data_range=1.0) == pytest.approx(10 * np.log10(1 / (0.04 / 4)))
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[0] = True
    assert psnr(reference, restored, data_range=2.0, mask=mask) == pytest.approx(10 * np.log10(4 / 0.04))
    assert psnr(reference, reference, data_range=1.0) == np.inf


def test_ssim_equals_monai_in_the_interior() -> None:
    import torch
    from monai.metrics.regression import compute_ssim_and_cs

    rng = np.random.default_rng(0)
    first = rng.random((24, 22, 20))
    second = first + 0.3 * rng.random(first.shape)
    theirs, _ = compute_ssim_and_cs(
        torch.from_numpy(first)[None, None],
        torch.from_numpy(second)[None, None],
        spatial_dims=3,
        kernel_size=(11, 11, 11),
        kernel_sigma=(1.5, 1.5, 1.5),
        data_range=0.7,
    )
    ours = ssim_map(first, second, data_range=0.7)[5:-5, 5:-5, 5:-5]
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=5e-5)  # float32 there


def test_ssim_in_a_mask_is_the_mean_of_the_map() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((20, 20, 20)), rng.random((20, 20, 20))
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[8:11, 2:5, 16:] = True
    expected = ssim_map(first, second, data_range=1.0)[mask].mean()
    assert ssim(first, second, data_range=1.0, mask=mask) == pytest.approx(expected, abs=1e-12)
    assert ssim(first, first, data_range=1.0) == pytest.approx(1.0)


def test_hfen_ignores_what_is_smooth() -> None:
    reference = np.random.default_rng(2).random((20, 20, 20))
    assert hfen(reference, reference + 5.0) == pytest.approx(0, abs=1e-9)
    assert hfen(reference, np.zeros_like(reference)) == pytest.approx(1.0)


def test_foreground_is_the_object_with_its_holes_and_one_voxel_more() -> None:
    rng = np.random.default_rng(3)
    scan = np.abs(rng.normal(0, 2, (40, 40, 40)))
    scan[10:30, 12:28, 10:30] += 100
    scan[18:22, 18:22, 18:22] = 0
    scan[2, 2, 2] = 100
    expected = np.zeros(scan.shape, dtype=bool)
    expected[10:30, 12:28, 10:30] = True
    np.testing.assert_array_equal(foreground_mask(scan, dilation=0), expected)
    np.testing.assert_array_equal(foreground_mask(scan), ndimage.binary_dilation(expected))


def test_foreground_of_a_scan_without_contrast_is_all() -> None:
    assert foreground_mask(np.full((4, 5, 6), 3.0)).all()


def test_foreground_of_a_single_spark_in_the_dark() -> None:
    scan = np.zeros((20, 20, 20))
    scan[10, 10, 10] = 1
    assert foreground_mask(scan).sum() == 7


def test_otsu_minimises_the_variance_within_classes() -> None:
    rng = np.random.default_rng(4)
    voxels = np.concatenate([rng.normal(10, 3, 6000), rng.normal(50, 8, 3000)])

    def within(threshold: float) -> float:
        low, high = voxels[voxels <= threshold], voxels[voxels > threshold]
        return low.size * low.var() + high.size * high.var()

    best = min(within(t) for t in np.linspace(5, 60, 400))
    threshold = otsu_threshold(voxels)
    assert threshold is not None
    assert within(threshold) <= 1.002 * best


@pytest.mark.parametrize("shift", [(0, 0, 0), (0.3, -0.15, 0.05), (-1.4, 0.5, 0.75)])
def test_known_subvoxel_shifts_are_found(shift: tuple[float, float, float]) -> None:
    moved = blobs(shift=shift)
    np.testing.assert_allclose(subvoxel_shift(blobs(), moved), shift, atol=0.01)


def test_blur_contrast_and_noise_do_not_look_like_a_shift() -> None:
    changed = 1.1 * ndimage.gaussian_filter(blobs(), (0, 0, 2.0)) + 3
    np.testing.assert_allclose(subvoxel_shift(blobs(), changed), (0, 0, 0), atol=0.02)
    moved = ndimage.gaussian_filter(blobs(shift=(0, 0, 0.4)), (0, 0, 2.0))
    moved = moved + np.random.default_rng(5).normal(0, 1, moved.shape)
    np.testing.assert_allclose(subvoxel_shift(blobs(), moved), (0, 0, 0.4), atol=0.05)


def test_thin_and_flat_scans_have_no_shift_to_speak_of() -> None:
    assert subvoxel_shift(np.ones((20, 20, 20)), np.ones((20, 20, 20))) == (0, 0, 0)
    assert subvoxel_shift(np.random.default_rng(6).random((20, 20, 1)), np.zeros((20, 20, 1)))[2] == 0


def test_figures_of_a_perfect_restoration() -> None:
    figures = evaluate_restoration(volume(blobs()), volume(blobs()))
    assert figures.psnr_db == np.inf
    assert figures.ssim == pytest.approx(1)
    assert figures.nrmse == figures.hfen == 0
    assert figures.shift == pytest.approx((0, 0, 0), abs=1e-6)
    written = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert written["psnr_db"] is None
    assert written["data_range"] == figures.data_range


def test_figures_refer_to_the_stated_range_and_mask() -> None:
    reference = blobs()
    restored = reference.copy()
    restored[20:24, 16:20, 14:18] += 7.0
    mask = np.zeros(reference.shape)
    mask[20:24, 16:20, 14:18] = 1
    figures = evaluate_restoration(volume(reference), volume(restored), mask=mask)
    low, high = np.percentile(reference.astype(np.float32), (0.5, 99.5))
    assert figures.data_range == pytest.approx(high - low, rel=1e-6)
    assert figures.psnr_db == pytest.approx(20 * np.log10(figures.data_range / 7), abs=1e-4)
    whole = 20 * np.log10(figures.data_range / 7) + 10 * np.log10(reference.size / mask.sum())
    assert figures.psnr_whole_db == pytest.approx(whole, abs=1e-4)
    assert figures.voxels == mask.sum()
    doubled = evaluate_restoration(volume(reference), volume(restored), mask=mask, data_range=2 * figures.data_range)
    assert doubled.psnr_db == pytest.approx(figures.psnr_db + 20 * np.log10(2), abs=1e-4)


def test_figures_do_not_depend_on_units_or_offset() -> None:
    """Hounsfield units, with black at -1000, are judged as a scan with black at zero."""
    reference = blobs()
    restored = ndimage.gaussian_filter(reference, 1.0)
    plain = evaluate_restoration(volume(reference), volume(restored))
    scaled = evaluate_restoration(volume(12 * reference - 1000), volume(12 * restored - 1000))
    assert scaled.psnr_db == pytest.approx(plain.psnr_db, abs=1e-3)
    assert scaled.ssim == pytest.approx(plain.ssim, abs=1e-5)
    assert scaled.nrmse == pytest.approx(plain.nrmse, rel=1e-4)


def test_other_grids_are_refused() -> None:
    reference = volume(blobs())
    with pytest.raises(MedganError, match=r"has \(40, 36, 30\) voxels"):
        evaluate_restoration(reference, volume(blobs()[..., :30]))
    moved = reference.affine.copy()
    moved[2, 3] += 0.5
    with pytest.raises(MedganError, match=r"up to 0\.5 voxels"):
        evaluate_restoration(reference, Volume(blobs().astype(np.float32), moved))
    with pytest.raises(MedganError, match="LAS"):
        evaluate_restoration(reference, reference.reoriented("LAS"))
    rounded = Volume(blobs().astype(np.float32), reference.affine.astype(np.float32))
    assert evaluate_restoration(reference, rounded).psnr_db == np.inf


def test_unusable_input_is_refused() -> None:
    reference = volume(blobs())
    holes = blobs()
    holes[3, 3, 3] = np.nan
    with pytest.raises(MedganError, match="1 voxels that are not finite"):
        evaluate_restoration(reference, volume(holes))
    with pytest.raises(MedganError, match="2 channels"):
        evaluate_restoration(reference, reference.with_data(np.stack([blobs(), blobs()])))
    with pytest.raises(MedganError, match="mask is empty"):
        evaluate_restoration(reference, reference, mask=np.zeros(reference.shape))
    with pytest.raises(MedganError, match="data range"):
        evaluate_restoration(reference, reference, data_range=0.0)
    with pytest.raises(MedganError, match="data range"):
        evaluate_restoration(volume(np.ones((9, 9, 9))), volume(np.ones((9, 9, 9))))


def test_interpolation_is_judged_on_the_same_grid() -> None:
    reference = volume(blobs())
    low_voxels = blobs().reshape(40, 36, 8, 4).mean(-1)
    low = Volume(low_voxels.astype(np.float32), resampled_affine(reference.affine, reference.shape, (40, 36, 8)))
    expected = ndimage.zoom(low.data[0].astype(float), (1, 1, 4), order=3, mode="reflect", grid_mode=True)
    figures = compare_with_interpolation(reference, low, {"same": reference})
    assert list(figures) == ["linear", "cubic B-spline", "same"]
    assert figures["same"].psnr_db == np.inf
    assert figures["cubic B-spline"].psnr_whole_db == pytest.approx(
        psnr(reference.data[0], expected, data_range=figures["same"].data_range), abs=0.01
    )
    assert figures["linear"].psnr_db < figures["cubic B-spline"].psnr_db
    assert figures["linear"].voxels == figures["same"].voxels
    with pytest.raises(MedganError, match="same field of view"):
        compare_with_interpolation(reference, Volume(low.data, reference.affine))


@pytest.mark.data
def test_foreground_of_a_real_brain_covers_it(test_data: Path) -> None:
    """A skull-stripped scan states its own truth: what is not exactly zero."""
    import nibabel as nib

    scan = np.asarray(nib.load(test_data / "mri_multicontrast_openms_1mm/patient07/FLAIR.nii.gz").dataobj)[
        ::2, ::2, ::2
    ]
    brain = ndimage.binary_fill_holes(scan > 0.05 * np.percentile(scan, 99.5))
    mask = foreground_mask(scan)
    overlap = 2 * np.count_nonzero(mask & brain) / (np.count_nonzero(mask) + np.count_nonzero(brain))
    assert overlap > 0.9
