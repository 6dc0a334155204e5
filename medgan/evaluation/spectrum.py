"""Whether synthetic scans hold as much detail of each size as real ones: power over spatial frequency.

A generator that blurs lacks power at high frequencies, one that leaves checkerboards or noise has too much there. Both
may hide in a picture of a mid-plane. Frequencies are physical, in cycles per millimetre, so that thick slices are not
mistaken for blur.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of normalised voxels: noise with a standard deviation of 1e-5 has as much, which nothing can show.
_LEAST_POWER = 1e-10


@dataclass(frozen=True)
class Spectra:
    """Mean radial spectra of two sets, for drawing.

    Args:
        frequencies: centre of each band, in cycles per mm, or per voxel where no spacing was given; (B,).
        real: mean power of the real scans in decibels, (B,); 0 dB is white noise with a standard deviation of one.
        synthetic: of the synthetic scans.
        unit: of the frequencies, "1/mm" or "1/voxel".
    """

    frequencies: tuple[float, ...]
    real: tuple[float, ...]
    synthetic: tuple[float, ...]
    unit: str


class RadialBands:
    """Bands of spatial frequency of volumes of one shape and spacing.

    Bands are as wide as the lowest frequency of the longest side, and reach to the highest frequency that any axis
    holds. The mean of a volume (frequency zero) belongs to none.

    Args:
        shape: voxels (X, Y, Z).
        spacing: their size in mm along each axis.
    """

    def __init__(self, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
        self.shape, self.spacing = shape, spacing

    def powers(self, volume: NDArray[Any]) -> Floats:
        """Mean power of a volume (X, Y, Z) in each band in decibels, (B,).

        Power is the squared magnitude of the Fourier transform over the number of voxels: white noise of variance v has
        10 log10(v) in every band.
        """
        import scipy.fft

        transform = scipy.fft.rfftn(np.asarray(volume, dtype=np.float32))
        power = (transform.real**2 + transform.imag**2).ravel()
        band, weight = self._bands
        sums = np.bincount(band, weights=power * weight, minlength=int(band.max()) + 1)
        means = sums[self._kept] / (self._weights[self._kept] * volume.size)
        return np.asarray(10 * np.log10(np.maximum(means, _LEAST_POWER)))

    @cached_property
    def frequencies(self) -> Floats:
        """Mean frequency of the coefficients in each band, (B,)."""
        band, weight = self._bands
        sums = np.bincount(band, weights=self._radii().ravel() * weight)
        return np.asarray(sums[self._kept] / self._weights[self._kept])

    @cached_property
    def _bands(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Band of every coefficient of a real transform, and how many of the full transform it stands for."""
        width = 1 / max(n * step for n, step in zip(self.shape, self.spacing, strict=True))
        radii = self._radii()
        inside = (radii > 0) & (radii <= 0.5 / min(self.spacing) * (1 + 1e-9))
        band = np.where(inside, np.maximum(np.rint(radii / width).astype(np.int64), 1), 0)
        last = self.shape[2]
        twice = np.full(last // 2 + 1, 2.0)
        twice[0] = 1.0
        if last % 2 == 0:
            twice[-1] = 1.0
        return band.ravel(), np.broadcast_to(twice, radii.shape).ravel()

    @cached_property
    def _weights(self) -> Floats:
        band, weight = self._bands
        return np.asarray(np.bincount(band, weights=weight), dtype=np.float64)

    @cached_property
    def _kept(self) -> NDArray[np.int64]:
        """Numbers of the bands that hold coefficients; 0 is what belongs to none."""
        return np.flatnonzero(self._weights[1:] > 0) + 1

    def _radii(self) -> Floats:
        """Magnitude of the frequency of every coefficient of the real transform, (X, Y, Z // 2 + 1)."""
        axes = [np.fft.fftfreq(n, step) for n, step in zip(self.shape[:2], self.spacing[:2], strict=True)]
        axes.append(np.fft.rfftfreq(self.shape[2], self.spacing[2]))
        x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
        return np.asarray(np.sqrt(x**2 + y**2 + z**2))


def spectrum_distance(first: Floats, second: Floats) -> float:
    """Mean over the bands of the absolute difference between two sets' mean spectra, in decibels.

    Args:
        first: (N, B), the spectrum of each scan.
        second: (M, B).
    """
    return float(np.abs(first.mean(0) - second.mean(0)).mean())
