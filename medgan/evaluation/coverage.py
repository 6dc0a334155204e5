"""Whether synthetic scans lie where real ones do, and whether they reach everywhere that real ones are.

A distance between sets mixes two faults: scans that look like none of the cohort, and parts of the cohort that are
never made. Balls around each scan that reach its k-th nearest neighbour stand for the region of a set, and count both
faults apart. Their size depends on how many scans there are, so all figures are of sets of one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medgan.evaluation.fidelity import Estimate, Features, checked_pair
from medgan.evaluation.halvings import Halving, over_halvings

# As their authors recommend.
PRECISION_NEIGHBOURS = 3
COVERAGE_NEIGHBOURS = 5


@dataclass(frozen=True)
class Regions:
    """How the regions of two sets overlap.

    Args:
        precision: part of the synthetic scans inside the real set's region: do they look real?
        recall: part of the real scans inside the synthetic set's region: is everything made? (Both Kynkäänniemi et al.,
            "Improved precision and recall metric for assessing generative models", NeurIPS 2019.)
        density: in how many real scans' balls a synthetic scan lies, over the neighbours counted; about one, or above
            it where synthetic scans crowd at common real ones. Unlike precision it is not ruled by outliers.
        coverage: part of the real scans with a synthetic one in their ball. (Both Naeem et al., "Reliable fidelity and
            diversity metrics for generative models", ICML 2020.)
    """

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class SetCoverage:
    """The same four figures as means over halvings, with the middle 95 % of these.

    Args:
        precision: see `Regions`.
        recall: see there.
        density: see there.
        coverage: see there.
        precision_neighbours: which neighbour the balls reach for precision and recall.
        coverage_neighbours: which one for density and coverage.
        scans: in each of the two sets.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    precision_neighbours: int
    coverage_neighbours: int
    scans: int


def regions(
    real: Features,
    synthetic: Features,
    *,
    precision_neighbours: int = PRECISION_NEIGHBOURS,
    coverage_neighbours: int = COVERAGE_NEIGHBOURS,
) -> Regions:
    """Precision, recall, density and coverage of the rows of (N, D) and (M, D).

    A scan is not its own neighbour. In sets with too few scans the last neighbour counts.

    Args:
        real: (N, D), at least two rows.
        synthetic: (M, D), at least two rows.
        precision_neighbours: which nearest neighbour the balls reach for precision and recall.
        coverage_neighbours: which one for density and coverage.
    """
    from scipy.spatial.distance import cdist

    distances = cdist(real, real), cdist(synthetic, synthetic), cdist(real, synthetic)
    return _regions(*distances, precision_neighbours, coverage_neighbours)


def set_coverage(
    real_features: Features, synthetic_features: Features, chosen: Sequence[Halving]
) -> tuple[SetCoverage, SetCoverage]:
    """The four figures of synthetic scans against real halves, and of real halves against each other.

    Args:
        real_features: (N, D), standardised.
        synthetic_features: (M, D), standardised in the same way.
        chosen: the halvings.

    Returns:
        Of the synthetic scans, and the floor: what as many real scans get, which is less than one.

    Raises:
        MedganError: a set has fewer than four scans, or the sets differ in D.
    """
    from scipy.spatial.distance import cdist

    real, synthetic = checked_pair(real_features, synthetic_features)
    within_real, within_synthetic, across = cdist(real, real), cdist(synthetic, synthetic), cdist(real, synthetic)
    ours, floor = [], []
    for halving in chosen:
        a, b, c = halving.first, halving.second, halving.synthetic
        reference = within_real[np.ix_(a, a)]
        ours.append(_regions(reference, within_synthetic[np.ix_(c, c)], across[np.ix_(a, c)]))
        floor.append(_regions(reference, within_real[np.ix_(b, b)], within_real[np.ix_(a, b)]))
    return _summary(ours, len(chosen[0].first)), _summary(floor, len(chosen[0].first))


def _regions(
    within_real: Features,
    within_synthetic: Features,
    across: Features,
    precision_neighbours: int = PRECISION_NEIGHBOURS,
    coverage_neighbours: int = COVERAGE_NEIGHBOURS,
) -> Regions:
    """By the distances (N, N), (M, M) and (N, M)."""
    in_real = across <= _radii(within_real, precision_neighbours)[:, None]
    in_synthetic = across <= _radii(within_synthetic, precision_neighbours)[None]
    neighbours = _neighbour(coverage_neighbours, len(within_real))
    crowded = across <= _radii(within_real, coverage_neighbours)[:, None]
    return Regions(
        precision=float(in_real.any(axis=0).mean()),
        recall=float(in_synthetic.any(axis=1).mean()),
        density=float(crowded.sum(axis=0).mean() / neighbours),
        coverage=float(crowded.any(axis=1).mean()),
    )


def _radii(within: Features, neighbours: int) -> NDArray[np.float64]:
    """Distance of each scan to its k-th nearest other one, (N,); the first of a row's sorted distances is its own."""
    return np.asarray(np.sort(within, axis=1)[:, _neighbour(neighbours, len(within))])


def _neighbour(wanted: int, scans: int) -> int:
    return min(wanted, scans - 1)


def _summary(found: Sequence[Regions], scans: int) -> SetCoverage:
    precision, recall, density, coverage = (
        over_halvings([getattr(one, name) for one in found]) for name in ("precision", "recall", "density", "coverage")
    )
    return SetCoverage(
        precision=precision,
        recall=recall,
        density=density,
        coverage=coverage,
        precision_neighbours=_neighbour(PRECISION_NEIGHBOURS, scans),
        coverage_neighbours=_neighbour(COVERAGE_NEIGHBOURS, scans),
        scans=scans,
    )
