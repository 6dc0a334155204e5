from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medgan import geometry
from medgan.errors import MedganError
from medgan.resampling import cropped_or_padded, interpolated, resampled
from medgan.volume import Volume

OBLIQUE = np.array([[0.9, -0.2, 0.1, 12.0], [0.25, 1.8, -0.1, -30.0], [-0.1, 0.15, 2.4, 5.0], [0, 0, 0, 1]])


def world_grid(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """RAS mm of every voxel centre, (X, Y, Z, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def blob(shape: tuple[int, ...], affine: np.ndarray, centre: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((world_grid(affine, shape) - centre) ** 2).sum(axis=-1) / (2 * width**2))


def centroid(volume: Volume) -> np.ndarray:
    weights = volume.data[0].astype(np.float64)
    return (world_grid(volume.affine, volume.shape) * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum()


@pytest.mark.parametrize("factor", [2, 3, 2.5, 0.4, 1.3])
@pytest.mark.parametrize("antialias", [True, False])
def test_the_centroid_of_a_smooth_blob_stays_in_place(factor: float, antialias: bool) -> None:
    shape = (41, 37, 44)
    affine = geometry.default_affine(shape, (1.0, 1.1, 0.9))
    truth = np.array([1.3, -2.1, 0.7])
    volume = Volume(blob(shape, affine, truth, 3.5), affine)
    spacing = tuple(s * factor for s in volume.spacing)
    result = resampled(volume, spacing=spacing, antialias=antialias)
    assert np.abs(centroid(result) - truth).max() < 1e-3 * min(volume.spacing)


@pytest.mark.parametrize("shape", [(15, 7, 60), (31, 19, 9), (12, 40, 25), (30, 20, 24)])
@pytest.mark.parametrize("order", [0, 1, 3, 5])
def test_the_corners_of_the_field_of_view_do_not_move(shape: tuple[int, int, int], order: int) -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(30, 20, 24)), OBLIQUE)
    result = resampled(volume, shape=shape, order=order)
    assert result.shape == shape
    corners = geometry.world_corners(volume.affine, volume.shape)
    np.testing.assert_allclose(geometry.world_corners(result.affine, result.shape), corners, atol=1e-9)


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize(
    ("antialias", "shape"), [(True, (20, 16, 15)), (True, (50, 27, 61)), (False, (17, 31, 60)), (True, (16, 40, 12))]
)
def test_a_linear_ramp_in_mm_stays_that_ramp(order: int, antialias: bool, shape: tuple[int, int, int]) -> None:
    """Inside, because at its faces a scan is continued by its mirror image, which is no ramp."""
    old_shape = (40, 40, 40)
    slope = np.array([1.0, -2.0, 0.5])
    volume = Volume(world_grid(OBLIQUE, old_shape) @ slope, OBLIQUE)
    result = resampled(volume, shape=shape, order=order, antialias=antialias)
    expected = world_grid(result.affine, result.shape) @ slope
    inside = tuple(slice(2 * n // 5, 3 * n // 5) for n in shape)
    np.testing.assert_allclose(result.data[0][inside], expected[inside], atol=2e-3)


def test_without_antialias_it_agrees_with_scipy() -> None:
    array = np.random.default_rng(1).normal(size=(9, 10, 11))
    for order in (0, 1, 3, 5):
        peer = ndimage.zoom(array, (3, 2, 3), order=order, mode="reflect", grid_mode=True)
        np.testing.assert_allclose(interpolated(array, peer.shape, order), peer, atol=1e-5)


def test_interpolating_an_unchanged_axis_changes_nothing_along_it() -> None:
    array = np.random.default_rng(2).normal(size=(2, 6, 7, 8)).astype(np.float32)
    assert np.array_equal(interpolated(array, (6, 7, 8)), array)
    stretched = interpolated(array, (6, 7, 24))
    np.testing.assert_allclose(stretched[..., 1::3], array, atol=1e-5)


@settings(max_examples=30)
@given(
    old=st.tuples(*[st.integers(2, 12)] * 3),
    new=st.tuples(*[st.integers(1, 12)] * 3),
    order=st.sampled_from([1, 3, 5]),
)
def test_averaging_keeps_the_mean_and_flips_commute(old: tuple, new: tuple, order: int) -> None:
    new = tuple(min(a, b) for a, b in zip(old, new, strict=True))
    array = np.random.default_rng(3).normal(size=old)
    result = resampled(Volume(array, np.eye(4)), shape=new, order=order).data[0]
    assert result.mean() == pytest.approx(array.mean(), abs=1e-5)
    flipped = resampled(Volume(array[::-1, :, ::-1].copy(), np.eye(4)), shape=new, order=order).data[0]
    np.testing.assert_allclose(flipped, result[::-1, :, ::-1], atol=1e-5)


def test_averaging_linear_splines_over_whole_voxels_is_the_plain_mean_of_a_constant_stretch() -> None:
    """Two constant halves averaged over voxels that lie inside one half give the halves' values."""
    array = np.zeros((12, 4, 4))
    array[6:] = 7.0
    result = resampled(Volume(array, np.eye(4)), shape=(4, 4, 4), order=1).data[0]
    np.testing.assert_allclose(result[0], 0, atol=1e-6)
    np.testing.assert_allclose(result[3], 7, atol=1e-6)


def test_what_a_coarse_grid_cannot_show_is_removed_not_folded() -> None:
    """A wave of 2.5 voxels becomes a false long wave when every third voxel is taken."""
    wave = np.cos(2 * np.pi * np.arange(90) / 2.5)[:, None, None] * np.ones((1, 3, 3))
    volume = Volume(wave, np.eye(4))
    inside = slice(5, 25)
    plain = resampled(volume, shape=(30, 3, 3), antialias=False).data[0, inside]
    averaged = resampled(volume, shape=(30, 3, 3)).data[0, inside]
    assert plain.std() > 0.6
    assert averaged.std() < 0.2


def test_labels_stay_labels() -> None:
    labels = np.random.default_rng(4).integers(0, 5, (10, 11, 12)).astype(np.uint8) * 37
    result = resampled(Volume(labels, np.eye(4)), shape=(7, 5, 30), order=0)
    assert set(np.unique(result.data)) <= set(np.unique(labels).astype(np.float32))
    np.testing.assert_array_equal(interpolated(labels, (30, 33, 36), 0)[1::3, 1::3, 1::3], labels)


def test_spacing_is_met_as_far_as_whole_voxels_allow() -> None:
    volume = Volume(np.zeros((10, 10, 10)) + np.arange(10), np.diag([1.0, 1.0, 1.0, 1.0]))
    result = resampled(volume, spacing=(3.0, 0.5, 20.0))
    assert result.shape == (3, 20, 1)
    np.testing.assert_allclose(result.spacing, (10 / 3, 0.5, 10.0))


@pytest.mark.parametrize("shape", [(5, 8, 8), (6, 9, 8), (12, 3, 8), (1, 1, 1), (9, 7, 20)])
def test_cropping_and_padding_move_no_voxel(shape: tuple[int, int, int]) -> None:
    data = np.arange(8 * 7 * 9, dtype=np.int16).reshape(8, 7, 9) + 1
    volume = Volume(data, OBLIQUE)
    result = cropped_or_padded(volume, shape, fill=0)
    assert result.shape == shape
    assert result.data.dtype == np.int16
    old_places = world_grid(OBLIQUE, data.shape).reshape(-1, 3)
    where_was = {int(value): place for value, place in zip(data.ravel(), old_places, strict=True)}
    places = world_grid(result.affine, shape).reshape(-1, 3)
    seen = 0
    for value, place in zip(result.data[0].ravel(), places, strict=True):
        if value:
            seen += 1
            np.testing.assert_allclose(place, where_was[int(value)], atol=1e-9)
    assert seen == np.prod([min(a, b) for a, b in zip(shape, data.shape, strict=True)])
    middle = geometry.world_corners(result.affine, shape).mean(axis=0)
    shift = np.linalg.solve(OBLIQUE[:3, :3], middle - geometry.world_corners(OBLIQUE, data.shape).mean(axis=0))
    assert np.abs(shift).max() <= 0.5 + 1e-9


def test_padding_fills_with_the_smallest_value_unless_told() -> None:
    volume = Volume(np.full((2, 2, 2), 5.0) + np.arange(2), np.eye(4))
    assert cropped_or_padded(volume, (4, 2, 2)).data[0, 0, 0, 0] == 5
    assert cropped_or_padded(volume, (4, 2, 2), fill=-3).data[0, 0, 0, 0] == -3


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"shape": (3, 3, 3), "spacing": (1.0, 1.0, 1.0)},
        {"shape": (0, 3, 3)},
        {"shape": (3, 3)},
        {"shape": (3, 3, 2.5)},
        {"spacing": (1.0, -1.0, 1.0)},
        {"spacing": (1.0, float("nan"), 1.0)},
        {"shape": (3, 3, 3), "order": 2},
    ],
)
def test_impossible_grids_are_refused(arguments: dict) -> None:
    with pytest.raises(MedganError):
        resampled(Volume(np.zeros((4, 4, 4)) + np.arange(4), np.eye(4)), **arguments)


def test_every_step_is_in_the_history() -> None:
    volume = Volume(np.zeros((4, 4, 4)) + np.arange(4), np.eye(4))
    result = cropped_or_padded(resampled(volume, shape=(2, 4, 4)), (3, 4, 4))
    assert result.history == (
        "resampled from 4x4x4 to 2x4x4 voxels",
        "cropped or padded from 2x4x4 to 3x4x4 voxels",
    )


def test_channels_are_resampled_alike() -> None:
    data = np.random.default_rng(5).normal(size=(3, 8, 8, 8)).astype(np.float32)
    result = resampled(Volume(data, np.eye(4)), shape=(5, 12, 8))
    for channel, one in itertools.zip_longest(result.data, data):
        alone = resampled(Volume(one, np.eye(4)), shape=(5, 12, 8)).data[0]
        np.testing.assert_allclose(channel, alone, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 70])
def test_the_spline_passes_through_the_samples_however_few(length: int) -> None:
    array = np.random.default_rng(6).normal(size=(length, 3, 4))
    for order in (3, 5):
        np.testing.assert_allclose(interpolated(array, (3 * length, 3, 4), order)[1::3], array, atol=2e-6)
