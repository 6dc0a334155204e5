from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.io import read_volume
from medgan.workflows.convert import convert
from medgan.workflows.upscale import upscale_scans


@pytest.mark.parametrize(("format", "files"), [("dicom", 12), ("dicom-enhanced", 1)])
def test_a_series_becomes_a_derived_series(patient_series: Path, tmp_path: Path, format: str, files: int) -> None:
    result = upscale_scans([patient_series], tmp_path / "out", model="physics", factor=(1, 1, 2), format=format)
    assert result.written == (tmp_path / "out" / "first",)
    assert len(list(result.written[0].iterdir())) == files
    source, derived = read_volume(patient_series), read_volume(result.written[0])
    assert derived.shape == (6, 5, 12)
    corners = [world_corners(volume.affine, volume.shape) for volume in (source, derived)]
    np.testing.assert_allclose(corners[0], corners[1], atol=1e-6)
    (as_nifti,) = upscale_scans([patient_series], tmp_path / "nifti", model="physics", factor=(1, 1, 2)).written
    plain = read_volume(as_nifti)
    step = float(np.ptp(plain.data)) / 65_000
    np.testing.assert_allclose(derived.as_float(), plain.reoriented(derived.orientation).data, atol=step)
    image = pydicom.dcmread(next(result.written[0].iterdir()))
    assert (image.PatientID, image.StudyInstanceUID, image.ImageType[0]) == ("SECRET-42", "1.2.3", "DERIVED")
    sidecar = (tmp_path / "out" / "first.json").read_text()
    assert json.loads(sidecar) == json.loads((tmp_path / "nifti" / "first.json").read_text())
    assert "SECRET" not in sidecar
    assert str(tmp_path) not in sidecar


def test_a_nifti_file_needs_a_reference_to_become_dicom(patient_series: Path, tmp_path: Path) -> None:
    scan = convert(patient_series, tmp_path / "scan.nii.gz")
    with pytest.raises(MedganError, match="--reference") as caught:
        upscale_scans([scan], tmp_path / "out", model="physics", factor=(1, 1, 2), format="dicom")
    assert caught.value.file == scan
    assert not (tmp_path / "out").exists()
    result = upscale_scans(
        [scan], tmp_path / "out", model="physics", factor=(1, 1, 2), format="dicom", reference=patient_series
    )
    image = pydicom.dcmread(sorted(result.written[0].iterdir())[0])
    assert image.PatientID == "SECRET-42"
    assert len(image.SourceImageSequence) == 6


def test_of_several_scans_those_that_can_be_written_are(patient_series: Path, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4)), patient_series.parent / "other.nii")
    result = upscale_scans([patient_series.parent], tmp_path / "out", model="physics", factor=(1, 1, 2), format="dicom")
    assert [path.name for path in result.written] == ["first"]
    ((failed, reason),) = result.failures
    assert failed.name == "other.nii"
    assert "--reference" in reason


def test_running_again_gives_the_same_bytes(patient_series: Path, tmp_path: Path) -> None:
    one, two = (
        sorted(
            upscale_scans([patient_series], tmp_path / name, model="physics", factor=(1, 1, 2), format="dicom")
            .written[0]
            .iterdir()
        )
        for name in ("one", "two")
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_series_that_somebody_else_made_or_changed_is_never_replaced(patient_series: Path, tmp_path: Path) -> None:
    before = [file.read_bytes() for file in sorted(patient_series.iterdir())]
    with pytest.raises(MedganError, match="exists already"):
        upscale_scans([patient_series], patient_series.parent, model="physics", factor=(1, 1, 2), format="dicom")
    assert [file.read_bytes() for file in sorted(patient_series.iterdir())] == before
    (ours,) = upscale_scans(
        [patient_series], tmp_path / "out", model="physics", factor=(1, 1, 2), format="dicom"
    ).written
    assert upscale_scans(
        [patient_series], tmp_path / "out", model="physics", factor=(1, 1, 2), format="dicom"
    ).skipped == (ours,)
    # Made by medgan and as it was left: another request takes its place.
    assert upscale_scans(
        [patient_series], tmp_path / "out", model="physics", factor=(1, 1, 3), format="dicom"
    ).written == (ours,)
    assert len(list(ours.iterdir())) == 18
    next(ours.iterdir()).unlink()
    with pytest.raises(MedganError, match="exists already"):
        upscale_scans([patient_series], tmp_path / "out", model="physics", factor=(1, 1, 2), format="dicom")
    assert len(list(ours.iterdir())) == 17


def test_formats_and_references_that_make_no_sense_are_refused(patient_series: Path, tmp_path: Path) -> None:
    scan = convert(patient_series, tmp_path / "scan.nii.gz")
    out = tmp_path / "out"
    for arguments, words in (
        ({"format": "dicm"}, "Did you mean 'dicom'"),
        ({"format": "dicom", "reference": patient_series}, "its own"),
        ({"format": "dicom", "out": tmp_path / "a.nii.gz"}, "name of a file"),
    ):
        with pytest.raises(MedganError, match=words):
            upscale_scans([patient_series], **{"out": out, "model": "physics", **arguments})
    with pytest.raises(MedganError, match="one DICOM image series"):
        upscale_scans([scan], out, model="physics", format="dicom", reference=scan)
    assert not out.exists()
