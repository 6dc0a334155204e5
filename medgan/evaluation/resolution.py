"""How fine the detail of a scan truly is along each axis: spectral energy, residual blur, effective resolution.

A scan resampled to 1 mm does not resolve 1 mm. With a reference, the blur that best turns the reference into the
restored scan says how much is missing. Without one, the axes of a scan are compared with each other: anatomy is about
equally detailed in all directions, so that an axis whose spectrum falls faster was measured with thicker slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage, optimize

from medgan.errors import MedganError
from medgan.evaluation.restoration import Mask
from medgan.geometry import Spacing

Voxels = NDArray[np.float32]

BAND = (0.2, 0.4)
"""Cycles per voxel between which `spectral_ratio` counts energy unless told otherwise."""

FWHM_PER_SIGMA = float(2.0 * np.sqrt(2.0 * np.log(2.0)))
_SMALLEST = 8
# Cycles per mm: below the first, the shape of the head decides the spectrum; up to the second, slices of ordinary
# thickness pass everything, so that axes are brought to one level there.
_LOWEST, _LEVEL = 0.02, 0.04
_STEP, _HALF_WINDOW = 0.0025, 0.01
# Power that is left where a Gaussian's amplitude has fallen to one half.
_HALF_AMPLITUDE = 0.25


def band_energies(
    scan: ArrayLike, *, band: tuple[float, float] = BAND, mask: Mask | None = None
) -> tuple[float, float, float]:
    """Energy of fine detail along each axis, in squared units of the scan times voxels.

    The energy along an axis is the squared magnitude of the Fourier transform of all lines along it, summed over the
    frequencies of the band and divided by the length of the axis. Lines are freed of their common mean and faded out
    towards their ends (Hann), so that the jump between the two borders of the volume does not count as detail.

    Args:
        scan: (X, Y, Z).
        band: lowest and highest frequency in cycles per voxel, 0 to 0.5.
        mask: voxels that count, (X, Y, Z); its edge is softened by about two voxels. None: the whole volume.

    Returns:
        One energy for each axis; nan along axes with fewer than 8 voxels.

    Raises:
        MedganError: the band is impossible.
    """
    low, high = band
    if not 0 <= low < high <= 0.5:
        raise MedganError(f"a band is two frequencies from 0 to 0.5 cycles per voxel, this is {band}")
    voxels = np.asarray(scan, dtype=np.float32)
    weight = np.ones(voxels.shape, dtype=np.float32) if mask is None else _soft(mask)
    x, y, z = (_band_energy(voxels, weight, axis, band) for axis in range(3))
    return x, y, z


def _band_energy(voxels: Voxels, weight: Voxels, axis: int, band: tuple[float, float]) -> float:
    """The energy of `band_energies` along one axis."""
    size = voxels.shape[axis]
    frequency = fft.rfftfreq(size)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    if size < _SMALLEST or not inside.any():
        return float("nan")
    return float(_line_power(voxels, weight * _fade(voxels.shape, axis), axis)[inside].sum()) / size


def _fade(shape: tuple[int, ...], axis: int) -> Voxels:
    """Hann weights along one axis, to be multiplied with a volume."""
    size = shape[axis]
    along = [1, 1, 1]
    along[axis] = size
    return (np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2).astype(np.float32).reshape(along)


def spectral_ratio(
    reference: ArrayLike, restored: ArrayLike, *, band: tuple[float, float] = BAND, mask: Mask | None = None
) -> tuple[float, float, float]:
    """Energy of fine detail along each axis, restored over reference: 1 is right, less is blur, more is invention.

    Args:
        reference: (X, Y, Z).
        restored: (X, Y, Z), the same grid.
        band: as in `band_energies`.
        mask: as in `band_energies`.

    Returns:
        One ratio for each axis; nan along axes with fewer than 8 voxels or where the reference has no energy.

    Raises:
        MedganError: shapes differ or the band is impossible.
    """
    truth, result = _pair(reference, restored)
    # Rounding alone leaves a little energy in a volume without any detail.
    floor = 1e-12 * float(np.square(truth, dtype=np.float64).sum())
    x, y, z = (
        ours / true if true > floor else float("nan")
        for true, ours in zip(
            band_energies(truth, band=band, mask=mask), band_energies(result, band=band, mask=mask), strict=True
        )
    )
    return x, y, z


def _line_power(voxels: Voxels, weight: Voxels, axis: int) -> NDArray[np.float64]:
    """Power of all lines along `axis`, summed; frequencies as in `rfftfreq`. The weighted mean is taken off first."""
    mean = float((voxels * weight).sum(dtype=np.float64) / max(float(weight.sum(dtype=np.float64)), 1e-12))
    spectrum = fft.rfft((voxels - np.float32(mean)) * weight, axis=axis)
    power = spectrum.real**2 + spectrum.imag**2
    others = tuple(other for other in range(3) if other != axis)
    return np.asarray(power.sum(axis=others, dtype=np.float64))


def _soft(mask: Mask) -> Voxels:
    """The mask with its edge faded inwards over about two voxels."""
    smooth = ndimage.gaussian_filter(np.asarray(mask, dtype=np.float32), 2.0, mode="constant")
    return np.asarray(np.clip(2.0 * smooth - 1.0, 0.0, 1.0), dtype=np.float32)


def residual_blur(reference: ArrayLike, restored: ArrayLike, *, spacing: Sequence[float]) -> Spacing:
    """The Gaussian blur that best turns the reference into the restored scan: FWHM in mm along each axis.

    Least squares over the three widths at once, in the cosine series of the half-sample reflected volumes, where a
    blur is a product. Noise and invented detail that have nothing to do with the reference do not count as sharpness.
    Both volumes may be cut to the object; sharper than the reference reads 0.

    Args:
        reference: (X, Y, Z).
        restored: (X, Y, Z), the same grid.
        spacing: mm between voxel centres.

    Raises:
        MedganError: shapes differ.
    """
    truth, result = _pair(reference, restored)
    mean = np.float32(truth.mean(dtype=np.float64))
    first, second = (fft.dctn(voxels - mean, norm="ortho") for voxels in (truth, result))
    power, cross = first * first, first * second
    total = float(power.sum(dtype=np.float64))
    if total == 0:
        return 0.0, 0.0, 0.0
    # Cycles per voxel of the cosines, times 2 pi, squared: a Gaussian's response is exp(-variance * this / 2).
    bends = [(np.pi * np.arange(size) / size) ** 2 for size in truth.shape]

    def error(variance: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        responses = [np.exp(-0.5 * v * bend) for v, bend in zip(variance, bends, strict=True)]
        square, square_slope = _separable(power, [r * r for r in responses], bends)
        linear, linear_slope = _separable(cross, responses, bends)
        return (square - 2 * linear) / total, (linear_slope - square_slope) / total

    highest = [(size / 2.0) ** 2 if size >= _SMALLEST else 0.0 for size in truth.shape]
    start = np.minimum(1.0, highest)
    bounds = [(0.0, limit) for limit in highest]
    fit = optimize.minimize(error, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-12})
    x, y, z = (
        float(FWHM_PER_SIGMA * np.sqrt(max(v, 0.0)) * step) for v, step in zip(fit.x, map(float, spacing), strict=True)
    )
    return x, y, z


def _separable(
    values: Voxels, responses: list[NDArray[np.float64]], bends: list[NDArray[np.float64]]
) -> tuple[float, NDArray[np.float64]]:
    """Sum of values times the product of three responses, and the same weighted by each axis' bend (3)."""
    x, y, z = (response.astype(np.float32) for response in responses)
    plane = values @ z
    line = plane @ y
    along_x = line * x
    along_y = (x @ plane) * y
    along_z = np.tensordot(np.multiply.outer(x, y), values, axes=2) * z
    along: list[NDArray[Any]] = [along_x, along_y, along_z]
    slopes = [float(part.astype(np.float64) @ bend) for part, bend in zip(along, bends, strict=True)]
    return float(along_x.sum(dtype=np.float64)), np.array(slopes)


