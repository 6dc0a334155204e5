"""How many different scans a set is worth, by what shows from afar: the cheap look at collapsed modes in a training.

The Vendi score (Friedman and Dieng, "The Vendi Score: a diversity evaluation metric for machine learning", TMLR 2023)
is the exponential of the entropy of the eigenvalues of a kernel matrix: one for a scan repeated, n for n scans that
have nothing in common. Unlike the mean distance between scans it falls when samples come from few of many modes, and
one outlier hardly moves it.

Scans are compared by coarse copies of one brightness, in which neither noise nor texture nor exposure is left that
would make repeated scans look different. Means and deviations of feature channels, which serve to compare
distributions, do not serve here: all of them follow the brightness, so that one head shown lighter and darker passes
for half of a cohort.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

Floats = NDArray[np.float64]

_SUBSETS = 32
# Voxels along the longest side of a coarse copy.
_COARSE_SIDE = 8
# Of the kernel, in median distances between real scans: half of it keeps different scans apart (exp(-2) alike), and
# joins those at a fifth of the distance (exp(-0.08)).
_BANDWIDTH = 0.5


def coarse_copies(volumes: Iterable[NDArray[Any]]) -> Floats:
    """Each volume as the means of at most 8 x 8 x 8 blocks of equal extent, divided by their root mean square.

    Args:
        volumes: (X, Y, Z), all of one shape, with zero for air.

    Returns:
        (N, D), one row for each; of a volume of zeros, zeros.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool3d

    rows = []
    for volume in volumes:
        stretch = max(1.0, max(volume.shape) / _COARSE_SIDE)
        x, y, z = (max(1, round(side / stretch)) for side in volume.shape)
        whole = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None]
        rows.append(adaptive_avg_pool3d(whole, (x, y, z)).flatten().numpy())
    copies = np.stack(rows).astype(np.float64)
    brightness = np.sqrt(np.mean(copies**2, axis=1, keepdims=True))
    return np.asarray(copies / np.where(brightness > 0, brightness, 1.0))


def effective_number(rows: Floats, bandwidth: float) -> float:
    """How many different scans the rows (N, D) are worth, from 1 to N.

    Args:
        rows: what scans are compared by.
        bandwidth: standard deviation of the Gaussian kernel, in the distance of `pairwise_distances`.
    """
    kernel = np.exp(-0.5 * (pairwise_distances(rows) / bandwidth) ** 2)
    eigenvalues = np.linalg.eigvalsh(kernel / len(rows))
    positive = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def relative_diversity(real: Floats, synthetic: Floats, *, seed: int = 0) -> float:
    """The diversity of synthetic scans over that of as many real ones: 0 for one scan repeated, 1 as the cohort.

    It is (e - 1) / (e_real - 1) with the effective numbers e; the kernel is half as wide as the median distance between
    different real scans, and e_real is the mean over random subsets of the real set.

    Args:
        real: (N, D), what scans are compared by, such as their `coarse_copies`.
        synthetic: (M, D), the same of synthetic ones; of more than N rows only the first N count.
        seed: of the subsets.

    Raises:
        MedganError: either set has fewer than two scans, or the real scans are all alike.
    """
    size = min(len(real), len(synthetic))
    distances = pairwise_distances(real)[np.triu_indices(len(real), k=1)]
    apart = distances[distances > 0]
    if size < 2 or not len(apart):
        raise MedganError(
            f"diversity cannot be compared between {len(real)} real and {len(synthetic)} synthetic scans",
            hint="Give at least two different real scans and two synthetic ones.",
        )
    bandwidth, random = _BANDWIDTH * float(np.median(apart)), np.random.default_rng(seed)
    subsets = [random.permutation(len(real))[:size] for _ in range(_SUBSETS if size < len(real) else 1)]
    of_real = float(np.mean([effective_number(real[rows], bandwidth) for rows in subsets]))
    return (effective_number(synthetic[:size], bandwidth) - 1) / (of_real - 1)


def pairwise_distances(rows: Floats) -> Floats:
    """Euclidean distances per column between the rows of (N, D); shape (N, N)."""
    # One row at a time: the differences of all at once would take N times the memory.
    return np.stack([np.sqrt(np.mean((rows - row) ** 2, axis=1)) for row in rows])
