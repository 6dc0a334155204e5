from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medgan.errors import MedganError
from medgan.io import read_volume
from medgan.workflows.convert import convert


@pytest.mark.parametrize("format", ["dicom", "dicom-enhanced"])
def test_there_and_back_again(patient_series: Path, tmp_path: Path, format: str) -> None:
    source = read_volume(patient_series)
    convert(patient_series, tmp_path / "scan.nii.gz")
    convert(tmp_path / "scan.nii.gz", tmp_path / "back", format=format, reference=patient_series)
    back = read_volume(tmp_path / "back")
    np.testing.assert_array_equal(back.data, source.data)
    np.testing.assert_allclose(back.affine, source.affine, atol=1e-6)
    image = pydicom.dcmread(sorted((tmp_path / "back").iterdir())[0])
    assert image.PatientID == "SECRET-42"
    assert image.SeriesInstanceUID != pydicom.dcmread(patient_series / "0").SeriesInstanceUID
    assert "CodingSchemeIdentificationSequence" in image


def test_one_series_to_another(patient_series: Path, tmp_path: Path) -> None:
    assert convert(patient_series, tmp_path / "out", format="dicom-enhanced") == tmp_path / "out"
    (path,) = (tmp_path / "out").iterdir()
    assert path.stat().st_size < 40_000
    np.testing.assert_array_equal(read_volume(tmp_path / "out").data, read_volume(patient_series).data)
    again = convert(tmp_path / "out", tmp_path / "again", format="dicom")
    np.testing.assert_array_equal(read_volume(again).data, read_volume(patient_series).data)


def test_two_files_give_two_series(patient_series: Path, tmp_path: Path) -> None:
    volume = read_volume(patient_series)
    uids = set()
    for name, factor in (("one", 1), ("two", 2)):
        nib.save(nib.Nifti1Image(volume.data[0] * factor, volume.affine), tmp_path / f"{name}.nii")
        convert(tmp_path / f"{name}.nii", tmp_path / name, format="dicom", reference=patient_series)
        uids.add(pydicom.dcmread(tmp_path / name / "IM00001.dcm").SeriesInstanceUID)
    assert len(uids) == 2


def test_what_cannot_be_filed_is_refused(patient_series: Path, tmp_path: Path) -> None:
    scan = convert(patient_series, tmp_path / "scan.nii.gz")
    out = tmp_path / "out"
    for arguments, words in (
        ({"format": "dicom"}, "--reference"),
        ({"format": "bids-"}, "no format"),
        ({"reference": patient_series}, "--format dicom"),
    ):
        with pytest.raises(MedganError, match=words):
            convert(scan, out, **arguments)
    with pytest.raises(MedganError, match="its own reference"):
        convert(patient_series, out, format="dicom", reference=patient_series)
    with pytest.raises(MedganError, match="name of a file"):
        convert(scan, tmp_path / "a.nii", format="dicom", reference=patient_series)
    with pytest.raises(MedganError, match="Name a new folder"):
        convert(scan, patient_series, format="dicom", reference=patient_series)
    far = nib.load(scan)
    nib.save(nib.Nifti1Image(np.asarray(far.dataobj), far.affine + 500 * np.eye(4, k=3)), tmp_path / "far.nii")
    with pytest.raises(MedganError, match="outside the source images"):
        convert(tmp_path / "far.nii", out, format="dicom", reference=patient_series)
    assert not out.exists()
