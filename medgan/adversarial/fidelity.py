"""How far a restored volume is from the true one: distances to minimise.

Pure functions of `restored` and `truth`, both (B, 1, X, Y, Z) and in the same units. Each returns the mean as a
scalar, is differentiable, and computes in float32 (or the tensors' float64), whatever autocast asks for: squares of
small differences vanish in half precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

# Bands fainter than this, in normalised intensity, are noise or air and count for less.
_FAINT = 1e-3

Distance = Callable[[Tensor, Tensor], Tensor]

CHARBONNIER_SCALE = 1e-3
"""Difference, in normalised intensity, below which the Charbonnier distance turns quadratic."""


def _difference(restored: Tensor, truth: Tensor) -> Tensor:
    """`restored` minus `truth`, at least in float32."""
    if restored.shape != truth.shape:
        raise ValueError(f"restored and truth differ in shape: {tuple(restored.shape)}, {tuple(truth.shape)}")
    precision = torch.promote_types(torch.promote_types(restored.dtype, truth.dtype), torch.float32)
    return restored.to(precision) - truth.to(precision)


def absolute_distance(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference (L1): minimised by the median of what is possible, which keeps edges crisp."""
    return _difference(restored, truth).abs().mean()


def squared_distance(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference (L2): minimised by the mean of what is possible; what PSNR measures."""
    return _difference(restored, truth).square().mean()


def charbonnier_distance(restored: Tensor, truth: Tensor, *, scale: float = CHARBONNIER_SCALE) -> Tensor:
    """sqrt(d^2 + scale^2) - scale: L1 far above `scale`, d^2 / (2 scale) far below, smooth at zero (Charbonnier et al.
    1994). Equal volumes are at distance zero.
    """
    # hypot keeps the precision that a square of a float32 would lose.
    difference = _difference(restored, truth)
    return (torch.hypot(difference, torch.full_like(difference, scale)) - scale).mean()


def gradient_distance(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the intensity gradients: forward differences along X, Y and Z, each axis counted
    alike. A constant offset costs nothing, blur and displaced edges do; axes with one voxel have no gradient.
    """
    difference = _difference(restored, truth)
    axes = [axis for axis in (-3, -2, -1) if difference.shape[axis] > 1]
    if not axes:
        return 0.0 * difference.sum()
    return torch.stack([difference.diff(dim=axis).abs().mean() for axis in axes]).mean()


def spectral_distance(restored: Tensor, truth: Tensor) -> Tensor:
    """Mean modulus of the difference of the two discrete Fourier spectra over X, Y and Z (unitary, phase included).

    The squares would repeat L2 (Parseval); the modulus gives the weak high frequencies a say that the strong low ones
    deny them there.
    """
    difference = _difference(restored, truth)
    with torch.autocast(difference.device.type, enabled=False):
        return torch.fft.fftn(difference, dim=(-3, -2, -1), norm="ortho").abs().mean()


def detail_energy_distance(restored: Tensor, truth: Tensor, *, window: int = 6) -> Tensor:
    """How much the strength of fine detail differs, wherever it lies: zero for as much texture as in the truth.

    Second differences along each axis, squared and averaged over boxes of `window` voxels a side, give the local root
    mean square of fine detail; the mean absolute difference of these is taken in units of the truth's mean. A blurred
    restoration has too little of it, whatever its mean square error; detail at the wrong place costs nothing here.

    Args:
        restored: (B, 1, X, Y, Z), at least `window` + 2 voxels a side.
        truth: the same shape.
        window: side of the boxes in voxels; they do not overlap.
    """
    precision = torch.promote_types(torch.promote_types(restored.dtype, truth.dtype), torch.float32)

    def strength(volumes: Tensor, axis: int) -> Tensor:
        squares = volumes.to(precision).diff(n=2, dim=axis).square()
        # The root is not differentiable at zero.
        return (avg_pool3d(squares, window) + 1e-8).sqrt()

    distances = []
    for axis in (-3, -2, -1):
        expected = strength(truth, axis)
        distances.append((strength(restored, axis) - expected).abs().mean() / expected.mean())
    return torch.stack(distances).mean()


def band_energy_distance(restored: Tensor, truth: Tensor, *, bands: int = 5) -> Tensor:
    """How much the power spectra along the three axes differ: zero for as much of every band as in the truth.

    Along each axis the amplitudes of a patch are summed in `bands` bands of equal width up to the Nyquist frequency,
    under a Hann window so that the patch's borders do not count as detail. The mean absolute difference of the root
    mean squares is taken in units of the truth's, so that a faint band counts as much as a strong one. Phase does not
    matter: detail at the wrong place costs nothing here.

    Args:
        restored: (B, 1, X, Y, Z), at least 2 `bands` voxels a side.
        truth: the same shape.
        bands: how many bands; the lowest is left out, the fidelity term rules it.
    """
    distances = []
    with torch.autocast(restored.device.type, enabled=False):
        for axis in (-3, -2, -1):
            found, expected = (_band_amplitudes(one.float(), axis, bands)[:, 1:] for one in (restored, truth))
            distances.append(((found - expected).abs() / (expected + _FAINT)).mean())
    return torch.stack(distances).mean()


def _band_amplitudes(volumes: Tensor, axis: int, bands: int) -> Tensor:
    """Root mean square per voxel of each band along an axis: (B, bands)."""
    lines = volumes.movedim(axis, -1).flatten(1, -2)
    size = lines.shape[-1]
    window = torch.hann_window(size, periodic=False, dtype=lines.dtype, device=lines.device)
    power = torch.fft.rfft(lines * window, norm="ortho").abs().square().mean(1)[:, 1:]
    band = torch.arange(power.shape[1], device=lines.device) * bands // power.shape[1]
    sums = torch.zeros(len(power), bands, dtype=power.dtype, device=lines.device).index_add(1, band, power)
    # The root is not differentiable at zero.
    return (sums / size + 1e-12).sqrt()


DISTANCES: dict[str, Distance] = {
    "l1": absolute_distance,
    "l2": squared_distance,
    "charbonnier": charbonnier_distance,
}
