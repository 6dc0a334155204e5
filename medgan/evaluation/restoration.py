"""How close a restored scan is to its reference, voxel by voxel.

All figures compare two volumes on one and the same grid. The ones to quote are taken in the foreground, widened by a
voxel: a tight mask would hide what a shifted or blurred restoration spills over the edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medgan import geometry
from medgan.errors import MedganError
from medgan.resampling import interpolated
from medgan.volume import Volume

Mask = NDArray[np.bool_]

_SSIM_SIGMA = 1.5
_SSIM_RADIUS = 5
_GRID_TOLERANCE = 0.01


@dataclass(frozen=True)
class RestorationFigures:
    """How close a restored scan is to its reference.

    Args:
        psnr_db: peak signal-to-noise ratio in the foreground, in dB: data range squared over mean squared error.
        ssim: mean structural similarity of the foreground's voxels (3D), at most 1.
        psnr_whole_db: the peak signal-to-noise ratio over the whole volume.
        nrmse: norm of the error over norm of the reference, in the foreground.
        hfen: the same after a Laplacian of Gaussian (1.5 voxels): error of edges and fine detail.
        shift: how far the restored content lies towards higher indices along each axis, in voxels; 0 is right.
        data_range: what the decibels and the similarity refer to, in the scan's units.
        voxels: voxels in the foreground.
    """

    psnr_db: float
    ssim: float
    psnr_whole_db: float
    nrmse: float
    hfen: float
    shift: tuple[float, float, float]
    data_range: float
    voxels: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; infinite decibels (no error at all) become None."""
        return {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in asdict(self).items()
        }


def foreground_mask(reference: ArrayLike, *, dilation: int = 1) -> Mask:
    """The scanned object without the air around it.

    Otsu's threshold, the largest connected component, its holes filled, widened by `dilation` voxels.

    Args:
        reference: one scan, (X, Y, Z).
        dilation: voxels to widen the mask by.

    Returns:
        bool, (X, Y, Z); all True for a scan without contrast.
    """
    voxels = np.asarray(reference, dtype=np.float32)
    threshold = otsu_threshold(voxels)
    if threshold is None:
        return np.ones(voxels.shape, dtype=bool)
    labels, count = ndimage.label(voxels > threshold)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    mask = ndimage.binary_fill_holes(labels == sizes.argmax())
    if dilation:
        mask = ndimage.binary_dilation(mask, iterations=dilation)
    return np.asarray(mask, dtype=bool)


def otsu_threshold(voxels: NDArray[np.floating], bins: int = 256) -> float | None:
    """The value that splits voxels into two classes of least variance (Otsu 1979); None if all are alike.

    The half per cent at each end of the intensities is clipped, so that single bright voxels do not coarsen the
    histogram.
    """
    low, high = np.percentile(voxels, (0.5, 99.5))
    if not high > low:
        low, high = float(voxels.min()), float(voxels.max())
        if not high > low:
            return None
    counts, edges = np.histogram(np.clip(voxels, low, high), bins=bins, range=(low, high))
    centres = 0.5 * (edges[:-1] + edges[1:])
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1:-1][np.nanargmax(between)])


