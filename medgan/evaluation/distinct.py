"""How many different scans a set is worth, by its features: the cheap look at collapsed modes during a training.

The Vendi score (Friedman and Dieng, "The Vendi Score: a diversity evaluation metric for machine learning", TMLR 2023)
is the exponential of the entropy of the eigenvalues of a kernel matrix: one for a scan repeated, n for n scans that
have nothing in common. Unlike the mean distance between scans it falls when samples come from few of many modes, and
one outlier hardly moves it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

Floats = NDArray[np.float64]

_SUBSETS = 32


def effective_number(features: Floats, bandwidth: float) -> float:
    """How many different scans the rows of `features` (N, D) are worth, from 1 to N.

    Args:
        features: standardised features.
        bandwidth: standard deviation of the Gaussian kernel, in the distance of `pairwise_distances`.
    """
    kernel = np.exp(-0.5 * (pairwise_distances(features) / bandwidth) ** 2)
    eigenvalues = np.linalg.eigvalsh(kernel / len(features))
    positive = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def relative_diversity(real: Floats, synthetic: Floats, *, seed: int = 0) -> float:
    """The diversity of synthetic scans over that of as many real ones: 0 for one scan repeated, 1 as the cohort.

    It is (e - 1) / (e_real - 1) with the effective numbers e; the kernel is as wide as the median distance between
    different real scans, and e_real is the mean over random subsets of the real set.

    Args:
        real: (N, D), standardised features.
        synthetic: (M, D), standardised in the same way; of more than N rows only the first N count.
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
    bandwidth, random = float(np.median(apart)), np.random.default_rng(seed)
    subsets = [random.permutation(len(real))[:size] for _ in range(_SUBSETS if size < len(real) else 1)]
    of_real = float(np.mean([effective_number(real[rows], bandwidth) for rows in subsets]))
    return (effective_number(synthetic[:size], bandwidth) - 1) / (of_real - 1)


def pairwise_distances(features: Floats) -> Floats:
    """Euclidean distances per feature between the rows of (N, D); shape (N, N)."""
    differences = features[:, None] - features[None]
    return np.asarray(np.sqrt(np.mean(differences**2, axis=2)))
