"""Which series there are among files, and which volumes each of them holds, by their headers alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from medgan.io.dicom.damage import kin_of, owners
from medgan.io.dicom.files import begins_as_dicom, is_dicom, is_named_as_dicom, visible_files
from medgan.io.dicom.groups import Distinction
from medgan.io.dicom.headers import HEADER_ERRORS, SliceHeader, headers_of, pydicom_quiet
from medgan.io.dicom.roles import IMAGE
from medgan.io.dicom.split import AXES, split

__all__ = [
    "HEADER_ERRORS",
    "DicomSeries",
    "Progress",
    "SliceHeader",
    "find_series",
    "is_dicom",
    "pydicom_quiet",
    "visible_files",
]

# Told now and then how many of how many files are done.
Progress = Callable[[int, int], None]
Damaged = tuple[Path, str]

# Reading headers waits for the disk more than for the processor, above all on network storage.
_THREADS = 8


@dataclass(frozen=True)
class DicomSeries:
    """One volume of a series, or one kind of object that is left out.

    A series of several volumes, such as echoes or time points, is several of these with the same `uid` and `folder`.

    Args:
        uid: SeriesInstanceUID; "" if the files have none.
        folder: the deepest folder that holds all files of the series.
        slices: one header per file, or per frame of a multi-frame file, in the order of their paths.
        damaged: files whose headers cannot be read and that may belong to the series; with the reason.
        role: "image", or what else it is, such as "localiser" or "dose report".
        distinctions: what tells this volume from the others of the series.
        problems: why the slices cannot be one volume, as far as their places do not say so themselves.
    """

    uid: str
    folder: Path
    slices: tuple[SliceHeader, ...]
    damaged: tuple[Damaged, ...] = ()
    role: str = IMAGE
    distinctions: tuple[Distinction, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What tells this volume from the others of the series, such as "phase, echo 2"; "" if it is the only one."""
        return ", ".join(one.text for one in self.distinctions)

    @property
    def kind(self) -> tuple[str, ...]:
        """What unlike images of one series differ in; volumes of the same kind form a fourth dimension."""
        return tuple(one.text for one in self.distinctions if one.kind not in AXES)

    @property
    def number(self) -> int | None:
        """SeriesNumber; None if there is none."""
        return self.slices[0].series_number

    def __str__(self) -> str:
        first = self.slices[0]
        words = (
            "" if self.number is None else f"number {self.number}",
            self.counted(),
            str(first.facts.get("modality", "unknown modality")),
            "{}x{}".format(*first.matrix) if first.matrix != (0, 0) else "",
            self.label,
            f"'{first.description}'" if first.description else "",
            f"in folder '{self.folder.name}'",
        )
        return f"{self.uid or 'no UID'} ({', '.join(filter(None, words))})"

    def counted(self) -> str:
        """How many files it has, such as "1 file"."""
        count = len({header.path for header in self.slices})
        return "1 file" if count == 1 else f"{count} files"


def find_series(files: Iterable[Path], progress: Progress | None = None) -> tuple[list[DicomSeries], list[Damaged]]:
    """The series among `files`, each volume of a series by itself, and every object that is no image by its role.

    A series may be spread over several folders; folders that hold the same objects again count as series of their own.
    DICOMDIR and files of other kinds are passed over.

    Args:
        files: where to look; names do not matter.
        progress: told how many of how many files are done.

    Returns:
        The series in the order of their UIDs, volumes in the order of what tells them apart; and the damaged files that
        belong to none of them, each with the reason.
    """
    headers, damaged = _examined(list(files), progress)
    suspects = owners([path for path, _ in damaged], _images(headers) if damaged else {})
    headers, strays = _without_series(headers)
    suspects |= strays
    damaged += [(path, "an image without SeriesInstanceUID among others that have one") for path in sorted(strays)]
    groups: dict[str, list[SliceHeader]] = {}
    for header in headers:
        groups.setdefault(header.series, []).append(header)
    series = [
        one
        for uid, group in sorted(groups.items())
        for copies in [_apart_by_folder(group)]
        for copy in copies
        for one in _series(uid, copy, [file for file in damaged if uid in suspects[file[0]]], alone=len(copies) == 1)
    ]
    attached = {path for one in series for path, _ in one.damaged}
    return series, [(path, reason) for path, reason in damaged if path not in attached]


