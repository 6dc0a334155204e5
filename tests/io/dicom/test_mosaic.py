"""Siemens mosaics taken apart, and read through dcm2niix where they do not say how."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.io.dicom.mosaic import csa_values
from medgan.io.dicom.read import read_series

Write = Callable[..., Path]


def csa(entries: dict[str, list[str]]) -> bytes:
    """A CSA header of the second form."""
    content = b"SV10\4\3\2\1" + struct.pack("<II", len(entries), 77)
    for name, values in entries.items():
        content += struct.pack("<64si4siii", name.encode(), len(values), b"FD", 4, max(len(values), 6), 77)
        for text in [*values, *[""] * (6 - len(values))]:
            coded = text.encode() + b"\0" if text else b""
            content += struct.pack("<4i", len(coded), len(coded), 77, len(coded)) + coded + bytes(-len(coded) % 4)
    return content


def mosaic(phantom, *, reverse: bool = False, normal: list[str] | None = None) -> pydicom.FileDataset:
    """The phantom's six slices as three by three tiles in one image."""
    slices = phantom.datasets()
    side = 3
    image = np.zeros((side * phantom.rows, side * phantom.columns), np.uint16)
    order = range(5, -1, -1) if reverse else range(6)
    for tile, k in enumerate(order):
        row, column = tile // side * phantom.rows, tile % side * phantom.columns
        image[row : row + phantom.rows, column : column + phantom.columns] = phantom.voxels[:, :, k].T
    dataset = slices[5 if reverse else 0]
    dataset.Rows, dataset.Columns = image.shape
    dataset.PixelData, dataset.ImageType = image.tobytes(), ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    dataset.SpacingBetweenSlices = phantom.slice_spacing
    across = phantom.rotation @ [phantom.column_spacing * phantom.columns, phantom.row_spacing * phantom.rows, 0]
    corner = np.array(dataset.ImagePositionPatient, float) - across * (side - 1) / 2
    dataset.ImagePositionPatient = [f"{value:.11f}"[:16] for value in corner]
    direction = phantom.rotation[:, 2] * (-1 if reverse else 1)
    values = {"NumberOfImagesInMosaic": ["6"], "SliceNormalVector": normal or [f"{value:.8f}" for value in direction]}
    dataset.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    dataset.add_new(0x00291010, "OB", csa({"Echo": ["x"], **values}))
    return dataset


@pytest.mark.parametrize("reverse", [False, True])
def test_tiles_are_slices_where_the_csa_header_says(phantom, write: Write, reverse: bool) -> None:
    folder = write([mosaic(phantom, reverse=reverse)])
    volume = read_series(folder)
    np.testing.assert_array_equal(volume.data[0], phantom.voxels)
    np.testing.assert_allclose(volume.affine, phantom.ras, atol=1e-6)
    assert volume.history == ()


def test_compressed_mosaics_are_taken_apart_too(phantom, write: Write) -> None:
    dataset = mosaic(phantom)
    dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(read_series(write([dataset])).data[0], phantom.voxels)


def without_csa(dataset: pydicom.Dataset) -> None:
    del dataset[0x00291010]


def with_damaged_csa(dataset: pydicom.Dataset) -> None:
    dataset[0x00291010].value = dataset[0x00291010].value[:150]


def with_odd_matrix(dataset: pydicom.Dataset) -> None:
    dataset.Rows, dataset.PixelData = 14, dataset.PixelData[: 14 * 21 * 2]


def with_odd_normal(dataset: pydicom.Dataset) -> None:
    dataset[0x00291010].value = csa({"NumberOfImagesInMosaic": ["6"], "SliceNormalVector": ["1", "0", "0"]})


def without_spacing(dataset: pydicom.Dataset) -> None:
    del dataset.SpacingBetweenSlices


UNEXPLAINED = (without_csa, with_damaged_csa, with_odd_matrix, with_odd_normal, without_spacing)


@pytest.mark.parametrize("change", UNEXPLAINED)
def test_a_mosaic_that_does_not_say_how_its_tiles_lie_is_not_guessed(
    phantom, write: Write, monkeypatch, change
) -> None:
    monkeypatch.setenv("PATH", "")
    dataset = mosaic(phantom)
    change(dataset)
    with pytest.raises(MedganError, match=r"does not say how its tiles lie.*Install dcm2niix"):
        read_series(write([dataset]))


