"""Who is in a scan: the subject by its name or folder, and what a participants table says of it.

The table is `participants.tsv` or `participants.csv` in an input folder, BIDS style: a column `participant_id` (or
`subject`) or a column `file` (path of the scan from the table's folder) says which scan a row is about; a column
`split` may assign it; every other column is a label.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from medgan.errors import MedganError, nearest

Label = str | float

SPLITS = ("train", "validation", "test")
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_SUBJECT_COLUMNS = ("participant_id", "subject")
_MISSING = {"", "n/a", "na", "nan"}
_ENTITY = re.compile(r"(?:^|_)(sub-[A-Za-z0-9]+)")
_CONTRAST = r"t1w?|t1c|t1ce|t1gd|t1wgd|t2w?|t2star|flair|pdw?|mprage|mp2rage|swi|dwi|adc|mra|angio|bold|ct"
TRAILING_CONTRAST = re.compile(rf"[_-](?:{_CONTRAST})$", re.IGNORECASE)
NO_NAME = re.compile(
    rf"(?:{_CONTRAST}|image|img|scan|volume|brain|anat|func|nifti|nii|mri?|data"
    r"|(?:ses|session|visit|timepoint|baseline|follow-?up|week|month|year)[-_]?[a-z0-9]*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Participants:
    """One participants table.

    Args:
        path: the file.
        rows: one mapping per row, column names in lower case; missing values are left out.
    """

    path: Path
    rows: tuple[Mapping[str, str], ...]

    @classmethod
    def beside(cls, folder: Path) -> Participants | None:
        """The table in a folder, if it holds one.

        Raises:
            MedganError: the table is not UTF-8 text, or no column says which scan a row is about.
        """
        for name, delimiter in (("participants.tsv", "\t"), ("participants.csv", ",")):
            if (folder / name).is_file():
                return cls(folder / name, _rows(folder / name, delimiter))
        return None

    def row_of_file(self, scan: PurePosixPath) -> Mapping[str, str] | None:
        """The row whose `file` is this scan (path from the table's folder)."""
        return self._by_file.get(scan)

    def row_of_subject(self, subject: str) -> Mapping[str, str] | None:
        """The first row about this subject; "sub-01" and "01" are the same."""
        return self._by_subject.get(subject.removeprefix("sub-"))

    @cached_property
    def _by_file(self) -> dict[PurePosixPath, Mapping[str, str]]:
        return {PurePosixPath(row["file"]): row for row in reversed(self.rows) if "file" in row}

    @cached_property
    def _by_subject(self) -> dict[str, Mapping[str, str]]:
        named = ((subject_in(row), row) for row in reversed(self.rows))
        return {subject.removeprefix("sub-"): row for subject, row in named if subject is not None}


def subject_in(row: Mapping[str, str]) -> str | None:
    """The subject that a row names."""
    return next((row[column] for column in _SUBJECT_COLUMNS if column in row), None)


def labels_in(row: Mapping[str, str]) -> dict[str, str]:
    """What a row says besides subject, file and split, as text."""
    return {key: value for key, value in row.items() if key not in (*_SUBJECT_COLUMNS, "file", "split")}


def split_in(row: Mapping[str, str], file: Path) -> str | None:
    """The split that a row assigns: "train", "validation" or "test".

    Raises:
        MedganError: the word is none of these.
    """
    if "split" not in row:
        return None
    word = row["split"].lower()
    if word not in _SPLIT_WORDS:
        raise MedganError(f"'{row['split']}' is no split", file=file, hint=nearest(word, list(SPLITS)))
    return _SPLIT_WORDS[word]


def entity_of(scan: PurePosixPath) -> str | None:
    """The BIDS entity "sub-XXX" in a scan's name or else in its folders, the nearest first."""
    found = (_ENTITY.search(part) for part in reversed(scan.parts))
    return next((match.group(1) for match in found if match), None)


def subject_by_name(scan: PurePosixPath, is_series: bool) -> str:
    """The best guess at the subject where nothing names it.

    For a NIfTI file its name without a trailing contrast such as _T1w; if nothing but a contrast or a word like "image"
    remains, its nearest folder that is not called after a contrast, a visit or the like. For a DICOM series the topmost
    folder below the input. When in doubt two scans count as one subject: that can only make the splits smaller, never
    let a subject into two of them.

    Args:
        scan: path from the input folder.
        is_series: whether it is a DICOM series.
    """
    if is_series:
        return scan.parts[0] if scan.parts else "."
    name = re.sub(r"\.nii(\.gz)?$", "", scan.name, flags=re.IGNORECASE)
    stem = TRAILING_CONTRAST.sub("", name)
    if not NO_NAME.fullmatch(stem):
        return stem
    named = [folder for folder in scan.parents if folder.name and not NO_NAME.fullmatch(folder.name)]
    return named[0].as_posix() if named else stem


def typed_labels(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Label]]:
    """The same labels with the columns as numbers in which every value is a finite number."""
    numeric = {key: True for row in rows for key in row}
    for row in rows:
        for key, value in row.items():
            numeric[key] = numeric[key] and _is_number(value)
    return [{key: float(value) if numeric[key] else value for key, value in row.items()} for row in rows]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _rows(path: Path, delimiter: str) -> tuple[Mapping[str, str], ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MedganError("not readable as UTF-8 text", file=path, hint="Save the table as UTF-8.") from error
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, restval="")
    columns = [str(column).strip().lower() for column in reader.fieldnames or ()]
    if not {*_SUBJECT_COLUMNS, "file"} & set(columns):
        raise MedganError(
            f"no column says which scan a row is about (columns: {', '.join(columns) or 'none'})",
            file=path,
            hint="Add a column participant_id, subject or file.",
        )
    reader.fieldnames = columns
    return tuple(
        {key: value.strip() for key, value in row.items() if key in columns and value.strip().lower() not in _MISSING}
        for row in reader
    )
