"""The pair-alignment audit: analytic displacements, wrong scanners caught, right ones passed."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medgan.acquisition import Acquisition
from medgan.acquisition.operators import PROFILES
from medgan.data.alignment import TOLERANCE, Alignment, alignment_of, require_aligned
from medgan.errors import MedganError

Volume = NDArray[np.float64]
SHAPE = (24, 20, 24)


def blobs(seed: int, shift: tuple[float, ...] = (0, 0, 0), stretch: tuple[float, ...] = (0, 0, 0)) -> Volume:
    """Gaussian blobs known at every point of space, so that a displaced volume needs no interpolation: (24, 20, 24)."""
    generator = np.random.default_rng(seed)
    axes = []
    for size, s, e in zip(SHAPE, shift, stretch, strict=True):
        middle = (size - 1) / 2
        # Index i of the displaced volume shows what belongs at x, where x + s + e (x - middle) / middle = i.
        axes.append(middle + (np.arange(size) - middle - s) / (1 + e / middle))
    x, y, z = np.meshgrid(*axes, indexing="ij")
    volume = np.zeros(SHAPE)
    for _ in range(25):
        a, b, c = (generator.uniform(-2, size + 2) for size in SHAPE)
        width = generator.uniform(1.5, 3.5)
        volume += generator.uniform(-1, 1) * np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * width**2))
    return volume


@pytest.mark.parametrize(
    ("shift", "stretch"),
    [((0, 0, 0), (0, 0, 0)), ((0.5, 0, -0.3), (0, 0, 0)), ((0, 1.5, 2.5), (0, 0, 0)), ((0.05, 0, 0), (0, -1.5, 0.4))],
)
def test_known_displacements_are_found(shift: tuple[float, ...], stretch: tuple[float, ...]) -> None:
    """To a few hundredths of a voxel, large ones of themselves, whatever the contrast of the two to each other."""
    found = alignment_of((2.5 * blobs(seed, shift, stretch) + 7, blobs(seed)) for seed in range(4))
    np.testing.assert_allclose(found.shift, shift, atol=0.02, rtol=0.03)
    np.testing.assert_allclose(found.stretch, stretch, atol=0.03, rtol=0.03)
    assert found.pairs == 4
    assert found.unmeasured == ""


def test_blur_is_no_displacement_and_noise_is_doubt() -> None:
    generator = np.random.default_rng(0)
    truth = [blobs(seed) for seed in range(6)]
    kernel = np.array([0.25, 0.5, 0.25])
    starts = [np.apply_along_axis(lambda line: np.convolve(line, kernel, mode="same"), 2, volume) for volume in truth]
    assert alignment_of(zip(starts, truth, strict=True)).largest < 0.02
    noisy = [start + 0.1 * generator.standard_normal(SHAPE) for start in starts]
    found = alignment_of(zip(noisy, truth, strict=True))
    assert found.largest < TOLERANCE
    assert max(found.shift_error) > 2 * max(alignment_of(zip(starts, truth, strict=True)).shift_error)


def test_axes_that_cannot_tell_say_so() -> None:
    thin = [blobs(seed)[:, :, 8:12] for seed in range(2)]
    found = alignment_of([(volume, volume) for volume in thin])
    assert found.unmeasured == "Z"
    assert isnan(found.shift[2])
    assert found.largest == pytest.approx(0, abs=1e-9)
    along_x = np.broadcast_to(blobs(0)[:, 10:11, 10:11], SHAPE)
    assert alignment_of([(along_x, along_x)]).unmeasured == "YZ"
    assert alignment_of([(np.ones(SHAPE), np.ones(SHAPE))]).unmeasured == "XYZ"
    # Four low-resolution samples are too few.
    assert alignment_of([(blobs(0), blobs(0))], factor=(1, 1, 6)).unmeasured == "Z"


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(MedganError, match="no pair"):
        alignment_of([])
    with pytest.raises(MedganError, match="must have one shape"):
        alignment_of([(np.zeros((8, 8, 8)), np.zeros((8, 8, 9)))])
    with pytest.raises(MedganError, match="differ in shape"):
        alignment_of([(np.zeros((8, 8, n)), np.zeros((8, 8, n))) for n in (8, 9)])


def _alignment(shift: float, error: float, stretch: float = 0.0) -> Alignment:
    return Alignment((0, 0, shift), (0, 0, stretch), (0, 0, error), (0, 0, 0), 8)


def test_only_what_is_beyond_doubt_is_refused() -> None:
    require_aligned(_alignment(0.09, 0.001))
    require_aligned(_alignment(0.3, 0.12))
    require_aligned(_alignment(float("nan"), float("nan")))
    with pytest.raises(MedganError, match=r"by \+0.30 voxel along Z \(at most 0.1"):
        require_aligned(_alignment(0.3, 0.05))
    with pytest.raises(MedganError, match="register them first"):
        require_aligned(_alignment(0.3, 0.05), factor=(1, 1, 4))
    with pytest.raises(MedganError, match="last voxel"):
        require_aligned(_alignment(-1.45, 0.05), factor=(1, 1, 4))


def first_of_each_block(volume: Tensor, low: Acquisition) -> Tensor:
    """Decimation that keeps the first voxel of each block: x[..., ::2] and its like."""
    fx, fy, fz = (round(f) for f in low.factor)
    return volume[..., ::fx, ::fy, ::fz].contiguous()


def corners_aligned(volume: Tensor, low: Acquisition) -> Tensor:
    """Resizing with the centres of the corner voxels on each other, after a blur against aliasing."""
    kernel = tuple(2 * (round(f) // 2) + 1 for f in low.factor)
    blurred = F.avg_pool3d(volume, kernel, 1, tuple(side // 2 for side in kernel), count_include_pad=False)
    return F.interpolate(blurred, size=low.low_shape, mode="trilinear", align_corners=True)


def _acquired(factor: tuple[int, int, int], profile: str = "gaussian", thickness: float = 1.0) -> Acquisition:
    shape = tuple(size // f for size, f in zip(SHAPE, factor, strict=True))
    extent = tuple(f * thickness if f > 1 else None for f in factor)
    return Acquisition.between(SHAPE, shape, high_spacing=(1, 1, 1), thickness=extent, profile=profile)


def _pairs(volumes: list[Volume], low: Acquisition, forward: Callable[[Tensor, Acquisition], Tensor]) -> Alignment:
    truth = torch.from_numpy(np.stack(volumes))[:, None]
    start = low.inverse(forward(truth, low))
    return alignment_of(zip(start[:, 0].numpy(), truth[:, 0].numpy(), strict=True), factor=low.factor)


@pytest.mark.parametrize("factor", [(2, 2, 2), (1, 1, 4)])
@pytest.mark.parametrize(
    ("wrong", "sign", "cause"), [(first_of_each_block, 1, "first voxel"), (corners_aligned, 0, "align_corners=True")]
)
def test_wrong_scanners_are_caught_by_name(
    factor: tuple[int, int, int], wrong: Callable[[Tensor, Acquisition], Tensor], sign: int, cause: str
) -> None:
    found = _pairs([blobs(seed) for seed in range(6)], _acquired(factor), wrong)
    expected = [sign * (f - 1) / 2 for f in factor]
    np.testing.assert_allclose(found.shift, expected, atol=0.15)
    with pytest.raises(MedganError, match=cause):
        require_aligned(found, factor=factor)


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "measured"])
@pytest.mark.parametrize("factor", [(1, 1, 2), (2, 2, 2), (1, 1, 4)])
def test_every_scanner_of_the_house_passes(factor: tuple[int, int, int], profile: str) -> None:
    low = _acquired(factor, profile)
    found = _pairs([blobs(seed) for seed in range(6)], low, lambda volume, scanner: scanner.forward(volume))
    require_aligned(found, factor=factor)
    assert max(abs(value) for value in found.shift) < 0.05
    assert max(abs(value) for value in found.stretch) < TOLERANCE


def test_real_scans_with_gaps_pass_and_a_wrong_scanner_does_not(test_data: Path) -> None:
    import nibabel as nib

    path = test_data / "mri_multicontrast_openms_1mm" / "patient07" / "FLAIR.nii.gz"
    scan = np.asarray(nib.load(path).dataobj, dtype=np.float64)  # type: ignore[attr-defined]
    scan /= np.percentile(scan, 99.5)
    generator = np.random.default_rng(0)
    starts = [[int(generator.integers(n // 4, 3 * n // 4 - 24)) for n in scan.shape] for _ in range(10)]
    volumes = [scan[x : x + 24, y : y + 20, z : z + 24] for x, y, z in starts]
    for thickness in (1.0, 0.6):
        low = _acquired((1, 1, 4), thickness=thickness)
        require_aligned(_pairs(volumes, low, lambda volume, scanner: scanner.forward(volume)), factor=low.factor)
    with pytest.raises(MedganError, match="first voxel"):
        require_aligned(_pairs(volumes, low, first_of_each_block), factor=low.factor)
