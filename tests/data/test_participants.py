from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from medgan.data.participants import (
    Participants,
    entity_of,
    labels_in,
    split_in,
    subject_by_name,
    subject_in,
    typed_labels,
)
from medgan.errors import MedganError


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("sub-01_T1w.nii.gz", "sub-01"),
        ("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "sub-01"),
        ("sub-07/scan.nii", "sub-07"),
        ("study_sub-9_x.nii", "sub-9"),
        ("IXI014_T1.nii.gz", None),
        ("subject-1.nii", None),
    ],
)
def test_bids_entities(path: str, subject: str | None) -> None:
    assert entity_of(PurePosixPath(path)) == subject


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("IXI014-HH-1236_T1.nii.gz", "IXI014-HH-1236"),
        ("train/IXI014-HH-1236_T2w.nii", "IXI014-HH-1236"),
        ("BraTS_001_t1ce.nii.gz", "BraTS_001"),
        ("patient07/T1.nii.gz", "patient07"),
        ("patient07/FLAIR.nii.gz", "patient07"),
        ("patient07/ses-1/anat/brain_T1.nii.gz", "patient07"),
        ("patient07/followup2/T2.nii.gz", "patient07"),
        ("site/patient07/T1.nii.gz", "site/patient07"),
        ("scan_003.nii.gz", "scan_003"),
        ("T1.nii", "T1"),
        ("ctrl.nii", "ctrl"),
    ],
)
def test_subjects_by_name(path: str, subject: str) -> None:
    assert subject_by_name(PurePosixPath(path), is_series=False) == subject


def test_all_series_below_one_folder_are_one_subject() -> None:
    assert subject_by_name(PurePosixPath("patient/study/series1"), is_series=True) == "patient"
    assert subject_by_name(PurePosixPath("patient/study/series2"), is_series=True) == "patient"
    assert subject_by_name(PurePosixPath("."), is_series=True) == "."


def table(tmp_path: Path, text: str, name: str = "participants.tsv") -> Participants:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = Participants.beside(tmp_path)
    assert found is not None
    return found


def test_a_bids_table(tmp_path: Path) -> None:
    people = table(tmp_path, "participant_id\tage\tsex\nsub-01\t34.5\tF\nsub-02\tn/a\tM\n")
    row = people.row_of_subject("sub-02")
    assert row is not None
    assert labels_in(row) == {"sex": "M"}
    assert people.row_of_subject("01") == people.row_of_subject("sub-01")
    assert people.row_of_subject("sub-03") is None


def test_a_comma_separated_table_with_files_and_splits(tmp_path: Path) -> None:
    text = "\ufeffFile,Subject,Split,Age\ntrain/a_T1.nii.gz,a,train,3\nval/b_T1.nii.gz,b,VAL,\n"
    people = table(tmp_path, text, "participants.csv")
    row = people.row_of_file(PurePosixPath("val/b_T1.nii.gz"))
    assert row is not None
    assert (subject_in(row), split_in(row, people.path), labels_in(row)) == ("b", "validation", {})
    assert people.row_of_file(PurePosixPath("b_T1.nii.gz")) is None


def test_no_table_is_no_error(tmp_path: Path) -> None:
    assert Participants.beside(tmp_path) is None


def test_a_table_about_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="no column says which scan"):
        table(tmp_path, "age\tsex\n3\tF\n")
    (tmp_path / "participants.tsv").write_bytes("participant_id\nsub-\xe9\n".encode("latin-1"))
    with pytest.raises(MedganError, match="UTF-8"):
        Participants.beside(tmp_path)


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    people = table(tmp_path, "participant_id\tsplit\nsub-01\ttrian\n")
    with pytest.raises(MedganError, match=r"'trian' is no split.*Did you mean 'train'"):
        split_in(people.rows[0], people.path)


def test_a_column_is_numeric_if_all_of_it_is() -> None:
    rows = [{"age": "3", "site": "1"}, {"age": "4e1"}, {"site": "x", "dose": "inf"}]
    assert typed_labels(rows) == [{"age": 3.0, "site": "1"}, {"age": 40.0}, {"site": "x", "dose": "inf"}]
