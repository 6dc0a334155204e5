"""Intensities inside labels, against numbers that can be done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medgan.evaluation.label_intensities import label_intensities, label_response, mean_inside


def test_figures_of_two_scans() -> None:
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[:2], mask[3, 3, 3] = 5, 9  # 32 voxels of 5, a single one of 9
    real = [np.where(mask == 5, value, 0.1).astype(np.float32) for value in (0.4, 0.8)]
    made = [np.where(mask == 5, value, 0.2).astype(np.float32) for value in (0.5, 0.6)]
    made[0][0] += 0.1
    made[0][1] -= 0.1
    known = mean_inside(real, [mask, mask], (0, 5, 9))
    assert known == pytest.approx({0: 0.1, 5: 0.6})
    background, inside = label_intensities(real, made, [mask, mask], training_means=known)
    assert (background.label, inside.label, inside.scans) == (0, 5, 2)
    assert background.error == pytest.approx(0.1, abs=1e-6)
    assert inside.real_mean == pytest.approx(0.6)
    assert inside.generated_mean == pytest.approx(0.55)
    assert inside.error == pytest.approx((0.1 + 0.2) / 2)
    assert inside.spread == pytest.approx(0.2)
    assert inside.real_deviation == pytest.approx(0, abs=1e-6)
    assert inside.generated_deviation == pytest.approx(0.05, abs=1e-6)


def test_as_many_of_each_are_needed() -> None:
    one = np.zeros((2, 2, 2), np.float32)
    with pytest.raises(ValueError, match="argument"):
        label_intensities([one], [one, one], [one.astype(int)], training_means={0: 0.0})


def test_the_response_to_another_label_map_is_the_share_of_the_labels_contrast() -> None:
    rng = np.random.default_rng(0)
    means = {0: 0.1, 1: 0.8, 2: 0.4}
    pairs = [(rng.integers(0, 3, (6, 7, 8)), rng.integers(0, 3, (6, 7, 8))) for _ in range(4)]
    painted = np.array([0.1, 0.8, 0.4])
    for share in (1.0, 0.3, 0.0, -1.0):
        noise = [0.01 * rng.standard_normal((6, 7, 8)) for _ in pairs]
        changes = [
            (share * (painted[after] - painted[before]) + one).astype(np.float32)
            for (before, after), one in zip(pairs, noise, strict=True)
        ]
        assert label_response(changes, pairs, training_means=means) == pytest.approx(share, abs=0.02)
    # Voxels whose label stays say nothing, nor do labels without a mean.
    still = np.where(pairs[0][0] == pairs[0][1], np.float32(9.0), painted[pairs[0][1]] - painted[pairs[0][0]])
    assert label_response([still], pairs[:1], training_means=means) == pytest.approx(1)
    assert label_response([still], pairs[:1], training_means={0: 0.1, 1: 0.8}) == pytest.approx(1)


def test_no_response_without_a_difference() -> None:
    mask, change = np.zeros((3, 3, 3), int), np.zeros((3, 3, 3), np.float32)
    assert label_response([change], [(mask, mask)], training_means={0: 0.1}) is None
    assert label_response([change], [(mask, mask + 1)], training_means={0: 0.1, 1: 0.11}) is None
    assert label_response([change], [(mask, mask + 1)], training_means={0: 0.1, 1: 0.2}) == 0
