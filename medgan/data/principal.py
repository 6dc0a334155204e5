"""The linear model of a cohort: its mean scan and the directions in which its scans vary most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Components are found on grids of at most as many voxels: they are smooth, and a model carries them along.
MOST_VOXELS = 1 << 16
# With as many components as scans, a scan of the cohort is a point of the model: fewer hide it among others.
SCANS_PER_COMPONENT = 4


@dataclass(frozen=True)
class PrincipalComponents:
    """A normal distribution of scans: the mean plus standard normal numbers times the components, and what labels add.

    Args:
        mean: (X, Y, Z), float32, normalised to about 0..1.
        components: (K, X, Y, Z), float32, orthogonal, each as long as the standard deviation along it, longest first.
        lowest: the lowest intensity of the scans.
        explained: share of the scans' variance, 0..1, that the components hold together; what labels explain apart.
        effects: (L, X, Y, Z), float32, what each of L numbers that say a label adds to the mean; None without labels.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    lowest: float
    explained: float
    effects: NDArray[np.float32] | None = None


def component_count(scans: int, wanted: int) -> int:
    """How many components `scans` of them support: at most a quarter as many, lest a component be one person's; mirror
    images show no other person.
    """
    return min(wanted, scans // SCANS_PER_COMPONENT)


def principal_components(
    volumes: Sequence[NDArray[Any]], count: int, *, flip: bool = False, distances: NDArray[Any] | None = None
) -> PrincipalComponents:
    """Principal component analysis of scans (Pearson 1901), by the eigenvectors of their scalar products.

    Args:
        volumes: arrays (X, Y, Z) of one shape, normalised to about 0..1, X from left to right.
        count: how many components, below the number of scans.
        flip: whether each scan counts together with its left-right mirror image.
        distances: (N, L), how far the scans' labels lie from their means, as numbers, 0 where not known; components
            then hold what a linear regression of the distance from the mean scan leaves, whose coefficients are the
            effects.

    Raises:
        ValueError: there are not more scans than components.
    """
    shape = np.shape(volumes[0])
    lowest = float(min(np.min(volume) for volume in volumes))
    rows = np.stack([np.asarray(volume, dtype=np.float32).ravel() for volume in volumes])
    if flip:
        mirrored = np.flip(rows.reshape(-1, *shape), axis=1).reshape(len(rows), -1)
        rows = np.concatenate((rows, mirrored))
        distances = None if distances is None else np.concatenate((distances, distances))
    if count >= len(rows):
        raise ValueError(f"{len(rows)} scans do not vary in {count} directions")
    mean = rows.mean(axis=0, dtype=np.float64)
    rows = rows - mean.astype(np.float32)
    effects = None
    if distances is not None:
        effects = np.linalg.lstsq(np.asarray(distances, dtype=np.float64), rows, rcond=None)[0]
        rows = rows - (distances @ effects).astype(np.float32)
    products = rows.astype(np.float64) @ rows.T.astype(np.float64)
    variances, weights = np.linalg.eigh(products / (len(rows) - 1))
    variances, weights = variances[::-1][:count], weights[:, ::-1][:, :count]
    # A direction's sign is arbitrary; routines of linear algebra differ in it.
    strongest = np.abs(weights).argmax(axis=0)
    weights = weights * np.sign(weights[strongest, np.arange(count)])
    components = (weights.T @ rows) / np.sqrt(len(rows) - 1)
    total = float(np.trace(products)) / (len(rows) - 1)
    return PrincipalComponents(
        mean.astype(np.float32).reshape(shape),
        components.astype(np.float32).reshape(count, *shape),
        lowest,
        float(variances.sum() / total) if total > 0 else 1.0,
        None if effects is None else effects.astype(np.float32).reshape(-1, *shape),
    )
