"""Real series against conversions made by other programs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.io import find_scans, read_all_volumes, read_volume
from medgan.volume import Volume

pytestmark = pytest.mark.data

Unzipped = Callable[[str], Path]

FIXTURES = "fixtures_dicom2nifti"
PHILIPS = "enhanced_philips_fieldmap"


@dataclass(frozen=True)
class Case:
    """A series with a conversion by another program.

    `rule` says how the voxels must agree: "equal"; "float32", equal but for the last digit of float32; "rounded", equal
    after the reference's own rounding to integers; "stored", equal integers behind scales that differ on purpose (the
    reference holds Philips' precise values, medgan those that the scanner displays).
    """

    folder: str
    reference: str
    rule: str = "equal"
    index: int | None = None


def fixture(name: str, truth: str | None = None, rule: str = "equal") -> Case:
    return Case(f"{FIXTURES}/{name}", f"{FIXTURES}/{truth or name}_ground_truth.nii.gz", rule)


CASES = (
    Case("thick2d_t1_sag_HFS/dicom", "thick2d_t1_sag_HFS/reference.nii.gz"),
    Case("thick2d_t1_sag_HFDL/dicom", "thick2d_t1_sag_HFDL/reference.nii.gz"),
    Case("t1_3d_sag_jpeg2000/dicom", "t1_3d_sag_jpeg2000/reference.json"),
    fixture("generic_anatomical_001"),
    fixture("hitachi_anatomical_001"),
    fixture("generic_compressed_001"),
    fixture("generic_compressed_jpeg_001", "generic_compressed_001"),
    fixture("generic_compressed_jpegls_001", "generic_compressed_001"),
    fixture("generic_compressed_rle_001", "generic_compressed_001"),
    fixture("generic_anatomical_002_non_isotropic", rule="float32"),
    fixture("philips_enhanced_anatomical_001", rule="float32"),
    fixture("siemens_multiframe_anatomical_001"),
    Case(PHILIPS, f"{PHILIPS}/reference_e1_magnitude.nii.gz", "stored", index=0),
    Case(PHILIPS, f"{PHILIPS}/reference_e2_fieldmaphz.nii.gz", "rounded", index=1),
    Case("siemens_mosaic_4d", "siemens_mosaic_4d/reference_4d.nii.gz"),
)
# Series whose reference shows what medgan refuses on purpose, with the words of the refusal.
REFUSED = (
    ("failing_slicecount_001", "2 slices (IM-0001-0001-0001.dcm, IM-0001-0002-0001.dcm) where at least 3 are needed"),
    ("generic_rgb_001", "no image series here, only a colour capture (4 files)"),
)


def verdict(volume: Volume, reference: Path, rule: str) -> str:
    """How a volume agrees with a reference, which nibabel turns to RAS; AssertionError if it does not."""
    turned = volume.reoriented("RAS")
    if reference.suffix == ".json":
        return verdict_by_hash(turned, json.loads(reference.read_text()))
    image = nib.load(reference)
    truth = nib.as_closest_canonical(image)
    apart = np.abs(world_corners(turned.affine, turned.shape) - world_corners(truth.affine, turned.shape)).max()
    assert apart < 1e-3
    expected = np.asanyarray(truth.dataobj).reshape(*turned.shape, turned.channels)
    found = np.moveaxis(turned.data, 0, -1)
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    stored = np.rint((expected.astype(np.float64) - intercept) / slope)
    if rule == "equal":
        np.testing.assert_array_equal(found, expected)
    elif rule == "float32":
        np.testing.assert_allclose(found, expected, rtol=2.0**-22)
    elif rule == "rounded":
        np.testing.assert_array_equal(np.rint((found.astype(np.float64) - intercept) / slope), stored)
    else:
        np.testing.assert_allclose(found * (stored.max() / found.max()), stored, atol=0.01)
    return f"corners within {apart:.0e} mm, voxels {rule}"


def verdict_by_hash(turned: Volume, reference: dict[str, Any]) -> str:
    """The same for a reference that holds the SHA-256 of the voxels instead of the voxels."""
    assert list(turned.shape) == reference["shape"]
    apart = np.abs(
        world_corners(turned.affine, turned.shape) - world_corners(np.array(reference["affine"]), turned.shape)
    ).max()
    assert apart < 1e-3
    voxels = np.ascontiguousarray(turned.data[0].astype("<i4"))
    assert hashlib.sha256(voxels.tobytes()).hexdigest() == reference["sha256_int32"]
    return f"corners within {apart:.0e} mm, voxels equal by SHA-256"


def place(folder: str, test_data: Path, unzipped: Unzipped) -> Path:
    return unzipped(folder) if (test_data / "dicom" / f"{folder}.zip").is_file() else test_data / "dicom" / folder


def test_every_series_with_a_reference_agrees_with_it(
    test_data: Path, unzipped: Unzipped, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, failures = [], []
    for case in CASES:
        folder = place(case.folder, test_data, unzipped)
        name = case.folder.removeprefix(f"{FIXTURES}/") + ("" if case.index is None else f" volume {case.index}")
        read = read_all_volumes if case.index is None else partial(read_volume, index=case.index)
        try:
            lines.append(f"{name:38s} {verdict(read(folder), test_data / 'dicom' / case.reference, case.rule)}")
        except (AssertionError, MedganError) as error:
            failures.append(f"{name:38s} {error}")
    for name, words in REFUSED:
        with pytest.raises(MedganError) as caught:
            read_volume(unzipped(f"{FIXTURES}/{name}"))
        assert words in str(caught.value)
        lines.append(f"{name:38s} refused on purpose: {words}")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join([*lines, *failures]) + "\n")
    assert not failures
    references = {path for path in (test_data / "dicom").rglob("*") if "reference" in path.name or "truth" in path.name}
    judged = {test_data / "dicom" / case.reference for case in CASES}
    judged |= {test_data / "dicom" / FIXTURES / f"{name}_ground_truth.nii.gz" for name, _ in REFUSED}
    assert references == judged


@pytest.mark.parametrize("position", ["HFS", "HFDL"])
def test_thick_slices_keep_their_distance_and_facts(unzipped: Unzipped, position: str) -> None:
    volume = read_volume(unzipped(f"thick2d_t1_sag_{position}/dicom"))
    assert volume.spacing == pytest.approx((1.015625, 1.015625, 4.8), abs=1e-5)
    assert volume.metadata["slice_thickness"] == 4.0
    assert volume.metadata["spacing_between_slices"] == 4.8
    assert volume.metadata["patient_position"] == position


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
        ("fixtures_dicom2nifti/generic_rgb_001", ["no image series here, only a colour capture (4 files)"]),
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
        ("siemens_mosaic_4d", "this series holds 2 volumes: 0: acquisition 1, 1: acquisition 2"),
        ("enhanced_philips_fieldmap", "this series holds 2 volumes: 0: magnitude, 1: real"),
        ("awkward_single_files/rtdose.dcm", "only a radiotherapy dose (1 file)"),
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
