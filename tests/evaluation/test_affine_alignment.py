from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.evaluation.affine_alignment import FixedVolume, PoseFinder, mirror, moved, on_finer
from medgan.evaluation.edges import best_half, edge_map, unit

SHAPE = (24, 28, 26)


def field(seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """A smooth random field, dark towards the borders."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    window = np.clip(1.3 - sum(axis**4 for axis in axes), 0, 1)
    return (ndimage.gaussian_filter(random.standard_normal(shape), 2.0) * window).astype(np.float32)


def turned(degrees: float, shift: tuple[float, float, float], scale: float = 1.0) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[2, 2], matrix[:3, 3] = scale, shift
    return matrix


def test_whole_shifts_and_mirrors_move_voxels_exactly() -> None:
    volume = field(0)
    shift = np.eye(4)
    shift[:3, 3] = (2, -3, 1)
    inside = (slice(3, -3), slice(4, -4), slice(3, -3))
    wanted = np.roll(volume, (-2, 3, -1), axis=(0, 1, 2))
    np.testing.assert_allclose(moved(volume, shift)[inside], wanted[inside], atol=1e-6)
    np.testing.assert_allclose(moved(volume, mirror()), volume[::-1], atol=1e-6)


def test_a_map_means_the_same_on_a_finer_grid() -> None:
    matrix = turned(10, (1, -2, 0.5), 1.1)
    finer = on_finer(matrix, (10, 12, 8), (20, 24, 16))
    place = np.array([3.0, -2.0, 1.5, 1.0])
    np.testing.assert_allclose(finer @ (place * [2, 2, 2, 1]), (matrix @ place) * [2, 2, 2, 1])


@pytest.mark.parametrize("rigid", [True, False])
def test_alignment_finds_a_known_map(rigid: bool) -> None:
    fixed, known = field(1), turned(6, (1.2, -0.8, 0.5), 1.04)
    # What is seen at the known place in the moving volume is the fixed one.
    moving = moved(fixed, np.linalg.inv(known))
    correlation, found = FixedVolume(fixed, rigid=rigid).aligned(moving, np.eye(4), steps=30)
    assert correlation > 0.95
    np.testing.assert_allclose(found[:3, :3], known[:3, :3], atol=0.02)
    np.testing.assert_allclose(found[:3, 3], known[:3, 3], atol=0.15)


@pytest.mark.parametrize("flip", [(), (1,), (2,), (1, 2)])
def test_a_pose_is_found_through_flips_and_large_moves(flip: tuple[int, ...]) -> None:
    template = field(2)
    scan = moved(np.flip(template, flip), np.linalg.inv(turned(9, (3, -4, 2))))
    there = moved(scan, PoseFinder(template).pose(scan))
    assert float(np.vdot(unit(there), unit(template))) > 0.85


def test_edges_stay_when_grey_levels_change() -> None:
    volume = field(3) - field(3).min()
    volume /= volume.max()
    bias = np.exp(0.4 * np.linspace(-1, 1, SHAPE[0]))[:, None, None]
    for changed in (3 * volume + 7, 1 - volume, volume**1.5, volume * bias):
        likeness = float(np.vdot(unit(edge_map(volume)), unit(edge_map(changed))))
        assert likeness > 0.9
    assert abs(float(np.vdot(unit(edge_map(volume)), unit(edge_map(field(4)))))) < 0.2
    assert not edge_map(np.ones(SHAPE)).any()


def test_the_better_half_does_not_see_what_was_cut() -> None:
    volume = edge_map(field(5))
    cut = volume.copy()
    cut[: SHAPE[0] // 3] = 0
    assert best_half(volume, cut) > 0.97
    assert np.corrcoef(volume.ravel(), cut.ravel())[0, 1] < 0.9
    assert best_half(volume, volume) == pytest.approx(1, abs=1e-5)
    assert best_half(np.zeros(SHAPE, np.float32), volume) == 0
