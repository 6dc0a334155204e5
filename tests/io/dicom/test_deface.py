"""Removing the face from stored pixels: the face's place is given here, so that every pixel's fate is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, RLELossless

import medgan
from medgan.errors import MedganError
from medgan.io.dicom.deface import plane_affine, remove_face
from medgan.io.dicom.geometry import SlicePlane
from medgan.io.dicom.headers import headers_of
from medgan.workflows.deidentify import deidentify


@dataclass(frozen=True)
class Beyond:
    """A face that fills the space beyond a plane of RAS space."""

    normal: tuple[float, float, float]
    distance: float

    def mask(self, shape: Any, affine: np.ndarray) -> np.ndarray:
        index = np.indices(shape).reshape(3, -1)
        place = affine[:3, :3] @ index + affine[:3, 3:]
        return (np.array(self.normal) @ place > self.distance).reshape(shape)


FACE = Beyond((0.3, 0.9, -0.2), -10.0)


def _defaced(phantom: Any, dataset: pydicom.Dataset, folder: Path) -> np.ndarray:
    pydicom.dcmwrite(folder / "one.dcm", dataset)
    headers = headers_of(folder / "one.dcm")
    again = pydicom.dcmread(folder / "one.dcm")
    remove_face(again, [(header, FACE) for header in headers])  # type: ignore[misc]
    pydicom.dcmwrite(folder / "two.dcm", again)
    return pydicom.dcmread(folder / "two.dcm").pixel_array


def _expected(phantom: Any, k: int, fill: int) -> np.ndarray:
    """By the phantom's own affine, which comes from no header."""
    mask = FACE.mask(phantom.voxels.shape, phantom.ras)[:, :, k].T
    assert mask.any()
    assert not mask.all()
    return np.where(mask, fill, phantom.voxels[:, :, k].T)


def test_pixels_in_the_face_become_dark_and_no_others(phantom: Any, tmp_path: Path) -> None:
    dataset = phantom.datasets()[2]
    dataset.SmallestImagePixelValue = dataset.LargestImagePixelValue = 5
    pixels = _defaced(phantom, dataset, tmp_path)
    np.testing.assert_array_equal(pixels, _expected(phantom, 2, int(phantom.voxels[:, :, 2].min())))
    result = pydicom.dcmread(tmp_path / "two.dcm")
    assert result.ImageType[0] == "DERIVED"
    assert "SmallestImagePixelValue" not in result


def test_where_dark_is_high_the_face_becomes_high(phantom: Any, tmp_path: Path) -> None:
    dataset = phantom.datasets()[2]
    dataset.PhotometricInterpretation = "MONOCHROME1"
    pixels = _defaced(phantom, dataset, tmp_path)
    np.testing.assert_array_equal(pixels, _expected(phantom, 2, int(phantom.voxels[:, :, 2].max())))


def test_compressed_pixels_are_decompressed_and_keep_their_instance(phantom: Any, tmp_path: Path) -> None:
    dataset = phantom.datasets()[1]
    dataset.compress(RLELossless, generate_instance_uid=False)
    pixels = _defaced(phantom, dataset, tmp_path)
    np.testing.assert_array_equal(pixels, _expected(phantom, 1, int(phantom.voxels[:, :, 1].min())))
    assert pydicom.dcmread(tmp_path / "two.dcm").SOPInstanceUID == dataset.SOPInstanceUID


def test_big_endian_pixels_keep_their_order(phantom: Any, tmp_path: Path) -> None:
    dataset = phantom.datasets()[1]
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pixels = _defaced(phantom, dataset, tmp_path)
    np.testing.assert_array_equal(pixels, _expected(phantom, 1, int(phantom.voxels[:, :, 1].min())))


def test_planes_lie_where_the_series_does(phantom: Any) -> None:
    image = phantom.datasets()[4]
    position, spacing = tuple(map(float, image.ImagePositionPatient)), tuple(map(float, image.PixelSpacing))
    orientation = tuple(map(float, image.ImageOrientationPatient))
    affine = plane_affine(SlicePlane("x", position, orientation, spacing, (5, 7)))  # type: ignore[arg-type]
    for column, row in ((0, 0), (6, 0), (0, 4), (6, 4)):
        expected = phantom.ras @ [column, row, 4, 1]
        np.testing.assert_allclose(affine @ [column, row, 0, 1], expected, atol=1e-5)


def test_images_that_cannot_be_changed_are_refused(phantom: Any, tmp_path: Path) -> None:
    dataset = phantom.datasets()[0]
    pydicom.dcmwrite(tmp_path / "one.dcm", dataset)
    (header,) = headers_of(tmp_path / "one.dcm")
    with pytest.raises(MedganError, match="says where it lies"):
        remove_face(dataset, [])
    dataset.SamplesPerPixel = 3
    with pytest.raises(MedganError, match="grey values"):
        remove_face(dataset, [(header, FACE)])  # type: ignore[list-item]


@pytest.mark.slow
def test_a_real_series_loses_its_face_and_keeps_everything_else(test_data: Path, tmp_path: Path) -> None:
    import shutil

    shutil.unpack_archive(test_data / "dicom" / "thick2d_t1_sag_HFS" / "dicom.zip", tmp_path / "in")
    (tmp_path / "key").write_bytes(b"k" * 32)
    deidentify(tmp_path / "in", tmp_path / "out", key_file=tmp_path / "key", deface=True)
    before, after = medgan.read_volume(tmp_path / "in"), medgan.read_volume(tmp_path / "out")
    np.testing.assert_array_equal(after.affine, before.affine)
    changed = before.data != after.data
    assert 0.02 < changed.mean() < 0.4
    image = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert image.RecognizableVisualFeatures == "NO"
    codes = {code.CodeValue: code.CodeMeaning for code in image.DeidentificationMethodCodeSequence}
    assert codes["113102"] == "Clean Recognizable Visual Features Option"
    # Independent of the slices' order in the reader: the same voxels as when the volume itself is defaced.
    from medgan.defacing import find_face

    mask = find_face(before).mask(before.shape, before.affine)
    assert not changed[0][~mask].any()


def test_a_series_whose_face_is_not_found_is_refused(phantom: Any, write: Any, tmp_path: Path) -> None:
    folder = write(phantom.datasets())
    (tmp_path / "key").write_bytes(b"k" * 32)
    with pytest.raises(MedganError, match="cannot be laid over"):
        deidentify(folder, tmp_path / "out", key_file=tmp_path / "key", deface=True)
    assert not (tmp_path / "out").exists()
