from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from medgan.adversarial.augmentation import (
    _gathered,
    affinely_resampled,
    augmented,
    boxes,
    gamma_curve,
    rotation_matrices,
    shading,
)
from medgan.recipe import AugmentationOptions

SPACING = (1.0, 1.5, 2.5)
NOTHING = dict.fromkeys(("rotation", "scale", "shift", "intensity", "gamma", "bias_field", "noise", "cutout"), 0.0)


def _options(**changes: float) -> AugmentationOptions:
    return AugmentationOptions(**{**NOTHING, **changes})  # type: ignore[arg-type]


def _volumes(count: int = 3, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    numbers = torch.rand(count, 1, 6, 5, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return 1.6 * numbers - 0.8


def _augmented(volumes: Tensor, probability: Any, options: AugmentationOptions, *, flip: bool = False) -> Tensor:
    torch.manual_seed(1)
    return augmented(volumes, probability, options, spacing=SPACING, flip=flip)


@pytest.mark.parametrize("probability", [0.0, torch.zeros(())])
def test_a_probability_of_zero_is_the_identity(probability: float | Tensor) -> None:
    volumes = _volumes(8)
    assert torch.equal(_augmented(volumes, probability, AugmentationOptions(), flip=True), volumes)


@pytest.mark.parametrize("change", sorted(NOTHING))
def test_every_change_changes_every_volume_at_one(change: str) -> None:
    options = _options(**{change: 45.0 if change == "rotation" else 0.5})
    volumes = _volumes(6)
    changed = _augmented(volumes, 1.0, options)
    assert changed.shape == volumes.shape
    assert torch.isfinite(changed).all()
    assert ((changed - volumes).abs().flatten(1).amax(1) > 1e-3).all()


def test_each_volume_is_chosen_on_its_own() -> None:
    volumes = torch.rand(2000, 1, 1, 1, 2)
    changed = (_augmented(volumes, 0.3, _options(intensity=0.5)) != volumes).flatten(1).any(1)
    # The standard error of a share of 0.3 in 2000 is one per cent.
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("seed", range(3))
def test_resampling_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.standard_normal((7, 9, 5))
    matrix = rotation_matrices(torch.tensor(rng.uniform(-1, 1, (1, 3)))).numpy()[0] * rng.uniform(0.8, 1.2)
    shift, step = rng.uniform(-3, 3, 3), np.diag(SPACING)
    ours = affinely_resampled(
        torch.tensor(volume)[None, None], torch.tensor(matrix)[None], torch.tensor(shift)[None], spacing=SPACING
    )
    centre = (np.array(volume.shape) - 1) / 2
    inverse = np.linalg.inv(step)
    by_voxel = inverse @ matrix @ step
    offset = centre - by_voxel @ centre + inverse @ shift
    theirs = ndimage.affine_transform(volume, by_voxel, offset, order=1, mode="reflect")
    np.testing.assert_allclose(ours[0, 0].numpy(), theirs, atol=1e-9)


def _positions(shape: tuple[int, int, int]) -> np.ndarray:
    """The places of voxels in mm from the centre of the field of view, shape (X, Y, Z, 3)."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, SPACING, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _blob(centre: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A Gaussian of 5 mm around a point."""
    return np.exp(-((positions - centre) ** 2).sum(-1) / (2 * 5.0**2))


@pytest.mark.parametrize("axis", range(3))
def test_rotations_are_in_millimetres(axis: int) -> None:
    """A round blob stays round and goes where the rotation takes its centre, whatever the voxels are like."""
    shape = (40, 28, 16)
    start = np.array([6.0, -5.0, 4.0])
    angles = torch.zeros(1, 3, dtype=torch.float64)
    angles[0, axis] = math.radians(30)
    matrix = rotation_matrices(angles)
    positions = _positions(shape)
    volume = torch.tensor(_blob(start, positions))[None, None]
    turned = affinely_resampled(volume, matrix, torch.zeros(1, 3, dtype=torch.float64), spacing=SPACING)
    # The output at q is the input at R q: the blob arrives at the q with R q = start.
    expected = _blob(matrix[0].numpy().T @ start, positions)
    seen = (np.abs(positions @ matrix[0].numpy().T) <= positions.max(axis=(0, 1, 2))).all(-1)
    assert seen.mean() > 0.6
    # Linear interpolation between voxels of 2.5 mm errs by up to 2.5^2 / (8 * 5^2) of the blob's height along an axis.
    np.testing.assert_allclose(turned[0, 0].numpy()[seen], expected[seen], atol=0.05)
    assert expected[seen].max() > 0.9


def test_a_positive_angle_turns_each_axis_towards_the_next() -> None:
    quarter = rotation_matrices(torch.eye(3, dtype=torch.float64) * math.pi / 2)
    for axis in range(3):
        unit = torch.zeros(3, dtype=torch.float64)
        unit[(axis + 1) % 3] = 1.0
        expected = torch.zeros(3, dtype=torch.float64)
        expected[(axis + 2) % 3] = 1.0
        torch.testing.assert_close(quarter[axis] @ unit, expected, atol=1e-12, rtol=0)


def test_the_deterministic_form_is_the_same_function() -> None:
    torch.manual_seed(2)
    volumes = torch.randn(2, 3, 5, 4, 6, dtype=torch.float64)
    grid = 6 * torch.rand(2, 5, 4, 6, 3, dtype=torch.float64) - 3
    expected = F.grid_sample(volumes, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(_gathered(volumes, grid), expected)


def test_gradients_are_those_of_finite_differences() -> None:
    volumes = _volumes(1, dtype=torch.float64)[..., :3, :2].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: _augmented(x, 1.0, AugmentationOptions(), flip=True), (volumes,))


def test_left_and_right_are_exchanged_only_where_allowed() -> None:
    volumes = _volumes(32)
    mirrored = _augmented(volumes, 1.0, _options(), flip=True)
    same = (mirrored == volumes).flatten(1).all(1)
    flipped = (mirrored == volumes.flip(2)).flatten(1).all(1)
    assert (same ^ flipped).all()
    assert 8 <= int(flipped.sum()) <= 24
    assert torch.equal(_augmented(volumes, 1.0, _options(), flip=False), volumes)


def test_mirroring_commutes_with_mirrored_scans() -> None:
    volumes = _volumes(16)
    options = _options(intensity=0.3, gamma=0.3)
    expected = _augmented(volumes, 0.7, options, flip=True).flip(2)
    # Powers of the same number may differ in the last bit between the ends and the middle of a vector.
    torch.testing.assert_close(_augmented(volumes.flip(2), 0.7, options, flip=True), expected, rtol=1e-6, atol=1e-6)


def test_half_precision_is_computed_in_single() -> None:
    volumes = _volumes(2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        changed = _augmented(volumes, 1.0, AugmentationOptions())
    assert changed.dtype == torch.float32
    torch.testing.assert_close(changed, _augmented(volumes.float(), 1.0, AugmentationOptions()), rtol=0, atol=0)


def test_gamma_keeps_black_and_white_and_is_a_power_between() -> None:
    intensity = torch.linspace(-0.1, 1.2, 500, dtype=torch.float64)
    for exponent in (0.7, 1.4):
        curve = gamma_curve(intensity, torch.tensor(exponent, dtype=torch.float64))
        bright = intensity > 0.02
        torch.testing.assert_close(curve[bright], intensity[bright] ** exponent)
        assert (curve.diff() > 0).all()
        # Continuous where the line ends, so that steps stay of the size of the slope.
        assert curve.diff().max() < 0.02
    ends = gamma_curve(torch.tensor([0.0, 1.0]), torch.tensor(0.7))
    assert ends.tolist() == [0.0, 1.0]


def test_shading_has_the_strength_that_it_should() -> None:
    numbers = 0.2 * torch.randn(400, 3, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    logarithm = shading(numbers, (16, 12, 9)).log()
    assert logarithm.shape == (400, 1, 16, 12, 9)
    # Cosines at the centres of voxels have no mean.
    torch.testing.assert_close(logarithm.mean(dim=(2, 3, 4)), torch.zeros(400, 1, dtype=torch.float64))
    assert logarithm.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.05)


def test_boxes_have_their_place_and_size() -> None:
    inside = boxes(torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.5, 1.0]]), (8, 4, 12), side=0.5)
    assert inside.shape == (2, 1, 8, 4, 12)
    assert inside[0, 0, 2:6, 1:3, 3:9].all()
    assert int(inside[0].sum()) == 4 * 2 * 6
    assert inside[1, 0, :2, 1:3, 9:].all()
    assert int(inside[1].sum()) == 2 * 2 * 3


def test_a_cut_out_is_air() -> None:
    volumes = torch.full((20, 1, 10, 10, 10), 0.4)
    cut = _augmented(volumes, 1.0, _options(cutout=0.5))
    emptied = (cut == -1).float().mean(dim=(1, 2, 3, 4))
    assert torch.isclose(cut, torch.tensor(0.4)).logical_or(cut == -1).all()
    # Between a corner's share and the whole box.
    assert emptied.min() >= 0.25**3 * 0.4
    assert emptied.max() <= 0.125 + 1e-6
