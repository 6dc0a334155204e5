"""Which files there are, and which of them are DICOM by their content."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")


def visible_files(path: Path) -> Iterator[Path]:
    """The file itself, or every file below the folder in sorted order, without hidden files and folders.

    Links to folders are followed, but no folder is entered twice, so links that lead in a circle end; a folder that can
    be reached without a link goes by its own name. Pipes, sockets and devices are passed over.
    """
    if not path.is_dir():
        yield path
        return
    entered: set[tuple[int, int]] = set()
    found: list[Path] = []
    waiting = [path]
    while waiting:
        links: list[Path] = []
        for start in waiting:
            found += _files_below(start, entered, links)
        waiting = sorted(links)
    yield from sorted(found, key=lambda file: (file.parent, file.name))


def is_dicom(path: Path) -> bool:
    """Whether the file begins as DICOM does, whatever its name.

    That is a preamble with the letters DICM or, in files without one, a first element of group 2 or 8 with a plausible
    value representation or length.
    """
    try:
        return begins_as_dicom(path)
    except OSError:
        return False


def begins_as_dicom(path: Path) -> bool:
    """Like `is_dicom`, but a file that cannot be opened is an OSError."""
    with path.open("rb") as stream:
        start = stream.read(132)
    if start[128:132] == b"DICM":
        return True
    if start[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or (len(start) >= 8 and int.from_bytes(start[4:8], "little") <= 64)


def is_named_as_dicom(path: Path) -> bool:
    """Whether the suffix is one that DICOM files are given."""
    return path.suffix.lower() in _DICOM_SUFFIXES


def _files_below(start: Path, entered: set[tuple[int, int]], links: list[Path]) -> Iterator[Path]:
    """The files below a folder, links to folders put into `links` instead; folders in `entered` are passed over."""
    for name, subfolders, names in os.walk(start):
        folder = Path(name)
        place = folder.stat()
        if (place.st_dev, place.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((place.st_dev, place.st_ino))
        subfolders[:] = sorted(one for one in subfolders if not one.startswith("."))
        links += (folder / one for one in subfolders if (folder / one).is_symlink())
        yield from (folder / one for one in names if not one.startswith(".") and _is_plain(folder / one))


def _is_plain(path: Path) -> bool:
    """Whether it is a file, or a link that leads nowhere, which the reader will name."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return is_named_as_dicom(path)
