from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nibabel.affines import voxel_sizes
from scipy.spatial.transform import Rotation

from medgan import geometry
from medgan.errors import MedganError


@st.composite
def affines(draw) -> np.ndarray:
    """Rotations, mirrored or not, with voxel sizes and an origin."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-3.1, 3.1)] * 3))).as_matrix()
    signs = draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    affine[:3, :3] = turn @ np.diag(signs) @ np.diag(draw(st.tuples(*[st.floats(0.1, 9)] * 3)))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


SHAPES = st.tuples(*[st.integers(1, 40)] * 3)


@given(affine=affines())
def test_spacing_matches_nibabel(affine: np.ndarray) -> None:
    np.testing.assert_allclose(geometry.spacing_of(affine), voxel_sizes(affine), rtol=1e-12)


@given(affine=affines())
def test_orientation_matches_nibabel_where_the_axes_are_clear(affine: np.ndarray) -> None:
    directions = np.abs(affine[:3, :3] / voxel_sizes(affine))
    assume((directions.max(axis=0) > 0.8).all())
    assert geometry.orientation_of(affine) == "".join(nib.aff2axcodes(affine))


@given(affine=affines())
def test_every_orientation_uses_each_patient_axis_once(affine: np.ndarray) -> None:
    assert sorted(axis for axis, _ in geometry.axis_directions(affine)) == [0, 1, 2]


@given(affine=affines(), shape=SHAPES, new_shape=SHAPES)
def test_resampling_keeps_the_field_of_view(affine: np.ndarray, shape, new_shape) -> None:
    resampled = geometry.resampled_affine(affine, shape, new_shape)
    before, after = geometry.world_corners(affine, shape), geometry.world_corners(resampled, new_shape)
    np.testing.assert_allclose(after, before, atol=1e-8)


def test_halving_the_voxels_moves_the_first_centre_by_a_quarter_voxel() -> None:
    resampled = geometry.resampled_affine(np.diag([2.0, 2.0, 4.0, 1.0]), (10, 10, 10), (20, 10, 5))
    np.testing.assert_allclose(resampled[:3, 3], [-0.5, 0, 2.0])
    np.testing.assert_allclose(np.diag(resampled)[:3], [1, 2, 8])


@given(affine=affines(), first=st.tuples(*[st.integers(-9, 9)] * 3), voxel=st.tuples(*[st.integers(0, 9)] * 3))
def test_shifting_matches_nibabels_slicer(affine: np.ndarray, first, voxel) -> None:
    shifted = geometry.shifted_affine(affine, first)
    np.testing.assert_allclose(shifted @ [*voxel, 1], affine @ [*np.add(first, voxel), 1], atol=1e-8)
    if min(first) >= 0:
        image = nib.Nifti1Image(np.zeros((10, 10, 10), np.uint8), affine)
        sliced = image.slicer[first[0] :, first[1] :, first[2] :]
        np.testing.assert_allclose(shifted, sliced.affine, atol=1e-8)


def test_corners_are_outer_edges_with_the_last_axis_fastest() -> None:
    corners = geometry.world_corners(np.diag([1.0, 2.0, 3.0, 1.0]), (2, 3, 4))
    np.testing.assert_allclose(corners[0], [-0.5, -1, -1.5])
    np.testing.assert_allclose(corners[1], [-0.5, -1, 10.5])
    np.testing.assert_allclose(corners[-1], [1.5, 5, 10.5])


@given(affine=affines(), shape=SHAPES, spacing=st.tuples(*[st.floats(0.2, 20)] * 3))
def test_the_shape_for_a_spacing_is_within_half_a_voxel_of_the_field_of_view(affine, shape, spacing) -> None:
    counts = np.array(geometry.shape_for_spacing(affine, shape, spacing))
    assert (counts >= 1).all()
    missing = np.abs(counts * spacing - np.array(shape) * voxel_sizes(affine))
    assert ((missing <= 0.5001 * np.array(spacing)) | (counts == 1)).all()


@given(shape=SHAPES, spacing=st.tuples(*[st.floats(0.2, 20)] * 3))
def test_the_default_affine_is_centred(shape, spacing) -> None:
    affine = geometry.default_affine(shape, spacing)
    np.testing.assert_allclose(geometry.world_corners(affine, shape).mean(axis=0), 0, atol=1e-9)
    assert geometry.orientation_of(affine) == "RAS"
    assert not geometry.is_oblique(affine)


def test_oblique_is_any_axis_off_the_patients() -> None:
    tilted = np.eye(4)
    tilted[:3, :3] = Rotation.from_euler("x", 0.01).as_matrix()
    assert geometry.is_oblique(tilted)
    assert not geometry.is_oblique(np.diag([-1.0, 2.0, 3.0, 1.0])[[1, 0, 2, 3]])


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.eye(3), "4x4, this one is 3x3"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.diag([1.0, 1.0, 1.0, 2.0]), "last row"),
        (np.diag([1.0, 0.0, 1.0, 1.0]), "singular"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
    ],
)
def test_unusable_affines_are_refused(affine: np.ndarray, words: str) -> None:
    with pytest.raises(MedganError, match=words):
        geometry.checked_affine(affine)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_small_and_large_voxels_are_not_singular(scale: float) -> None:
    affine = np.diag([scale, scale, scale, 1.0])
    np.testing.assert_array_equal(geometry.checked_affine(affine), affine)


def test_a_checked_affine_is_a_read_only_copy() -> None:
    given_affine = np.eye(4)
    checked = geometry.checked_affine(given_affine)
    given_affine[0, 3] = 9
    assert checked[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        checked[0, 3] = 1