def test_csa_headers_of_other_forms_are_no_headers() -> None:
    with pytest.raises(ValueError, match="SV10"):
        csa_values(bytes(100), ("NumberOfImagesInMosaic",))
    content = csa({"NumberOfImagesInMosaic": ["12"], "Other": ["a", "b"]})
    assert csa_values(content, ("NumberOfImagesInMosaic", "Absent")) == {"NumberOfImagesInMosaic": ["12"]}


@pytest.fixture
def false_dcm2niix(tmp_path: Path, monkeypatch) -> Callable[[str], None]:
    """Puts a program named dcm2niix first on the path, which runs the Python given with `out` and `found` set."""

    def install(script: str) -> None:
        place = tmp_path / "bin"
        place.mkdir()
        program = place / "dcm2niix"
        program.write_text(
            f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\nimport nibabel as nib, numpy as np\n"
            "out, found = Path(sys.argv[-2]), sorted(Path(sys.argv[-1]).iterdir())\n"
            'print("Chris Rorden\'s dcm2niiX version v1.0.20240202  (JP2:OpenJPEG)")\n' + script
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")

    return install


SAVE = (
    "nib.save(nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([1, 2, 3, 1])), out / '{}.nii')\n"
)


def test_dcm2niix_is_asked_and_the_history_says_so(phantom, write: Write, false_dcm2niix) -> None:
    false_dcm2niix("assert len(found) == 1\n" + SAVE.format("volume_3"))
    dataset = mosaic(phantom)
    without_csa(dataset)
    folder = write([dataset])
    volume = read_series(folder)
    np.testing.assert_array_equal(volume.data[0], np.arange(24).reshape(2, 3, 4))
    np.testing.assert_array_equal(volume.affine, np.diag([1, 2, 3, 1]))
    assert volume.history[0].startswith("read by dcm2niix v1.0.20240202: a mosaic")
    assert volume.metadata["modality"] == "MR"
    assert volume.metadata["dicom"]["files"] == (str(folder / "slice_000.dcm"),)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "dcm2niix made no volume of it"),
        (SAVE.format("a") + SAVE.format("b"), "dcm2niix made 2 volumes of it"),
        ("print('no valid files', file=sys.stderr)\nsys.exit(2)\n", "dcm2niix failed with code 2: no valid files"),
        ("(out / 'a.nii').write_bytes(b'nothing')\n", "of what dcm2niix made"),
    ],
)
def test_dcm2niix_without_one_volume_is_a_refusal(phantom, write: Write, false_dcm2niix, script, words) -> None:
    false_dcm2niix(script)
    dataset = mosaic(phantom)
    without_csa(dataset)
    with pytest.raises(MedganError) as caught:
        read_series(write([dataset]))
    assert words in str(caught.value)


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
def test_dcm2niix_itself_agrees_on_a_mosaic(test_data: Path, tmp_path: Path) -> None:
    from medgan.io.dicom.dcm2niix import read_by_dcm2niix

    source = test_data / "dicom" / "siemens_mosaic_4d" / "epi_pe_ap-00001.dcm"
    theirs = read_by_dcm2niix([source], source.parent, "a test").reoriented("RAS")
    ours = read_series(source).reoriented("RAS")
    np.testing.assert_array_equal(ours.data, theirs.data)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)


@pytest.mark.data
def test_real_mosaics_match_dcm2niix(test_data: Path) -> None:
    folder = test_data / "dicom" / "siemens_mosaic_4d"
    image = nib.as_closest_canonical(nib.load(folder / "reference_4d.nii.gz"))
    for index in (0, 1):
        volume = read_series(folder, index=index).reoriented("RAS")
        np.testing.assert_array_equal(volume.data[0], np.asanyarray(image.dataobj)[..., index])
        apart = world_corners(volume.affine, volume.shape) - world_corners(image.affine, volume.shape)
        assert np.abs(apart).max() < 1e-3
