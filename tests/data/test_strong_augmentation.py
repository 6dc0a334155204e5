from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from medgan.data.strong_augmentation import Strengths, augmented

SHAPE = (12, 16, 10)
SPACING = (2.0, 1.0, 3.0)
NOTHING = Strengths(**{one.name: type(one.default)(0) for one in fields(Strengths)})


def _pair(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.zeros(count, *SHAPE, dtype=torch.int64)
    labels[:, 3:8, 5:11, 3:7] = 1
    labels[:, 8:10, 5:11, 3:7] = 2
    return labels[:, None].float() / 2, labels


def _strengths(**chosen: float | bool) -> Strengths:
    return Strengths(**{**vars(NOTHING), **chosen})


def test_nothing_asked_changes_nothing() -> None:
    volumes, labels = _pair()
    found, moved = augmented(volumes, labels, SPACING, NOTHING, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, volumes, atol=1e-5, rtol=0)
    assert moved is not None
    assert torch.equal(moved, labels)


@pytest.mark.parametrize("chosen", [{"rotation": 25.0}, {"scaling": 0.3}, {"bending": 0.05}, {"flip": True}])
def test_scan_and_labels_move_alike(chosen: dict) -> None:
    volumes, labels = _pair(4)
    found, moved = augmented(volumes, labels, SPACING, _strengths(**chosen), torch.Generator().manual_seed(1))
    assert moved is not None
    assert not torch.equal(moved, labels)
    assert set(moved.unique().tolist()) == {0, 1, 2}
    # The scan is its own label map, so it rounds to it but at the borders.
    agreeing = ((found[:, 0] * 2).round().long() == moved).float().mean()
    assert agreeing > 0.93


def test_places_are_those_of_independent_arithmetic() -> None:
    """A translation alone moves the centre of mass by what the seed draws, the same for scan and labels."""
    volumes = torch.zeros(8, 1, *SHAPE)
    volumes[:, :, 5:7, 7:9, 4:6] = 1
    found, _ = augmented(volumes, None, SPACING, _strengths(translation=0.2), torch.Generator().manual_seed(2))
    positions = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in SHAPE), indexing="ij")
    middles = torch.stack([(found[:, 0] * one).sum((1, 2, 3)) / found.sum((1, 2, 3, 4)) for one in positions], dim=1)
    shifts = (middles - (torch.tensor(SHAPE) - 1) / 2) / torch.tensor(SHAPE)
    assert shifts.abs().max() <= 0.2 + 1e-4
    assert shifts.std(dim=0).min() > 0.04


def test_mirroring_exchanges_left_and_right() -> None:
    volumes = torch.rand(16, 1, *SHAPE)
    found, _ = augmented(volumes, None, SPACING, _strengths(flip=True), torch.Generator().manual_seed(3))
    kept = [torch.allclose(one, other, atol=1e-4) for one, other in zip(found, volumes, strict=True)]
    turned = [torch.allclose(one, other.flip(1), atol=1e-4) for one, other in zip(found, volumes, strict=True)]
    assert all(a != b for a, b in zip(kept, turned, strict=True))
    assert 0 < sum(kept) < 16


@pytest.mark.parametrize("chosen", [{"gamma": 0.5}, {"contrast": 0.3}, {"bias": 0.4}, {"noise": 0.1}, {"blur": 1.0}])
def test_intensities_change_and_labels_do_not(chosen: dict) -> None:
    volumes, labels = _pair(8)
    volumes = (volumes + 0.1) / 1.3
    found, moved = augmented(volumes, labels, SPACING, _strengths(**chosen), torch.Generator().manual_seed(4))
    assert moved is not None
    assert torch.equal(moved, labels)
    changes = (found - volumes).abs().amax(dim=(1, 2, 3, 4))
    assert 0 < (changes > 1e-3).sum() < 8
    assert torch.isfinite(found).all()


def test_a_seed_gives_one_batch() -> None:
    volumes, labels = _pair()
    first, second = (
        augmented(volumes, labels, SPACING, Strengths(), torch.Generator().manual_seed(5))[0] for _ in range(2)
    )
    assert torch.equal(first, second)


def test_strong_as_it_is_anatomy_stays_in_one_piece() -> None:
    labels = torch.zeros(6, 24, 24, 24, dtype=torch.int64)
    labels[:, 7:17, 8:16, 6:18] = 1
    _, moved = augmented(
        labels[:, None].float(), labels, (1, 1, 1), Strengths(flip=True), torch.Generator().manual_seed(6)
    )
    assert moved is not None
    for one in moved.numpy():
        assert label(one > 0)[1] == 1
        assert 0.4 < np.count_nonzero(one) / np.count_nonzero(labels[0].numpy()) < 2.5
