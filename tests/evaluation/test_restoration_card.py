"""All figures of a restored scan, each against something that is known beforehand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation.restoration_card import consistency_of, evaluate_restoration_fully
from medgan.geometry import default_affine, resampled_affine
from medgan.volume import Volume

SHAPE = (48, 44, 40)


def textured(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    head = np.clip(6 * (0.8 - np.sqrt(sum(axis**2 for axis in axes))), 0, 1)
    return 500 * head * (1 + 0.3 * ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.0) / 0.2)


def volume(voxels: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    return Volume(voxels.astype(np.float32), default_affine(voxels.shape, spacing))


@pytest.fixture(scope="module")
def truth() -> Volume:
    return volume(textured())


def test_a_perfect_restoration(truth: Volume) -> None:
    card = evaluate_restoration_fully(truth, truth)
    assert card.ms_ssim == pytest.approx(1.0)
    assert card.spectral_ratio == pytest.approx((1.0, 1.0, 1.0))
    assert card.effective_resolution == pytest.approx((1.0, 1.0, 1.0), abs=0.02)
    assert card.consistency is None
    assert card.lesions is None
    assert "consistency_rmse" not in card.to_dict()
    json.dumps(card.to_dict(), allow_nan=False)


def test_multi_scale_similarity_is_monai_s(truth: Volume) -> None:
    import torch
    from monai.metrics import MultiScaleSSIMMetric

    rng = np.random.default_rng(3)
    restored = truth.with_data(truth.data + 40 * rng.standard_normal(truth.data.shape).astype(np.float32))
    everywhere = truth.with_data(np.ones(SHAPE, dtype=np.uint8))
    card = evaluate_restoration_fully(truth, restored, mask=everywhere)
    low, high = np.percentile(truth.data, (0.5, 99.5))
    weights = np.array((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)[: card.ms_ssim_scales])
    metric = MultiScaleSSIMMetric(spatial_dims=3, data_range=1.0, weights=list(weights / weights.sum()))
    first, second = (torch.from_numpy((v.data - low) / (high - low))[None] for v in (truth, restored))
    assert card.ms_ssim == pytest.approx(float(metric(first, second)), abs=2e-4)


def test_blur_along_one_axis_shows_on_that_axis(truth: Volume) -> None:
    fwhm = 3.0
    blurred = truth.with_data(ndimage.gaussian_filter1d(truth.data, fwhm / 2.3548, axis=3).astype(np.float32))
    card = evaluate_restoration_fully(truth, blurred)
    assert card.effective_resolution[2] == pytest.approx(np.hypot(1.0, fwhm), rel=0.05)
    assert card.effective_resolution[:2] == pytest.approx((1.0, 1.0), abs=0.1)
    assert card.spectral_ratio[2] < 0.2 < 0.5 < min(card.spectral_ratio[:2])


def gaussian_slices(voxels: np.ndarray, factor: int) -> np.ndarray:
    """Slices along Z that touch, Gaussian with a FWHM of their distance, by plain sums over the profile."""
    n = voxels.shape[2]
    centres = (np.arange(n // factor) + 0.5) * factor - 0.5
    # The voxel itself has an extent of one: what is left of the slice's FWHM is blur beyond it.
    sigma = np.sqrt(factor**2 - 1) / 2.3548
    weights = np.exp(-0.5 * ((np.arange(n)[None] - centres[:, None]) / sigma) ** 2)
    return np.asarray(voxels @ (weights / weights.sum(axis=1, keepdims=True)).T)


def test_data_consistency_whatever_the_orientation(truth: Volume) -> None:
    low = gaussian_slices(truth.data[0], 4)
    acquired = Volume(low.astype(np.float32), resampled_affine(truth.affine, SHAPE, low.shape))
    turned = acquired.reoriented("LIP")
    figures = [consistency_of(truth, scan) for scan in (acquired, turned)]
    # The borders are continued in different ways; inside, both models are the same.
    assert figures[0].relative < 0.02
    assert figures[1].relative == pytest.approx(figures[0].relative, abs=1e-9)
    brighter = truth.with_data(truth.data + np.float32(25))
    assert consistency_of(brighter, acquired).rmse == pytest.approx(25, rel=0.05)


def test_thickness_is_that_of_the_file_unless_told(truth: Volume) -> None:
    low = gaussian_slices(truth.data[0], 4)
    affine = resampled_affine(truth.affine, SHAPE, low.shape)
    told = Volume(low.astype(np.float32), affine, metadata={"slice_thickness": 2.0})
    assert consistency_of(truth, told).rmse > 2 * consistency_of(truth, told, thickness=4.0).rmse


def test_lesions_kept_by_half(truth: Volume) -> None:
    background = 0.2 * textured(1)
    place = (slice(20, 26), slice(18, 24), slice(16, 22))
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[place] = 1
    flat = np.full(SHAPE, 300.0) + 0 * background
    with_lesion, half = flat.copy(), flat.copy()
    with_lesion[place], half[place] = 400, 350
    card = evaluate_restoration_fully(
        volume(with_lesion), volume(half), mask=volume(np.ones(SHAPE)), lesions=volume(mask), data_range=100
    )
    assert card.lesions is not None
    assert card.to_dict()["lesion_contrast_kept"] == pytest.approx(0.5)
    assert card.to_dict()["lesion_volume_kept"] == pytest.approx(1.0)
    assert card.to_dict()["lesions"] == 1


def test_what_does_not_fit_is_named(truth: Volume) -> None:
    low = gaussian_slices(truth.data[0], 4).astype(np.float32)
    elsewhere = Volume(low, resampled_affine(truth.affine, SHAPE, low.shape) + np.diag([0, 0, 0.3, 0]))
    with pytest.raises(MedganError, match="the acquired scan covers"):
        evaluate_restoration_fully(truth, truth, acquired=elsewhere)
    with pytest.raises(MedganError, match="mask of lesions is empty"):
        evaluate_restoration_fully(truth, truth, lesions=volume(np.zeros(SHAPE)))
    with pytest.raises(MedganError, match="mask of lesions has"):
        evaluate_restoration_fully(truth, truth, lesions=volume(np.ones((4, 4, 4))))
