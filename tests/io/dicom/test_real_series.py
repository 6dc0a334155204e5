"""Real series against conversions made by other programs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.io import find_scans, read_volume
from medgan.volume import Volume

pytestmark = pytest.mark.data

Unzipped = Callable[[str], Path]


def assert_same_scan(volume: Volume, reference: Path, relative: float = 0.0) -> None:
    """Same voxels at the same places, once both are in RAS order; nibabel turns the reference."""
    truth = nib.as_closest_canonical(nib.load(reference))
    turned = volume.reoriented("RAS")
    np.testing.assert_allclose(turned.data[0], np.asanyarray(truth.dataobj), rtol=relative)
    apart = np.abs(world_corners(turned.affine, turned.shape) - world_corners(truth.affine, truth.shape)).max()
    assert apart < 1e-3


@pytest.mark.parametrize("position", ["HFS", "HFDL"])
def test_thick_slices_match_dcm2niix(test_data: Path, unzipped: Unzipped, position: str) -> None:
    volume = read_volume(unzipped(f"thick2d_t1_sag_{position}/dicom"))
    assert_same_scan(volume, test_data / "dicom" / f"thick2d_t1_sag_{position}" / "reference.nii.gz")
    assert volume.spacing == pytest.approx((1.015625, 1.015625, 4.8), abs=1e-5)
    assert volume.metadata["slice_thickness"] == 4.0
    assert volume.metadata["spacing_between_slices"] == 4.8
    assert volume.metadata["patient_position"] == position


def test_compressed_oblique_3d_series_matches_dcm2niix(test_data: Path, unzipped: Unzipped) -> None:
    reference = json.loads((test_data / "dicom" / "t1_3d_sag_jpeg2000" / "reference.json").read_text())
    volume = read_volume(unzipped("t1_3d_sag_jpeg2000/dicom")).reoriented("RAS")
    assert list(volume.shape) == reference["shape"]
    apart = world_corners(volume.affine, volume.shape) - world_corners(reference["affine"], volume.shape)
    assert np.abs(apart).max() < 1e-3
    voxels = np.ascontiguousarray(volume.data[0].astype("<i4"))
    assert hashlib.sha256(voxels.tobytes()).hexdigest() == reference["sha256_int32"]


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("generic_anatomical_001", None),
        ("hitachi_anatomical_001", None),
        ("generic_compressed_001", None),
        ("generic_compressed_jpeg_001", "generic_compressed_001"),
        ("generic_compressed_jpegls_001", "generic_compressed_001"),
        ("generic_compressed_rle_001", "generic_compressed_001"),
    ],
)
def test_vendors_and_codecs_match_dicom2nifti(
    test_data: Path, unzipped: Unzipped, name: str, truth: str | None
) -> None:
    folder = "dicom/fixtures_dicom2nifti"
    volume = read_volume(unzipped(f"fixtures_dicom2nifti/{name}"))
    assert_same_scan(volume, test_data / folder / f"{truth or name}_ground_truth.nii.gz")


def test_slices_with_slopes_of_their_own_match_dicom2nifti(test_data: Path, unzipped: Unzipped) -> None:
    name = "generic_anatomical_002_non_isotropic"
    volume = read_volume(unzipped(f"fixtures_dicom2nifti/{name}"))
    assert volume.data.dtype == np.float32
    assert_same_scan(volume, test_data / "dicom/fixtures_dicom2nifti" / f"{name}_ground_truth.nii.gz", relative=2e-7)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "fixtures_dicom2nifti/failing_gantrytilting_001",
            ["tilt of 14.0 degrees", "IM-0001-0001.dcm (-122.19 mm)"],
        ),
        ("fixtures_dicom2nifti/failing_slicecount_001", ["2 slices", "at least 3"]),
        (
            "fixtures_dicom2nifti/failing_sliceincrement_001",
            ["1 slice missing between IM-0001-0009-0001.dcm (28.11 mm) and IM-0001-0010-0001.dcm (38.11 mm)"],
        ),
        (
            "fixtures_dicom2nifti/failing_sliceorientation_001",
            ["different orientations", "different pixel spacings"],
        ),
        ("fixtures_dicom2nifti/generic_rgb_001", ["a colour image (RGB)"]),
        ("fixtures_dicom2nifti/philips_enhanced_anatomical_001", ["enhanced multi-frame", "8 frames", "not yet read"]),
        ("fixtures_dicom2nifti/siemens_multiframe_anatomical_001", ["enhanced multi-frame", "8 frames"]),
        (
            "ct_head_tilt_variable_gap/dicom",
            ["uneven slice distances, 1.081 to 6.999 mm", "14.dcm (18.36 mm)", "gantry tilt of 18.5 degrees"],
        ),
    ],
)
def test_what_cannot_be_one_grid_is_refused_for_the_right_reason(
    unzipped: Unzipped, name: str, words: list[str]
) -> None:
    with pytest.raises(MedganError) as caught:
        read_volume(unzipped(name))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("siemens_mosaic_4d", "a mosaic"),
        ("enhanced_philips_fieldmap", "enhanced multi-frame DICOM image (64 frames)"),
        ("awkward_single_files/rtdose.dcm", "multi-frame DICOM image (15 frames)"),
        ("awkward_single_files/badVR.dcm", "NumberOfFrames holds ['1A']"),
        ("awkward_single_files/no_meta.dcm", "neither NIfTI nor DICOM"),
        ("awkward_single_files/CT_small.dcm", "one slice of a DICOM series"),
        ("awkward_single_files/MR_small_bigendian.dcm", "one slice of a DICOM series"),
    ],
)
def test_awkward_files_are_refused_in_words(test_data: Path, path: str, words: str) -> None:
    with pytest.raises(MedganError, match=words.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")):
        read_volume(test_data / "dicom" / path)


def test_find_scans_tells_series_and_files_apart(test_data: Path, unzipped: Unzipped) -> None:
    names = {scan.name for scan in find_scans(test_data / "dicom" / "thick2d_t1_sag_HFS")}
    assert names == {"reference"}
    (scan,) = find_scans(unzipped("thick2d_t1_sag_HFS/dicom"))
    assert scan.name == "t1_sag_HFS"
    assert scan.series is not None
    assert scan.path.name == "t1_sag_HFS"
    assert scan.read().shape == (256, 256, 35)
