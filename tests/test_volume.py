from __future__ import annotations

import copy
import dataclasses
import pickle
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from medgan.errors import MedganError
from medgan.volume import Volume

AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("xyz", [0.1, -0.2, 0.3]).as_matrix() @ np.diag([0.9, 1.2, 4.0])
AFFINE[:3, 3] = [-70, 31, 12.5]

ORIENTATIONS = ["".join(letters) for axes in permutations(["LR", "PA", "IS"]) for letters in product(*axes)]


def ramp(shape: tuple[int, ...] = (3, 4, 5), dtype: str = "f4") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def test_a_3d_array_becomes_one_channel() -> None:
    volume = Volume(ramp(), AFFINE)
    assert volume.data.shape == (1, 3, 4, 5)
    assert (volume.channels, volume.shape, volume.orientation) == (1, (3, 4, 5), "RAS")
    assert volume.spacing == pytest.approx((0.9, 1.2, 4.0))
    assert volume.field_of_view == pytest.approx((2.7, 4.8, 20.0))
    assert "3 x 4 x 5 voxels of 0.9 x 1.2 x 4 mm, RAS, float32" in repr(volume)
    assert "2 channels" in repr(Volume(ramp((2, 3, 4, 5)), AFFINE))


@pytest.mark.parametrize(
    ("given_type", "kept_as"),
    [
        ("f8", "f4"),
        ("f4", "f4"),
        ("f2", "f4"),
        ("i2", "i2"),
        ("u2", "u2"),
        ("u1", "u1"),
        ("?", "u1"),
        (">i2", "i2"),
        (">f4", "f4"),
    ],
)
def test_types_are_float32_or_the_stored_integers_in_native_order(given_type: str, kept_as: str) -> None:
    volume = Volume(ramp(dtype=given_type), AFFINE)
    assert volume.data.dtype == np.dtype(kept_as)
    assert volume.data.dtype.isnative
    np.testing.assert_array_equal(volume.data[0], ramp(dtype=given_type))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((3, 4)), "shape"),
        (np.zeros((1, 2, 3, 4, 5)), "shape"),
        (np.zeros((3, 0, 4)), "shape"),
        (np.zeros((3, 4, 5), complex), "real numbers"),
        (np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1")]), "real numbers"),
        (np.array([[["a"]]]), "real numbers"),
    ],
)
def test_what_is_no_volume_is_refused(data: np.ndarray, words: str) -> None:
    with pytest.raises(MedganError, match=words):
        Volume(data, AFFINE)


def test_nothing_in_a_volume_can_be_changed() -> None:
    volume = Volume(ramp(), AFFINE, history=["read"], metadata={"modality": "MR"})
    for attempt in (lambda: volume.data.__setitem__(0, 1), lambda: volume.affine.__setitem__((0, 0), 1)):
        with pytest.raises(ValueError, match="read-only"):
            attempt()
    with pytest.raises(dataclasses.FrozenInstanceError):
        volume.data = ramp()
    with pytest.raises(TypeError):
        volume.metadata["modality"] = "CT"
    assert volume.history == ("read",)


@pytest.mark.parametrize("as_given", ["array", "view", "read-only view", "four dimensions"])
def test_the_callers_array_stays_the_callers(as_given: str) -> None:
    array = ramp((1, 3, 4, 5)) if as_given == "four dimensions" else ramp()
    data = array if as_given in ("array", "four dimensions") else array[:, :, ::-1]
    if as_given == "read-only view":
        data.setflags(write=False)
    volume = Volume(data, AFFINE)
    before = volume.data.copy()
    array += 100
    np.testing.assert_array_equal(volume.data, before)


def test_memory_that_nobody_can_write_is_not_copied() -> None:
    array = ramp()
    array.setflags(write=False)
    assert np.shares_memory(Volume(array, AFFINE).data, array)
    volume = Volume(ramp(), AFFINE)
    assert volume.with_data(volume.data, "again").data is volume.data


