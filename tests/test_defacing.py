"""Defacing of real heads: the brain as found without the template stays, the face goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

import medgan
from medgan.defacing import METHOD, defaced, find_face
from medgan.errors import MedganError
from medgan.volume import Volume

# Fit by nod and size in all ways; among them those whose brain and eyes touch in a threshold of grey values.
HEAD = "IXI338-HH-1971"
MORE_HEADS = [
    "IXI014-HH-1236",
    "IXI443-HH-2215",
    "IXI039-HH-1261",
    "IXI519-HH-2240",
    "IXI538-HH-2411",
    "IXI259-HH-1804",
    "IXI568-HH-2607",
]


def _head(folder: Path, name: str) -> Volume:
    return medgan.read_volume(folder / "mri_t1_ixi_2mm" / "train" / f"{name}_T1.nii.gz").reoriented("RAS")


def _air(data: NDArray[np.float64]) -> float:
    """Between air and head, from the corners of the image above the head."""
    return 0.15 * float(np.percentile(data, 99))


def _brain(volume: Volume) -> NDArray[np.bool_]:
    """The brain by grey values alone: the largest thing that is bright and thick, opened until the face hangs on it no
    more, and grown back by less than it was eroded by."""
    data = volume.data[0].astype(np.float64)
    bright = data > 0.5 * np.median(data[data > np.percentile(data, 80)])
    depth = ndimage.distance_transform_edt(bright, sampling=volume.spacing)
    for radius in (5.0, 6.0, 7.0, 8.0, 9.0, 10.0):
        labels, _ = ndimage.label(depth > radius)
        core = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
        grown = (ndimage.distance_transform_edt(~core, sampling=volume.spacing) <= radius - 1) & bright
        litres = grown.sum() * np.prod(volume.spacing) / 1e6
        if litres < 1.4:
            assert litres > 0.6, "no brain"
            return grown
    raise AssertionError("the brain cannot be told from the rest of this head by grey values")


def _check(volume: Volume, result: Volume) -> None:
    before, after = volume.data[0].astype(np.float64), result.data[0].astype(np.float64)
    brain = _brain(volume)
    np.testing.assert_array_equal(after[brain], before[brain])
    changed = before != after
    np.testing.assert_array_equal(after[changed], before.min())
    # The tip of the nose, the chin and the lips: the foremost voxels of the head below the brain's front.
    front = int(np.argwhere(brain)[:, 1].max())
    height = int(np.median(np.argwhere(brain)[:, 2]))
    middle = slice(volume.shape[0] // 2 - 15, volume.shape[0] // 2 + 15)
    face_before = (before > _air(before))[middle, front:, : height - 10]
    face_after = (after > _air(before))[middle, front:, : height - 10]
    assert face_before.sum() > 1000, "the face is in the image"
    assert face_after.sum() < 0.02 * face_before.sum()


def test_the_face_goes_and_the_brain_stays(test_data: Path) -> None:
    volume = _head(test_data, HEAD)
    result = defaced(volume)
    _check(volume, result)
    assert result.history[-1] == METHOD
    assert result.data.dtype == volume.data.dtype
    np.testing.assert_array_equal(result.affine, volume.affine)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_HEADS)
def test_the_face_goes_from_more_heads(test_data: Path, name: str) -> None:
    volume = _head(test_data, name)
    _check(volume, defaced(volume))


@pytest.mark.slow
def test_array_axes_do_not_matter(test_data: Path) -> None:
    volume = _head(test_data, HEAD)
    face = find_face(volume)
    upright = face.mask(volume.shape, volume.affine)
    turned = volume.reoriented("PSL")
    other = Volume(face.mask(turned.shape, turned.affine).astype(np.uint8), turned.affine).reoriented("RAS")
    np.testing.assert_array_equal(other.data[0].astype(bool), upright)


@pytest.mark.slow
def test_where_the_head_lies_in_space_does_not_matter(test_data: Path) -> None:
    volume = _head(test_data, HEAD)
    moved = volume.affine.copy()
    moved[:3, 3] += (300.0, -120.0, 550.0)
    here, there = defaced(volume), defaced(Volume(volume.data, moved))
    assert (here.data != there.data).mean() < 0.002


def test_a_body_without_a_head_is_refused(test_data: Path) -> None:
    volume = medgan.read_volume(test_data / "ct_abdomen_3mm" / "ct.nii.gz")
    with pytest.raises(MedganError, match="cannot be laid over"):
        defaced(volume)


def test_a_crop_of_a_brain_is_refused(test_data: Path) -> None:
    volume = medgan.read_volume(test_data / "mri_t1_hippocampus_1mm" / "images" / "hippocampus_001.nii.gz")
    with pytest.raises(MedganError, match="of the brain lies in the scan"):
        defaced(volume)


@pytest.mark.parametrize("kind", ["flat", "ball"])
def test_no_head_at_all_is_refused(kind: str) -> None:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 60),) * 3, indexing="ij")
    data = {
        "flat": np.ones(x.shape),
        "ball": (x**2 + y**2 + z**2 < 0.5).astype(float),
    }[kind]
    with pytest.raises(MedganError, match="cannot be laid over"):
        defaced(Volume(data.astype(np.float32), np.diag([3.0, 3, 3, 1])))


@pytest.mark.parametrize("axis", [2, pytest.param(3, marks=pytest.mark.slow)], ids=["back to front", "upside down"])
def test_a_head_the_wrong_way_round_is_refused(test_data: Path, axis: int) -> None:
    volume = _head(test_data, HEAD)
    turned = Volume(np.ascontiguousarray(np.flip(volume.data, axis)), volume.affine)
    with pytest.raises(MedganError, match="cannot be laid over"):
        defaced(turned)
