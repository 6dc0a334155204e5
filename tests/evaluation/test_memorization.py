from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from medgan.errors import MedganError
from medgan.evaluation.memorization import (
    Distances,
    NeighbourStatistics,
    feature_distances,
    nearest_neighbours,
    neighbour_statistics,
    voxel_distances,
)

Arrays = list[NDArray[np.float32]]


def by_voxels(samples: Arrays, training: Arrays, holdout: Arrays | None = None) -> NeighbourStatistics:
    return neighbour_statistics(
        Distances(
            voxel_distances(samples, training),
            voxel_distances(training, training),
            voxel_distances(holdout, training) if holdout else None,
        )
    )


def disguised(scans: Arrays, kind: str) -> Arrays:
    """Copies that a naive comparison of voxels would miss."""
    random = np.random.default_rng(0)
    disguises: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
        "plain": lambda scan: scan.copy(),
        "mirrored": lambda scan: scan[::-1].copy(),
        "brighter": lambda scan: (1.2 * scan + 0.1).astype(np.float32),
        "noisy": lambda scan: scan + random.normal(0, 0.03, scan.shape).astype(np.float32),
        "blurred": lambda scan: ndimage.gaussian_filter(scan, 0.4),
    }
    return [disguises[kind](scan) for scan in scans]


def test_feature_distances_against_scipy() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(5, 9)), random.normal(size=(4, 9))
    np.testing.assert_allclose(feature_distances(x, y), cdist(x, y) / 3)


def test_voxel_distances_against_numpy(heads: Arrays) -> None:
    found = voxel_distances(heads[:3], heads[10:30])
    for i, j in ((0, 0), (2, 7), (1, 19)):
        mirror = heads[i][::-1]
        correlations = [np.corrcoef(scan.ravel(), heads[10 + j].ravel())[0, 1] for scan in (heads[i], mirror)]
        assert found[i, j] == pytest.approx(1 - max(correlations), abs=1e-5)
    assert voxel_distances([np.ones((8, 8, 8))], [np.ones((8, 8, 8))])[0, 0] == 1


def test_nearest_neighbours_by_hand() -> None:
    first, second = nearest_neighbours(np.array([[3.0, 1.0, 5.0, np.inf], [2.0, 2.0, 2.0, 2.0]]))
    assert (first.index, first.distance, first.relative) == (1, 1.0, 0.25)
    assert (second.index, second.distance, second.relative) == (0, 2.0, 1.0)


@pytest.mark.parametrize("kind", ["plain", "mirrored", "brighter", "noisy", "blurred"])
@pytest.mark.parametrize("with_holdout", [True, False])
def test_copies_of_phantoms_are_flagged(heads: Arrays, kind: str, with_holdout: bool) -> None:
    training, holdout = heads[:40], heads[40:50] if with_holdout else None
    found = by_voxels([*disguised(training[5:8], kind), *heads[50:]], training, holdout)
    assert found.flagged == (0, 1, 2)
    assert [neighbour.index for neighbour in found.neighbours[:3]] == [5, 6, 7]
    assert len(found.reference) == (10 if with_holdout else 40)


@pytest.mark.data
@pytest.mark.parametrize("kind", ["plain", "mirrored", "brighter", "noisy", "blurred"])
def test_copies_of_real_scans_are_flagged(small_scans: Arrays, kind: str) -> None:
    training, holdout, fresh = small_scans[:60], small_scans[60:72], small_scans[72:]
    found = by_voxels([*disguised(training[:4], kind), *fresh], training, holdout)
    assert found.flagged == (0, 1, 2, 3)


def test_a_blurred_average_is_close_to_all_but_no_copy(heads: Arrays) -> None:
    average = np.mean(heads[:40], axis=0)
    found = by_voxels([average, average], heads[:40], heads[40:])
    assert found.median_ratio < 0.9
    assert found.flagged == ()


def test_summary_numbers(heads: Arrays) -> None:
    training, holdout, samples = heads[:30], heads[30:45], [*heads[45:], heads[0]]
    found = by_voxels(samples, training, holdout)
    ours, theirs = ([n.relative for n in group] for group in (found.neighbours, found.reference))
    assert found.auc == pytest.approx(mannwhitneyu(theirs, ours).statistic / (len(ours) * len(theirs)))
    medians = [np.median([n.distance for n in group]) for group in (found.neighbours, found.reference)]
    assert found.median_ratio == pytest.approx(medians[0] / medians[1])
    copies = by_voxels(heads[:10], training, holdout)
    assert (copies.median_ratio, copies.auc) == (pytest.approx(0, abs=1e-4), 1.0)


def test_a_repeated_training_scan_does_not_switch_the_alarm_off(heads: Arrays) -> None:
    training = [*heads[:30], heads[0].copy()]
    assert by_voxels([heads[0], heads[40]], training).flagged == (0,)


def test_too_few_scans(heads: Arrays) -> None:
    with pytest.raises(MedganError, match="2 training scans"):
        by_voxels(heads[:1], heads[1:3])
    with pytest.raises(MedganError, match="0 samples"):
        neighbour_statistics(Distances(np.zeros((0, 3)), np.ones((3, 3))))
