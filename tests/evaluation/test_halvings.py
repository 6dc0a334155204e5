from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from medgan.evaluation.halvings import floor_and_matched, halvings, over_halvings
from medgan.evaluation.intensities import intensity_distance, intensity_quantiles


@pytest.mark.parametrize(("real", "synthetic", "size"), [(10, 20, 5), (11, 20, 5), (40, 6, 6), (4, 4, 2)])
def test_all_three_sets_have_one_size_and_no_scan_twice(real: int, synthetic: int, size: int) -> None:
    for one in halvings(real, synthetic, repeats=20):
        assert len(one.first) == len(one.second) == len(one.synthetic) == size
        assert len({*one.first, *one.second}) == 2 * size
        assert len(set(one.synthetic)) == size
        assert max(*one.first, *one.second) < real
        assert max(one.synthetic) < synthetic


def test_every_scan_is_drawn_and_the_seed_decides() -> None:
    found = halvings(9, 30, repeats=60, seed=3)
    assert {k for one in found for k in one.synthetic} == set(range(30))
    assert {k for one in found for k in (*one.first, *one.second)} == set(range(9))
    again, other = (np.array([one.first for one in halvings(9, 30, repeats=60, seed=s)]) for s in (3, 4))
    assert np.array_equal(again, [one.first for one in found])
    assert not np.array_equal(again, other)


def test_floor_and_matched_value() -> None:
    values = np.arange(10.0)
    floor, matched = floor_and_matched(
        halvings(10, 10),
        lambda a, b: abs(values[a].sum() + values[b].sum() - 45),
        lambda a, c: float(len(a) == len(c)),
    )
    assert (floor.value, floor.low, floor.high) == (0, 0, 0)
    assert matched.value == 1


def test_the_interval_holds_the_mean() -> None:
    rare = over_halvings([1.0] * 199 + [0.0])
    assert rare.low <= rare.value <= rare.high


@pytest.mark.parametrize("sizes", [(30, 30), (30, 70)])
def test_intensities_against_scipy(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(sizes[0], 5)), random.gamma(2, size=(sizes[1], 5))
    expected = wasserstein_distance(first.ravel(), second.ravel())
    assert intensity_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_quantiles_stand_for_a_distribution() -> None:
    volume = np.random.default_rng(1).permutation(np.arange(27_000.0)).reshape(30, 30, 30)
    assert intensity_quantiles(volume) == pytest.approx((np.arange(256) + 0.5) / 256 * 26_999, rel=1e-5)