def psnr(reference: ArrayLike, restored: ArrayLike, *, data_range: float, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB: data range squared over mean squared error (in the mask); may be infinite."""
    difference = np.asarray(restored, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    error = np.mean(np.square(difference if mask is None else difference[mask]))
    return inf if error == 0 else float(10.0 * np.log10(data_range**2 / error))


def ssim_map(reference: ArrayLike, restored: ArrayLike, *, data_range: float) -> NDArray[np.float64]:
    """Structural similarity around each voxel (Wang et al. 2004), fully 3D.

    Gaussian window of sigma 1.5 cut at 5 voxels, K1 = 0.01, K2 = 0.03, population covariance; beyond the borders the
    volumes are continued by half-sample reflection. Shape (X, Y, Z).
    """
    first, second = np.asarray(reference, dtype=np.float64), np.asarray(restored, dtype=np.float64)

    def windowed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(values, _SSIM_SIGMA, mode="reflect", radius=_SSIM_RADIUS)

    mean_1, mean_2 = windowed(first), windowed(second)
    variance_1 = windowed(first * first) - mean_1**2
    variance_2 = windowed(second * second) - mean_2**2
    covariance = windowed(first * second) - mean_1 * mean_2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_1 * mean_2 + c1) / (mean_1**2 + mean_2**2 + c1)
    return np.asarray(luminance * (2 * covariance + c2) / (variance_1 + variance_2 + c2))


def ssim(reference: ArrayLike, restored: ArrayLike, *, data_range: float, mask: Mask | None = None) -> float:
    """Mean of `ssim_map` over all voxels (of the mask)."""
    first, second = np.asarray(reference), np.asarray(restored)
    if mask is None:
        return float(ssim_map(first, second, data_range=data_range).mean())
    box = _surroundings(mask, _SSIM_RADIUS)
    return float(ssim_map(first[box], second[box], data_range=data_range)[mask[box]].mean())


def hfen(reference: ArrayLike, restored: ArrayLike, *, mask: Mask | None = None) -> float:
    """Relative error after a Laplacian of Gaussian of 1.5 voxels: high-frequency error norm (Ravishankar 2011)."""
    first = np.asarray(reference, dtype=np.float64)

    def detail(values: NDArray[np.float64]) -> NDArray[np.float64]:
        # Not gaussian_laplace: its truncated kernel does not sum to zero and lets constants through.
        return ndimage.laplace(ndimage.gaussian_filter(values, 1.5, mode="reflect"), mode="reflect")

    return _relative_norm(detail(np.asarray(restored, dtype=np.float64) - first), detail(first), mask)


def _relative_norm(error: NDArray[np.float64], reference: NDArray[np.float64], mask: Mask | None) -> float:
    """Euclidean norm of the error over that of the reference, over the mask; 0 where both vanish."""
    if mask is not None:
        error, reference = error[mask], reference[mask]
    size = float(np.linalg.norm(error))
    return 0.0 if size == 0 else size / max(float(np.linalg.norm(reference)), np.finfo(np.float64).tiny)


def _surroundings(mask: Mask, margin: int) -> tuple[slice, ...]:
    """The mask's bounding box, wider by `margin` voxels: all that a window around its voxels can see."""
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        raise MedganError("the mask is empty", hint="Give a mask with at least one voxel in it.")
    return tuple(
        slice(max(0, side.start - margin), min(size, side.stop + margin))
        for side, size in zip(boxes[0], mask.shape, strict=True)
    )


def subvoxel_shift(reference: ArrayLike, restored: ArrayLike, *, iterations: int = 4) -> tuple[float, float, float]:
    """How far the content of `restored` lies from that of `reference` along each axis, in voxels.

    Least squares on the intensity gradient (Lucas and Kanade 1981) together with a change of contrast and brightness,
    repeated on the shifted-back volume; meant for shifts of up to about two voxels. Only the restored volume's
    gradient is used: a symmetric blur of that volume then does not bias the answer.

    Args:
        reference: (X, Y, Z).
        restored: (X, Y, Z), the same grid.
        iterations: repetitions at most; fewer if the shift no longer changes.

    Returns:
        Positive where the restored content lies at higher indices; 0 along axes that are too thin (under 8 voxels) or
        flat.
    """
    still = ndimage.gaussian_filter(np.asarray(reference, dtype=np.float64), 1.0, mode="nearest")
    moving = ndimage.gaussian_filter(np.asarray(restored, dtype=np.float64), 1.0, mode="nearest")
    axes = [axis for axis, size in enumerate(still.shape) if size >= 8]
    inside = tuple(slice(3, -3) if axis in axes else slice(None) for axis in range(3))
    shift = np.zeros(3)
    for _ in range(iterations if axes else 0):
        current = ndimage.shift(moving, -shift, order=3, mode="nearest") if shift.any() else moving
        region = current[inside].ravel()
        columns = [np.gradient(current, axis=axis)[inside].ravel() for axis in axes]
        system = np.stack([*columns, region - region.mean(), np.ones_like(region)])
        error = (still - current)[inside].ravel()
        step = np.linalg.lstsq(system @ system.T, system @ error, rcond=1e-9)[0][: len(axes)]
        shift[axes] += step
        if np.abs(step).max() < 1e-3:
            break
    return float(shift[0]), float(shift[1]), float(shift[2])


def evaluate_restoration(
    reference: Volume, restored: Volume, *, mask: ArrayLike | Volume | None = None, data_range: float | None = None
) -> RestorationFigures:
    """Compare a restored scan with its reference on the same grid.

    Args:
        reference: the true high-resolution scan, one channel.
        restored: the scan to judge, one channel, same shape and place.
        mask: foreground, (X, Y, Z), non-zero inside; a Volume must lie on the same grid. None: `foreground_mask` of
            the reference.
        data_range: what 0 dB refers to; None: 99.5th minus 0.5th percentile of the reference.

    Raises:
        MedganError: the grids differ, there is more than one channel, a voxel is not finite, or mask or data range
            are unusable.
    """
    _require_same_grid(reference, restored, "restored scan")
    truth, result = _voxels(reference, "reference"), _voxels(restored, "restored scan")
    inside = foreground_mask(truth) if mask is None else _checked_mask(mask, reference)
    low, high = np.percentile(truth, (0.5, 99.5))
    span = float(high - low) if data_range is None else float(data_range)
    if not (span > 0 and isfinite(span)):
        raise MedganError(f"the data range must be a positive number, not {span}", hint="Give data_range explicitly.")
    # The similarity's luminance term takes zero for black: in CT, for one, black is -1000.
    return RestorationFigures(
        psnr_db=psnr(truth, result, data_range=span, mask=inside),
        ssim=ssim(truth - low, result - low, data_range=span, mask=inside),
        psnr_whole_db=psnr(truth, result, data_range=span),
        nrmse=_relative_norm(result - truth, truth - low, inside),
        hfen=hfen(truth, result, mask=inside),
        shift=subvoxel_shift(truth, result),
        data_range=span,
        voxels=int(inside.sum()),
    )


def compare_with_interpolation(
    reference: Volume,
    low: Volume,
    restored: Mapping[str, Volume] | None = None,
    *,
    mask: ArrayLike | Volume | None = None,
    data_range: float | None = None,
) -> dict[str, RestorationFigures]:
    """The figures of restored scans beside those of plain interpolation of the same low-resolution scan.

    Args:
        reference: the true high-resolution scan.
        low: the low-resolution scan that was restored, covering the same field of view.
        restored: scans to judge, by name.
        mask: as in `evaluate_restoration`.
        data_range: as in `evaluate_restoration`.

    Returns:
        By name: "linear" and "cubic B-spline" (cell-centred, reflecting borders), then the restored scans.

    Raises:
        MedganError: as `evaluate_restoration`; or `low` covers another field of view.
    """
    expected = geometry.resampled_affine(low.affine, low.shape, reference.shape)
    if _largest_deviation(reference, expected) > 10 * _GRID_TOLERANCE:
        raise MedganError(
            f"the low-resolution scan covers {_extent(low)}, the reference {_extent(reference)} or lies elsewhere",
            hint="Compare scans of the same field of view.",
        )
    inside = foreground_mask(_voxels(reference, "reference")) if mask is None else mask
    voxels = _voxels(low, "low-resolution scan")
    candidates = {
        name: reference.with_data(interpolated(voxels, reference.shape, order=order))
        for name, order in (("linear", 1), ("cubic B-spline", 3))
    }
    candidates.update(restored or {})
    return {
        name: evaluate_restoration(reference, candidate, mask=inside, data_range=data_range)
        for name, candidate in candidates.items()
    }


def _voxels(volume: Volume, name: str) -> NDArray[np.float64]:
    """The one channel of a volume, finite."""
    if volume.channels != 1:
        raise MedganError(f"the {name} has {volume.channels} channels", hint="Compare one channel at a time.")
    voxels = volume.data[0].astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(voxels)))
    if bad:
        raise MedganError(f"the {name} has {bad} voxels that are not finite", hint="Repair or mask them first.")
    return voxels


