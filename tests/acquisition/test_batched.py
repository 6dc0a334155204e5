"""Several acquisitions applied to one batch: the same as one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.acquisition import Acquisition
from medgan.acquisition.batched import batch_of
from medgan.acquisition.condition import CONDITIONS, condition
from medgan.acquisition.drawn import drawn_acquisition, drawn_noise
from medgan.errors import MedganError
from medgan.recipe import RandomAcquisition

SHAPE = (12, 10, 24)


def acquisitions() -> list[Acquisition]:
    return [
        Acquisition.between(SHAPE, low, high_spacing=(1, 1, 1), thickness=thickness, profile=profile)
        for low, thickness, profile in [
            ((12, 10, 6), None, "gaussian"),
            ((6, 5, 12), None, "rectangular"),
            ((12, 10, 24), None, "gaussian"),
            ((5, 10, 7), (None, None, 2.0), ("band_limit", "gaussian", "gaussian")),
        ]
    ]


@pytest.mark.parametrize("role", ["forward", "inverse", "adjoint"])
def test_a_batch_does_what_its_items_do_alone(role: str) -> None:
    alone = acquisitions()
    batch = batch_of(alone)
    rng = torch.Generator().manual_seed(0)
    shapes = [SHAPE] * 4 if role == "forward" else [one.low_shape for one in alone]
    items = [torch.randn(2, *shape, generator=rng, dtype=torch.float64) for shape in shapes]
    largest = SHAPE if role == "forward" else batch.low_shape
    stacked = torch.zeros(4, 2, *largest, dtype=torch.float64)
    for place, item in enumerate(items):
        x, y, z = item.shape[1:]
        stacked[place, :, :x, :y, :z] = item
    together = getattr(batch, role)(stacked)
    for place, (one, item) in enumerate(zip(alone, items, strict=True)):
        expected = getattr(one, role)(item)
        x, y, z = expected.shape[1:]
        torch.testing.assert_close(together[place, :, :x, :y, :z], expected, rtol=0, atol=1e-12)
        assert together[place].abs().sum() == pytest.approx(float(expected.abs().sum()))  # nothing beside it


def test_the_unmeasured_part_is_what_the_scanner_does_not_see() -> None:
    batch = batch_of(acquisitions())
    residual = torch.randn(4, 1, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    hidden = batch.unmeasured(residual)
    seen_before, seen_after = batch.forward(residual), batch.forward(hidden)
    assert seen_after.norm() < 0.05 * seen_before.norm()
    assert hidden[2].abs().max() < 1e-12  # where nothing was lost, nothing is hidden


def test_filled_up_voxels_are_told_apart() -> None:
    batch = batch_of(acquisitions())
    assert batch.low_shape == (12, 10, 24)
    voxels = batch.measured(torch.device("cpu")).sum(dim=(1, 2, 3, 4))
    assert voxels.tolist() == [12 * 10 * 6, 6 * 5 * 12, 12 * 10 * 24, 5 * 10 * 7]


def test_a_batch_needs_one_high_resolution_shape() -> None:
    other = Acquisition.between((12, 10, 20), (12, 10, 5), high_spacing=(1, 1, 1))
    with pytest.raises(MedganError, match="one and the same"):
        batch_of([acquisitions()[0], other])


def test_the_condition_says_what_was_lost() -> None:
    thick, isotropic, nothing, mixed = (np.reshape(condition(one), (3, 3)) for one in acquisitions())
    assert CONDITIONS == 9
    np.testing.assert_allclose(thick, [[0, 0, 0], [0, 0, 0], [2, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(isotropic[:, 0], 1)
    assert not nothing.any()
    np.testing.assert_allclose(mixed[0], [np.log2(12 / 5), 0, 1])
    np.testing.assert_allclose(mixed[2], [np.log2(24 / 7), np.log2(2.0 / (24 / 7)), 0])


def test_drawn_acquisitions_have_the_asked_for_shares() -> None:
    options = RandomAcquisition(
        through_plane_share=0.5, isotropic_share=0.3, profiles=("gaussian", "rectangular"), noise=0.05
    )
    generators = [np.random.default_rng([3, number]) for number in range(400)]
    drawn = [drawn_acquisition(options, (24, 24, 24), rng) for rng in generators]
    factors = np.array([one.factor for one in drawn])
    assert (np.diff(factors, axis=1) >= -1e-9).all()  # the thickest slices lie across the last axis
    assert ((factors >= 1) & (factors <= 6.01)).all()
    through = (factors[:, :2] == 1).all(axis=1)
    isotropic = np.ptp(factors, axis=1) == 0
    assert through.mean() == pytest.approx(0.5, abs=0.08)
    assert isotropic.mean() == pytest.approx(0.3, abs=0.08)
    assert {one.profile[2] for one in drawn} >= {"gaussian", "rectangular"}
    ratios = np.array([one.thickness[2] / one.low_spacing[2] for one in drawn if one.thickness[2] is not None])
    assert (np.abs(ratios - 1) < 1e-9).mean() == pytest.approx(0.5, abs=0.1)
    assert ratios.min() >= 0.6 - 1e-9
    assert ratios.max() <= 1.2 + 1e-9
    noise = np.array([drawn_noise(options, rng) for rng in generators])
    assert (noise == 0).mean() == pytest.approx(0.5, abs=0.08)
    assert 0.03 < noise.max() <= 0.05


def test_the_same_generator_draws_the_same_acquisition() -> None:
    options = RandomAcquisition()
    first, second = (drawn_acquisition(options, SHAPE, np.random.default_rng(8)) for _ in range(2))
    assert first == second
