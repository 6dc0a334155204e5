from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_dice
from sklearn.metrics import balanced_accuracy_score

from medgan.evaluation.classification import area_under_curve, balanced_accuracy
from medgan.evaluation.segmentation import dice, surface_distance

SPACING = (1.0, 2.0, 1.5)


def _balls(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grid = np.indices((16, 14, 12))
    found = np.zeros((16, 14, 12), np.int64)
    for label, middle in ((1, (5, 6, 5)), (2, (10, 8, 6))):
        place = np.array(middle)[:, None, None, None] + rng.uniform(-1, 1, (3, 1, 1, 1))
        found[((grid - place) ** 2).sum(axis=0) < 12] = label
    return found


def _one_hot(labels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([labels == label for label in range(3)])[None].astype(np.float32))


def test_dice_by_hand() -> None:
    truth, found = np.zeros((4, 1, 1), int), np.zeros((4, 1, 1), int)
    truth[:3], found[1:] = 1, 1
    assert dice(truth, found, [1]) == pytest.approx([2 * 2 / 6])
    assert dice(truth, np.zeros_like(found), [1]).tolist() == [0]
    assert np.isnan(dice(np.zeros_like(truth), found, [1])).all()


def test_both_agree_with_monai() -> None:
    for seed in range(4):
        truth, found = _balls(seed), _balls(seed + 100)
        both = _one_hot(found), _one_hot(truth)
        np.testing.assert_allclose(
            dice(truth, found, [1, 2]), compute_dice(*both, include_background=False)[0].numpy(), atol=1e-6
        )
        theirs = compute_average_surface_distance(*both, include_background=False, symmetric=True, spacing=SPACING)
        np.testing.assert_allclose(surface_distance(truth, found, [1, 2], SPACING), theirs[0].numpy(), atol=1e-5)


def test_nothing_found_is_never_better_than_something() -> None:
    truth = _balls(0)
    nothing = surface_distance(truth, np.zeros_like(truth), [1], SPACING)
    assert nothing == pytest.approx([np.hypot(np.hypot(16, 28), 18)])
    far = np.zeros_like(truth)
    far[-1, -1, -1] = 1
    assert surface_distance(truth, far, [1], SPACING) < nothing
    assert np.isnan(surface_distance(np.zeros_like(truth), far, [1], SPACING)).all()


def test_balanced_accuracy_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 60, p=[0.7, 0.2, 0.1])
    probabilities = rng.dirichlet(np.ones(3), 60)
    assert balanced_accuracy(truth, probabilities) == pytest.approx(
        balanced_accuracy_score(truth, probabilities.argmax(axis=1))
    )
    assert np.isnan(area_under_curve(np.zeros(5, int), probabilities[:5]))