def test_volumes_can_be_pickled_and_copied() -> None:
    volume = Volume(ramp(dtype="i2"), AFFINE, ("read",), {"modality": "MR", "nifti": {"qform_code": 1}})
    for twin in (pickle.loads(pickle.dumps(volume)), copy.deepcopy(volume)):
        np.testing.assert_array_equal(twin.data, volume.data)
        np.testing.assert_array_equal(twin.affine, volume.affine)
        assert (twin.history, dict(twin.metadata)) == (volume.history, dict(volume.metadata))
        assert not twin.data.flags.writeable


def test_with_data_keeps_the_place_and_adds_to_the_history() -> None:
    volume = Volume(ramp(), AFFINE, ("read",), {"modality": "MR"})
    changed = volume.with_data(ramp((2, 3, 4, 5)), "doubled")
    assert (changed.channels, changed.history, changed.metadata["modality"]) == (2, ("read", "doubled"), "MR")
    np.testing.assert_array_equal(changed.affine, volume.affine)
    with pytest.raises(MedganError, match=r"expected spatial shape \(3, 4, 5\)"):
        volume.with_data(ramp((3, 4, 6)))


@settings(max_examples=60)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    wanted=st.sampled_from(ORIENTATIONS),
    channels=st.integers(1, 2),
)
def test_reorienting_leaves_every_voxel_where_it_is(angles, wanted: str, channels: int) -> None:
    affine = AFFINE.copy()
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ affine[:3, :3]
    volume = Volume(ramp((channels, 3, 4, 5)), affine)
    turned = volume.reoriented(wanted)
    assert turned.orientation == wanted
    places = np.linalg.inv(turned.affine) @ affine @ np.array([*np.indices((3, 4, 5)).reshape(3, -1), np.ones(60)])
    i, j, k = np.rint(places[:3]).astype(int)
    np.testing.assert_allclose(places[:3], [i, j, k], atol=1e-9)
    np.testing.assert_array_equal(turned.data[:, i, j, k], volume.data.reshape(channels, -1))
    back = turned.reoriented(volume.orientation)
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_allclose(back.affine, affine, atol=1e-10)


@pytest.mark.parametrize("start", ORIENTATIONS)
def test_reorienting_to_ras_is_nibabels_closest_canonical(start: str) -> None:
    volume = Volume(ramp(), AFFINE).reoriented(start)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(volume.data[0], volume.affine))
    turned = volume.reoriented()
    np.testing.assert_array_equal(turned.data[0], np.asarray(canonical.dataobj))
    np.testing.assert_allclose(turned.affine, canonical.affine, atol=1e-12)


def test_reorienting_to_where_it_is_changes_nothing() -> None:
    volume = Volume(ramp(), AFFINE)
    assert volume.reoriented("RAS") is volume
    assert volume.reoriented("lps").history == ("reoriented to lps",)


@pytest.mark.parametrize("orientation", ["RA", "RAX", "RRS", "RASL", ""])
def test_impossible_orientations_are_refused(orientation: str) -> None:
    with pytest.raises(MedganError, match="no orientation"):
        Volume(ramp(), AFFINE).reoriented(orientation)


@pytest.mark.parametrize("dtype", ["f4", "i2", "u2", "u1", "i4"])
def test_metatensors_hold_the_same_scan_both_ways(dtype: str) -> None:
    volume = Volume(ramp((2, 3, 4, 5), dtype), AFFINE, ("read",), {"modality": "MR", "nifti": {"qform_code": 1}})
    tensor = volume.to_metatensor()
    assert isinstance(tensor, MetaTensor)
    np.testing.assert_array_equal(tensor.affine.numpy(), AFFINE)
    assert tensor.affine.dtype == torch.float64
    back = Volume.from_metatensor(tensor)
    assert back.data.dtype == volume.data.dtype
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_array_equal(back.affine, volume.affine)
    assert (back.history, dict(back.metadata)) == (volume.history, dict(volume.metadata))
    tensor.as_tensor().numpy()[...] = 7
    np.testing.assert_array_equal(volume.data, ramp((2, 3, 4, 5), dtype))
    np.testing.assert_array_equal(back.data, volume.data)