def _checked_mask(mask: ArrayLike | Volume, reference: Volume) -> Mask:
    """The mask as bool (X, Y, Z) on the reference's grid, not empty."""
    if isinstance(mask, Volume):
        _require_same_grid(reference, mask, "mask")
        mask = mask.data[0]
    inside = np.asarray(mask) != 0
    if inside.shape != reference.shape:
        raise MedganError(f"the mask has {inside.shape} voxels, the reference {reference.shape}")
    if not inside.any():
        raise MedganError("the mask is empty", hint="Give a mask with at least one voxel in it.")
    return inside


def _require_same_grid(reference: Volume, other: Volume, name: str) -> None:
    """Refuse a volume whose voxels are not the reference's."""
    if other.shape != reference.shape:
        raise MedganError(
            f"the {name} has {other.shape} voxels, the reference {reference.shape}",
            hint="Bring both to one grid first; resampling here would change the figures.",
        )
    deviation = _largest_deviation(reference, other.affine)
    if deviation > _GRID_TOLERANCE:
        raise MedganError(
            f"the {name} ({other.orientation}) lies up to {deviation:.3g} voxels away from the reference "
            f"({reference.orientation})",
            hint="Compare scans with the same affine: reorient or resample one of them first.",
        )


def _largest_deviation(reference: Volume, affine: geometry.Affine) -> float:
    """How far apart, in the reference's smallest voxel size, two affines put the corners of the reference's grid."""
    corners = geometry.world_corners(reference.affine, reference.shape)
    distance = np.linalg.norm(corners - geometry.world_corners(affine, reference.shape), axis=1)
    return float(distance.max() / min(reference.spacing))


def _extent(volume: Volume) -> str:
    """The field of view in words."""
    return " x ".join(f"{side:.1f}" for side in volume.field_of_view) + " mm"