def _examined(files: list[Path], progress: Progress | None) -> tuple[list[SliceHeader], list[Damaged]]:
    """The headers in all files, and the files that should have one and do not."""
    headers: list[SliceHeader] = []
    damaged: list[Damaged] = []
    with pydicom_quiet():
        for done, (path, found) in enumerate(zip(files, _in_threads(_examine, files), strict=True), start=1):
            if isinstance(found, str):
                damaged.append((path, found))
            else:
                headers += found
            if progress is not None and (done % 100 == 0 or done == len(files)):
                progress(done, len(files))
    return headers, damaged


def _in_threads(
    work: Callable[[Path], list[SliceHeader] | str], files: list[Path]
) -> Iterator[list[SliceHeader] | str]:
    """The results in the order of the files; work that has not begun is dropped when the reader gives up."""
    pool = ThreadPoolExecutor(max_workers=_THREADS)
    try:
        yield from pool.map(work, files)
    finally:
        pool.shutdown(cancel_futures=True)


def _examine(path: Path) -> list[SliceHeader] | str:
    """The headers in a file, none if it is no DICOM; or why it cannot be read."""
    try:
        if not begins_as_dicom(path):
            what = "is empty" if path.stat().st_size == 0 else "holds something else"
            return f"named as DICOM, but the file {what}" if is_named_as_dicom(path) else []
    except OSError as error:
        return f"the file cannot be opened ({error.strerror})"
    try:
        return headers_of(path)
    except HEADER_ERRORS as error:
        return f"the DICOM header cannot be read ({str(error) or type(error).__name__})"


def _without_series(headers: list[SliceHeader]) -> tuple[list[SliceHeader], dict[Path, set[str]]]:
    """Images that have lost their SeriesInstanceUID taken out: those without one beside images of the same matrix that
    have one, whose series they may belong to."""
    named: dict[tuple[Path, tuple[int, int]], dict[str, str]] = {}
    for header in headers:
        if header.series and header.role == IMAGE:
            named.setdefault((header.path.parent, header.matrix), {})[header.path.name] = header.series
    strays = {}
    for header in headers:
        alike = named.get((header.path.parent, header.matrix))
        if alike and not header.series and header.role == IMAGE:
            strays[header.path] = kin_of(header.path, alike)
    return [header for header in headers if header.path not in strays], strays


def _images(headers: list[SliceHeader]) -> dict[Path, dict[str, str]]:
    """For each folder, the names of its images and their SeriesInstanceUIDs."""
    by_folder: dict[Path, dict[str, str]] = {}
    for header in headers:
        if header.role == IMAGE and header.series:
            by_folder.setdefault(header.path.parent, {})[header.path.name] = header.series
    return by_folder


def _series(uid: str, headers: list[SliceHeader], damaged: list[Damaged], *, alone: bool) -> Iterator[DicomSeries]:
    """The volumes and other objects of one series; `damaged` files count if they lie in one of its folders, or if
    there is no copy of the series (`alone`)."""
    folders = {header.path.parent for header in headers}
    folder = Path(os.path.commonpath(folders))
    ordered = sorted(headers, key=lambda header: (header.path, header.frame or 0))
    by_role: dict[str, list[SliceHeader]] = {}
    for header in ordered:
        by_role.setdefault(header.role, []).append(_named_from(header, folder))
    own = tuple((path, why) for path, why in damaged if alone or path.parent in folders)
    for role, members in by_role.items():
        if role == IMAGE:
            for group in split(members):
                yield DicomSeries(uid, folder, group.slices, own, role, group.distinctions, group.problems)
        else:
            yield DicomSeries(uid, folder, tuple(members), role=role)


def _apart_by_folder(headers: list[SliceHeader]) -> list[list[SliceHeader]]:
    """The files of one series, kept together unless two folders hold the same object: those are copies."""
    by_folder: dict[Path, list[SliceHeader]] = {}
    for header in headers:
        by_folder.setdefault(header.path.parent, []).append(header)
    if len(by_folder) == 1:
        return [headers]
    objects = [_objects(group) for group in by_folder.values()]
    return [headers] if sum(map(len, objects)) == len(set().union(*objects)) else list(by_folder.values())


def _objects(headers: Sequence[SliceHeader]) -> set[object]:
    """The objects by their SOPInstanceUID, those without one by their position."""
    return {header.instance or (header.plane and header.plane.position) for header in headers}


def _named_from(header: SliceHeader, folder: Path) -> SliceHeader:
    """The header with its plane called by the path below `folder`, so that equal file names stay apart in messages."""
    if header.plane is None:
        return header
    name = header.path.relative_to(folder).as_posix() + header.plane.name.removeprefix(header.path.name)
    return replace(header, plane=replace(header.plane, name=name))