def effective_resolution(reference: ArrayLike, restored: ArrayLike, *, spacing: Sequence[float]) -> Spacing:
    """What the restored scan resolves, in mm along each axis: residual blur and voxel extent, added as variances.

    The same convention as an acquisition's thickness: a scan acquired with Gaussian slices of 4 mm FWHM reads 4 mm,
    the reference itself reads its own spacing.

    Args:
        reference: (X, Y, Z).
        restored: (X, Y, Z), the same grid.
        spacing: mm between voxel centres.

    Raises:
        MedganError: shapes differ.
    """
    blur = residual_blur(reference, restored, spacing=spacing)
    x, y, z = (float(np.hypot(width, step)) for width, step in zip(blur, spacing, strict=True))
    return x, y, z


def estimated_resolution(scan: ArrayLike, *, spacing: Sequence[float], mask: Mask | None = None) -> Spacing:
    """What a scan resolves along each axis in mm, without any reference.

    The power spectrum along each axis is compared with that of the sharpest axis: where the amplitude has fallen to a
    half of it, a Gaussian slice that would do the same is read off, and the finest spacing is added as a variance. An
    axis resolves no less than its own spacing.

    The sharpest axis is taken to resolve its spacing; a scan blurred alike in all directions therefore reads sharper
    than it is. On four real brain scans (T1, T2, FLAIR) thickened to 2, 3, 4 and 6 mm and interpolated back by a cubic
    spline, the estimates lay from 6 % below to 17 % above the true thickness, most within 5 %; blurred
    without being interpolated, from 12 % below.

    Args:
        scan: (X, Y, Z).
        spacing: mm between voxel centres.
        mask: as in `band_energies`.

    Raises:
        MedganError: the spacing is not three positive numbers.
    """
    voxels = np.asarray(scan, dtype=np.float32)
    steps = np.array([float(step) for step in spacing])
    if steps.shape != (3,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise MedganError(f"a spacing is three positive numbers in mm, this is {tuple(spacing)}")
    weight = np.ones(voxels.shape, dtype=np.float32) if mask is None else _soft(mask)
    grid = np.arange(_LOWEST, 0.45 / steps.min(), _STEP)
    spectra = np.array([_log_spectrum(voxels, weight, axis, steps[axis], grid) for axis in range(3)])
    sharpest = _sharpest(spectra, steps, grid)
    x, y, z = (
        max(float(np.hypot(_relative_blur(spectra[axis] - spectra[sharpest], grid), steps.min())), float(steps[axis]))
        for axis in range(3)
    )
    return x, y, z


def _log_spectrum(
    voxels: Voxels, weight: Voxels, axis: int, step: float, grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logarithm of the power along one axis at the frequencies `grid` (cycles per mm); nan beyond what was sampled.

    Brought to the mean of 0 where any slice passes everything.
    """
    frequency = fft.rfftfreq(voxels.shape[axis], step)
    power = _line_power(voxels, weight * _fade(voxels.shape, axis), axis)
    logs = np.full(grid.shape, np.nan)
    for index, centre in enumerate(grid):
        near = np.abs(frequency - centre) < _HALF_WINDOW
        if centre <= 0.95 * frequency[-1] and near.any() and power[near].mean() > 0:
            logs[index] = np.log(power[near].mean())
    level = logs[(grid < _LEVEL) & np.isfinite(logs)]
    return logs - level.mean() if level.size else np.full(grid.shape, np.nan)


def _sharpest(spectra: NDArray[np.float64], steps: NDArray[np.float64], grid: NDArray[np.float64]) -> int:
    """Of the axes sampled about as finely as the finest, the one with most energy in the upper half of the band."""
    upper = grid > 0.5 * grid[-1]

    def detail(axis: int) -> float:
        known = spectra[axis][upper & np.isfinite(spectra[axis])]
        return float(known.mean()) if known.size else -np.inf

    fine = [axis for axis in range(3) if steps[axis] < 1.1 * steps.min()]
    return max(fine, key=detail)


def _relative_blur(ratio: NDArray[np.float64], grid: NDArray[np.float64]) -> float:
    """FWHM in mm of the Gaussian whose power response matches exp(`ratio`) where the amplitude has halved."""
    known = np.flatnonzero(np.isfinite(ratio))
    if not known.size:
        return 0.0
    fallen = known[ratio[known] < np.log(_HALF_AMPLITUDE)]
    at = int(fallen[0]) if fallen.size else int(known[-1])
    variance = max(-float(ratio[at]), 0.0) / (4.0 * np.pi**2 * grid[at] ** 2)
    return FWHM_PER_SIGMA * float(np.sqrt(variance))


def _pair(reference: ArrayLike, restored: ArrayLike) -> tuple[Voxels, Voxels]:
    """Two volumes of one shape, float32."""
    truth, result = np.asarray(reference, dtype=np.float32), np.asarray(restored, dtype=np.float32)
    if truth.ndim != 3 or truth.shape != result.shape:
        raise MedganError(f"two volumes of one shape are compared, these have {truth.shape} and {result.shape}")
    return truth, result
