from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medgan.cli import app
from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.io.dicom.relaxations import Relaxations
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


@pytest.mark.data
def test_a_series_of_several_volumes_becomes_one_4d_file(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "dicom" / "siemens_mosaic_4d"
    made, truth = nib.load(convert(folder, tmp_path / "all.nii.gz")), nib.load(folder / "reference_4d.nii.gz")
    assert made.shape == (72, 72, 5, 2)
    made, truth = nib.as_closest_canonical(made), nib.as_closest_canonical(truth)
    np.testing.assert_array_equal(np.asarray(made.dataobj), np.asarray(truth.dataobj))
    np.testing.assert_allclose(made.affine, truth.affine, atol=1e-4)
    (step,) = json.loads((tmp_path / "all.json").read_text())["history"]
    assert step == "2 volumes of one series along the fourth dimension: acquisition 1, acquisition 2"
    one = nib.as_closest_canonical(nib.load(convert(folder, tmp_path / "one.nii.gz", index=1)))
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(truth.dataobj)[..., 1])
    assert not (tmp_path / "one.json").exists()


@pytest.mark.data
def test_unlike_volumes_are_converted_one_by_one(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "dicom" / "enhanced_philips_fieldmap"
    with pytest.raises(MedganError, match="2 kinds of image, which are no one 4D image: 0: magnitude, 1: real"):
        convert(folder, tmp_path / "both.nii.gz")
    assert list(tmp_path.iterdir()) == []
    assert nib.load(convert(folder, tmp_path / "field.nii.gz", index=1)).shape == (64, 64, 32)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("failing_sliceincrement_001", "allow_gap", "interpolat"),
        ("failing_gantrytilting_001", "deshear", "to undo a tilt"),
    ],
)
def test_a_relaxation_is_refused_by_default_and_recorded_when_asked_for(
    test_data: Path, tmp_path: Path, name: str, option: str, words: str
) -> None:
    with zipfile.ZipFile(test_data / "dicom" / "fixtures_dicom2nifti" / f"{name}.zip") as archive:
        archive.extractall(tmp_path / "dicom")
    with pytest.raises(MedganError, match="--" + option.replace("_", "-")):
        convert(tmp_path / "dicom", tmp_path / "a.nii.gz")
    convert(tmp_path / "dicom", tmp_path / "a.nii.gz", relaxations=Relaxations(**{option: True}))
    history = json.loads((tmp_path / "a.json").read_text())["history"]
    assert any(words in step for step in history)


@pytest.mark.data
def test_the_command_line_takes_relaxations_and_an_index(test_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(test_data / "dicom" / "fixtures_dicom2nifti" / "failing_sliceincrement_001.zip") as archive:
        archive.extractall(tmp_path / "dicom")
    runner = CliRunner()
    done = runner.invoke(app, ["convert", str(tmp_path / "dicom"), str(tmp_path / "a.nii"), "--allow-gap"])
    assert done.exit_code == 0, done.output
    assert nib.load(tmp_path / "a.nii").shape[2] == 5
    folder = test_data / "dicom" / "siemens_mosaic_4d"
    done = runner.invoke(app, ["convert", str(folder), str(tmp_path / "b.nii"), "--index", "0"])
    assert done.exit_code == 0, done.output
    assert nib.load(tmp_path / "b.nii").shape == (72, 72, 5)
