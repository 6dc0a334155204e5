from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from medgan.evaluation.coverage import Regions, regions, set_coverage
from medgan.evaluation.halvings import halvings

Rows = NDArray[np.float64]


def column(*values: float) -> Rows:
    return np.array(values, dtype=np.float64)[:, None]


def test_by_hand_on_the_line() -> None:
    """Real scans at 0, 1, 3 have balls to their nearest other one of radius 1, 1, 2; the synthetic ones at 0.5, 2, 9
    have 1.5, 1.5, 7.

    The real balls hold 0.5 twice (of 0 and of 1), 2 twice (of 1 and of 3), 9 never. The synthetic balls hold 0 (of
    0.5), 1 (of 0.5 and 2), 3 (of 2 and of 9).
    """
    found = regions(column(0, 1, 3), column(0.5, 2, 9), precision_neighbours=1, coverage_neighbours=1)
    assert found == Regions(precision=2 / 3, recall=1.0, density=4 / 3, coverage=1.0)


def test_an_outlier_raises_precision_but_hardly_density() -> None:
    """A real scan at 100 has a ball that holds everything: precision believes it, density counts one of many."""
    real, synthetic = column(0, 1, 2, 3, 100), column(40, 41, 42, 43, 44)
    found = regions(real, synthetic, precision_neighbours=1, coverage_neighbours=1)
    assert (found.precision, found.density, found.coverage) == (1.0, 1.0, 0.2)
    assert found.recall == 0


def test_against_neighbours_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    real, synthetic = random.normal(size=(40, 5)), random.normal(0.4, 0.8, (30, 5))
    expected = {}
    for k in (3, 5):
        within = NearestNeighbors(n_neighbors=k).fit(real).kneighbors()[0][:, -1]
        of_synthetic = NearestNeighbors(n_neighbors=k).fit(synthetic).kneighbors()[0][:, -1]
        apart = np.linalg.norm(real[:, None] - synthetic[None], axis=2)
        held = apart <= within[:, None]
        expected[k] = (
            held.any(0).mean(),
            (apart <= of_synthetic).any(1).mean(),
            held.sum() / (k * 30),
            held.any(1).mean(),
        )
    found = regions(real, synthetic)
    assert (found.precision, found.recall) == pytest.approx(expected[3][:2])
    assert (found.density, found.coverage) == pytest.approx(expected[5][2:])


def test_as_the_authors_promise_for_equal_distributions() -> None:
    """Naeem et al., section 3.3: density is one, coverage 1 - 1/2^k for as many scans."""
    random = np.random.default_rng(1)
    found = [regions(random.normal(size=(60, 3)), random.normal(size=(60, 3))) for _ in range(100)]
    assert np.mean([one.density for one in found]) == pytest.approx(1, abs=0.03)
    assert np.mean([one.coverage for one in found]) == pytest.approx(1 - 0.5**5, abs=0.01)


def test_missing_modes_cost_recall_and_coverage_but_not_precision() -> None:
    random = np.random.default_rng(2)
    centres = np.array([[0, 0], [20, 0], [0, 20], [20, 20]])
    real = centres[np.arange(80) % 4] + random.normal(size=(80, 2))
    some = centres[np.arange(80) % 2] + random.normal(size=(80, 2))
    ours, floor = set_coverage(real, some, halvings(80, 80))
    assert ours.scans == floor.scans == 40
    assert ours.precision.value == pytest.approx(floor.precision.value, abs=0.1)
    assert ours.recall.high < 0.65 < floor.recall.low
    assert ours.coverage.high < 0.65 < floor.coverage.low


def test_invented_scans_cost_precision_but_not_recall() -> None:
    random = np.random.default_rng(3)
    real = random.normal(size=(80, 2))
    half_wild = np.concatenate([random.normal(size=(80, 2)), random.normal(30, 1, (80, 2))])
    ours, floor = set_coverage(real, half_wild, halvings(80, 160))
    assert ours.precision.value == pytest.approx(0.5 * floor.precision.value, abs=0.1)
    assert ours.recall.value == pytest.approx(floor.recall.value, abs=0.1)


def test_few_scans_use_the_neighbours_that_there_are() -> None:
    random = np.random.default_rng(4)
    ours, _ = set_coverage(random.normal(size=(8, 3)), random.normal(size=(5, 3)), halvings(8, 5))
    assert (ours.scans, ours.precision_neighbours, ours.coverage_neighbours) == (4, 3, 3)
