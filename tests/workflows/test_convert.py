from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.workflows.convert import convert


def scan(path: Path, volumes: int = 1) -> Path:
    rng = np.random.default_rng(3)
    array = rng.integers(-900, 900, (6, 7, 8, volumes)).astype(np.int16)
    image = nib.Nifti1Image(array if volumes > 1 else array[..., 0], np.diag([-1.0, 2.0, 3.0, 1.0]))
    image.header.set_slope_inter(0.37, 11)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(image.affine, 3)
    image.set_sform(image.affine, 4)
    nib.save(image, path)
    return path


def test_converting_nifti_changes_nothing_but_the_container(tmp_path: Path) -> None:
    source = nib.load(scan(tmp_path / "a.nii"))
    path = convert(tmp_path / "a.nii", tmp_path / "out" / "b.nii.gz")
    assert path == tmp_path / "out" / "b.nii.gz"
    target = nib.load(path)
    np.testing.assert_array_equal(target.dataobj.get_unscaled(), source.dataobj.get_unscaled())
    np.testing.assert_array_equal(target.affine, source.affine)
    for field in ("datatype", "bitpix", "qform_code", "sform_code", "xyzt_units", "srow_x", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(target.header[field], source.header[field])
    np.testing.assert_array_equal(target.header.get_zooms(), source.header.get_zooms())
    assert (target.dataobj.slope, target.dataobj.inter) == (source.dataobj.slope, source.dataobj.inter)


def test_one_volume_of_a_4d_file_is_chosen_by_index(tmp_path: Path) -> None:
    source = nib.load(scan(tmp_path / "a.nii", volumes=3))
    target = nib.load(convert(tmp_path / "a.nii", tmp_path / "b.nii", index=1))
    np.testing.assert_allclose(target.get_fdata(), source.get_fdata()[..., 1])
    with pytest.raises(MedganError, match="4D image of 3 volumes"):
        convert(tmp_path / "a.nii", tmp_path / "c.nii")
    assert not (tmp_path / "c.nii").exists()


def test_a_bad_output_name_is_refused_before_reading(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"")
    with pytest.raises(MedganError, match=r"unknown suffix '\.mgz'"):
        convert(tmp_path / "a.nii", tmp_path / "b.mgz")
    with pytest.raises(MedganError, match="the file is empty"):
        convert(tmp_path / "a.nii", tmp_path / "b.nii")


@pytest.mark.data
def test_a_dicom_series_becomes_the_nifti_that_dcm2niix_makes(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "dicom" / "thick2d_t1_sag_HFDL"
    with zipfile.ZipFile(folder / "dicom.zip") as archive:
        archive.extractall(tmp_path / "dicom")
    made = nib.load(convert(tmp_path / "dicom", tmp_path / "scan.nii.gz"))
    truth = nib.load(folder / "reference.nii.gz")
    assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (1, 1)
    made, truth = nib.as_closest_canonical(made), nib.as_closest_canonical(truth)
    np.testing.assert_array_equal(np.asarray(made.dataobj), np.asarray(truth.dataobj))
    assert np.abs(world_corners(made.affine, made.shape) - world_corners(truth.affine, truth.shape)).max() < 1e-3
