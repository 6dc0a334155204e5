"""What a translated scan is held against: the best that intensities alone could do, and the target's histogram."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.errors import MedganError

# Of normalised intensities: what lies outside counts to the outermost bins.
_LOWEST, _HIGHEST, _BINS = -0.5, 2.0, 256
_QUANTILES = 512
# Normalised intensities below this are mostly air, which would rule every histogram.
AIR = 0.05
# A patch's dark voxels are air only if there are many of them: there are dark tissues, too.
_LEAST_AIR = 0.1
# Contrasts whose intensities differ by less have nothing that must change.
_LEAST_DISTANCE = 0.02


@dataclass(frozen=True)
class IntensityMap:
    """The global map of intensities with the least squared error: for each of 256 bins of the source's normalised
    intensity the mean of the target's. It knows nothing of a voxel's surroundings; what a network gains over it, it
    gains by looking at them.

    Args:
        values: the target's means, by bins of equal width from -0.5 to 2.
    """

    values: NDArray[np.float64]

    @classmethod
    def fitted(cls, pairs: Iterable[tuple[ArrayLike, ArrayLike]]) -> IntensityMap:
        """From (source, target) pairs of normalised voxels on one grid; empty bins are interpolated.

        Raises:
            MedganError: there is no pair, or shapes differ.
        """
        totals, counts = np.zeros(_BINS), np.zeros(_BINS)
        for source, target in pairs:
            first, second = np.asarray(source), np.asarray(target)
            if first.shape != second.shape:
                raise MedganError(f"a pair must have one shape, not {first.shape} and {second.shape}")
            bins = _bins(first).ravel()
            totals += np.bincount(bins, second.ravel(), minlength=_BINS)
            counts += np.bincount(bins, minlength=_BINS)
        seen = counts > 0
        if not seen.any():
            raise MedganError("there is no pair of scans from which a map of intensities could be made")
        places = np.arange(_BINS)
        return cls(np.interp(places, places[seen], totals[seen] / counts[seen]))

    def applied(self, source: ArrayLike) -> NDArray[np.float32]:
        """The target's normalised intensities that a source's stand for; same shape."""
        return self.values[_bins(np.asarray(source))].astype(np.float32)


def intensity_distance(first: Iterable[ArrayLike], second: Iterable[ArrayLike]) -> float:
    """How far the intensities of two sets of normalised scans differ, air left out: the mean absolute difference of
    their quantiles (the Wasserstein-1 distance).

    Raises:
        MedganError: a set holds nothing but air.
    """
    one, other = _quantiles(first), _quantiles(second)
    return float(np.abs(one - other).mean())


def relative_change(source: ArrayLike, made: ArrayLike, targets: ArrayLike) -> float | None:
    """How much a translation changes intensities, over the least that turns those of the sources into the targets'.

    No map of intensities whatever can do so with a smaller mean absolute change than the Wasserstein-1 distance of the
    two contrasts, so that a faithful translation has about 1 or more; it is 0 for scans that stay as they are.

    Args:
        source: normalised voxels of any shape.
        made: what became of them, of the same shape.
        targets: normalised voxels of the other contrast, of anybody.

    Returns:
        The share, air left out; None where the contrasts' intensities hardly differ or there is nothing but air.
    """
    before, after = np.asarray(source, dtype=np.float64), np.asarray(made, dtype=np.float64)
    seen = before > AIR
    if not (seen.any() and (np.asarray(targets) > AIR).any()):
        return None
    distance = intensity_distance([before], [targets])
    if distance < _LEAST_DISTANCE:
        return None
    return float(np.abs(after - before)[seen].mean() / distance)


def air_brightness(source: ArrayLike, made: ArrayLike) -> float | None:
    """Mean of a translation where its source is air, less its mean elsewhere, in normalised intensity: below 0 but for
    a translation that turns dark and bright around.

    Args:
        source: normalised voxels of any shape.
        made: what became of them, of the same shape.

    Returns:
        None where less than a tenth of the source is air, or all of it.
    """
    air = np.asarray(source) < AIR
    if air.mean() < _LEAST_AIR or air.all():
        return None
    after = np.asarray(made, dtype=np.float64)
    return float(after[air].mean() - after[~air].mean())


def _quantiles(scans: Iterable[ArrayLike]) -> NDArray[np.float64]:
    values = [np.asarray(scan).ravel() for scan in scans]
    seen = np.concatenate([one[one > AIR] for one in values]) if values else np.empty(0)
    if not len(seen):
        raise MedganError("there is nothing but air in a set of scans whose intensities are to be compared")
    return np.quantile(seen.astype(np.float64), (np.arange(_QUANTILES) + 0.5) / _QUANTILES)


def _bins(voxels: NDArray[np.floating]) -> NDArray[np.intp]:
    scaled = (voxels - _LOWEST) * (_BINS / (_HIGHEST - _LOWEST))
    return np.clip(scaled, 0, _BINS - 1).astype(np.intp)
