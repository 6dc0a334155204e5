from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medgan.errors import MedganError
from medgan.io import find_scans, read_all_volumes, read_volume, write_volume
from medgan.io.dicom.relaxations import Relaxations
from medgan.io.scans import nifti_stem, survey
from medgan.volume import Volume


def saved(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((4, 5, 6), value, np.int16), np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return path


def test_nifti_files_are_found_in_order_and_read(tmp_path: Path) -> None:
    paths = [saved(tmp_path / name, n) for n, name in enumerate(["a.nii", "b/c_T1w.nii.gz", "d.NII.GZ"])]
    saved(tmp_path / ".hidden.nii")
    saved(tmp_path / ".cache" / "e.nii")
    (tmp_path / "notes.txt").write_text("nothing")
    scans = find_scans(tmp_path)
    assert [scan.path for scan in scans] == paths
    assert [scan.name for scan in scans] == ["a", "c_T1w", "d"]
    assert [scan.series for scan in scans] == [None] * 3
    assert [int(scan.read().data.max()) for scan in scans] == [0, 1, 2]
    with pytest.raises(dataclasses.FrozenInstanceError):
        scans[0].name = "b"


def test_a_single_file_is_a_list_of_one(tmp_path: Path) -> None:
    (scan,) = find_scans(saved(tmp_path / "sub-01_T1w.nii.gz"))
    assert scan.name == "sub-01_T1w"
    assert scan.read().shape == (4, 5, 6)


def test_equal_names_take_their_folders_in_front(tmp_path: Path) -> None:
    for name in ("p1/s1/T1.nii", "p1/s2/T1.nii", "p2/s1/T1.nii", "p2/s1/T2.nii"):
        saved(tmp_path / name)
    names = [scan.name for scan in find_scans(tmp_path)]
    assert names == ["p1_s1_T1", "s2_T1", "p2_s1_T1", "T2"]


def test_names_that_folders_cannot_tell_apart_are_numbered(tmp_path: Path) -> None:
    for name in ("x.nii", "x.nii.gz", "x_2.nii"):
        saved(tmp_path / name)
    names = [scan.name for scan in find_scans(tmp_path)]
    assert len(set(names)) == 3
    assert {"x", "x_2"} < set(names)


def test_dicom_series_are_found_by_content_and_named_by_folder(tmp_path: Path, phantom_series) -> None:
    one = phantom_series(tmp_path / "patient" / "t1", count=4)
    both = phantom_series(tmp_path / "patient" / "mixed", count=4, number=5)
    phantom_series(tmp_path / "patient" / "mixed", count=3, number=7)
    saved(tmp_path / "patient" / "t1.nii")
    scans = {scan.name: scan for scan in find_scans(tmp_path)}
    assert set(scans) == {"patient_t1", "patient_t1_2", "mixed_series-5", "mixed_series-7"}
    assert scans["mixed_series-5"].series == both
    assert scans["mixed_series-5"].path == tmp_path / "patient" / "mixed"
    assert scans["mixed_series-5"].read().shape == (6, 5, 4)
    assert scans["mixed_series-7"].read().shape == (6, 5, 3)
    assert one in {scan.series for scan in scans.values()}


def test_a_refused_scan_is_listed_and_refused_when_read(tmp_path: Path, phantom_series) -> None:
    phantom_series(tmp_path / "short", count=2)
    (tmp_path / "bad.nii").write_bytes(b"")
    bad, short = find_scans(tmp_path)
    for scan in (bad, short):
        with pytest.raises(MedganError):
            scan.read()


def test_damaged_dicom_files_outside_any_series_are_told(tmp_path: Path, phantom_series) -> None:
    phantom_series(tmp_path / "good", count=3)
    (tmp_path / "lost.dcm").write_bytes(b"")
    found = survey(tmp_path)
    assert [scan.name for scan in found.scans] == ["good"]
    assert [(path.name, reason) for path, reason in found.damaged] == [
        ("lost.dcm", "named as DICOM, but the file is empty")
    ]
    assert found.scans[0].read().shape == (6, 5, 3)


@pytest.mark.parametrize("what", ["missing", "empty folder", "text file"])
def test_nothing_to_find_is_said(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty folder").mkdir()
    (tmp_path / "text file").write_text("hello")
    with pytest.raises(MedganError) as caught:
        find_scans(tmp_path / what)
    assert caught.value.file == tmp_path / what


def test_read_volume_tells_formats_apart_by_content_and_name(tmp_path: Path, phantom_series) -> None:
    uid = phantom_series(tmp_path / "series", count=3)
    path = saved(tmp_path / "a.nii")
    assert read_volume(tmp_path / "series", series=uid).shape == (6, 5, 3)
    assert read_volume(path, index=0).shape == (4, 5, 6)
    for arguments, words in (
        ({"path": path, "series": uid}, "no series"),
        ({"path": tmp_path / "series", "index": 1}, "no volume 1 in this series of 1 volume"),
        ({"path": tmp_path / "none"}, "no such file"),
    ):
        with pytest.raises(MedganError, match=words):
            read_volume(**arguments)
    (tmp_path / "a.mgz").write_bytes(b"whatever")
    with pytest.raises(MedganError, match="neither NIfTI nor DICOM"):
        read_volume(tmp_path / "a.mgz")


def test_write_volume_writes_nifti_and_refuses_the_rest(tmp_path: Path) -> None:
    volume = Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    path = write_volume(volume, tmp_path / "new" / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(path).data, volume.data)
    refused = {"a.nrrd": "unknown suffix '.nrrd'", "a.dcm": "no NIfTI file name", "out": "out.nii.gz"}
    for name, words in refused.items():
        with pytest.raises(MedganError, match=words):
            write_volume(volume, tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["a.nii.gz", "new"]


def test_stems() -> None:
    names = {"a.nii": "a", "a.b.nii.gz": "a.b", "A.NII.GZ": "A", "x.gz.nii": "x.gz"}
    assert {name: nifti_stem(Path(name)) for name in names} == names


def test_a_dicom_file_named_alone_is_found_but_refused(tmp_path: Path, phantom_series) -> None:
    phantom_series(tmp_path / "series", count=3)
    path = next((tmp_path / "series").iterdir())
    (scan,) = find_scans(path)
    assert scan.path == path
    assert pydicom.dcmread(path).SeriesInstanceUID == scan.series
    with pytest.raises(MedganError, match="at least 3"):
        scan.read()


def marked(folder: Path, keyword: str, values: list[object]) -> None:
    """The files of a folder in as many volumes as there are values, all of one series."""
    paths = sorted(folder.iterdir())
    first = pydicom.dcmread(paths[0])
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = first.SeriesInstanceUID
        setattr(dataset, keyword, values[number * len(values) // len(paths)])
        dataset.save_as(path)


def test_every_volume_of_a_series_is_a_scan_with_a_name(tmp_path: Path, phantom_series) -> None:
    for number in (1, 2):
        uid = phantom_series(tmp_path / "dwi", count=4, number=number)
    marked(tmp_path / "dwi", "DiffusionBValue", [0.0, 1000.0])
    phantom_series(tmp_path / "t1", count=3)
    scans = find_scans(tmp_path)
    assert [scan.name for scan in scans] == ["dwi_b-0", "dwi_b-1000", "t1"]
    assert [scan.index for scan in scans] == [0, 1, None]
    assert scans[0].series == scans[1].series != uid
    assert all(scan.read().shape == (6, 5, count) for scan, count in zip(scans, (4, 4, 3), strict=True))
    one = read_volume(tmp_path / "dwi", index=1)
    np.testing.assert_array_equal(one.data, scans[1].read().data)
    with pytest.raises(MedganError, match="this series holds 2 volumes: 0: b=0, 1: b=1000"):
        read_volume(tmp_path / "dwi")
    assert read_all_volumes(tmp_path / "dwi").channels == 2
    assert read_all_volumes(tmp_path / "t1").channels == 1


def test_what_is_no_scan_is_told_apart(tmp_path: Path, phantom_series) -> None:
    phantom_series(tmp_path / "t1", count=3)
    phantom_series(tmp_path / "loc", count=1)
    marked(tmp_path / "loc", "ImageType", [["ORIGINAL", "PRIMARY", "LOCALIZER"]])
    found = survey(tmp_path)
    assert [scan.name for scan in found.scans] == ["t1"]
    assert [one.role for one in found.left_out] == ["localiser"]
    with pytest.raises(MedganError, match=r"no scan here, only a localiser \(1 file\)"):
        find_scans(tmp_path / "loc")


def test_relaxations_reach_the_reader(tmp_path: Path, phantom_series) -> None:
    phantom_series(tmp_path / "gap", count=5)
    (tmp_path / "gap" / "1-2").unlink()
    with pytest.raises(MedganError, match="--allow-gap"):
        read_volume(tmp_path / "gap")
    relaxed = Relaxations(allow_gap=True)
    assert read_volume(tmp_path / "gap", relaxations=relaxed).shape == (6, 5, 5)
    (scan,) = find_scans(tmp_path / "gap", relaxations=relaxed)
    np.testing.assert_array_equal(scan.read().data[0, 0, 0], [0, 1, 2, 3, 4])
    assert any("interpolat" in step for step in scan.read().history)


def test_progress_is_told(tmp_path: Path, phantom_series) -> None:
    phantom_series(tmp_path / "t1", count=3)
    told: list[tuple[int, int]] = []
    find_scans(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 3)]
