"""Work on many scans, in which one bad scan does not cost the others."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.workflows.places import writable_file

if TYPE_CHECKING:
    from medgan.io import Scan


@dataclass(frozen=True)
class BatchResult:
    """Outputs that stand there, the inputs that failed with the reason, and which outputs had been there before."""

    written: tuple[Path, ...]
    failures: tuple[tuple[Path, str], ...]
    skipped: tuple[Path, ...] = ()


def scans_in(inputs: Iterable[str | Path]) -> list[Scan]:
    """The scans of `search`.

    Raises:
        MedganError: an input does not exist or holds no scan; the message names it.
    """
    return search(inputs)[0]


def search(inputs: Iterable[str | Path]) -> tuple[list[Scan], list[tuple[Path, str]]]:
    """What is in the given files and folders.

    Returns:
        Every scan, once even if the inputs overlap, each with a name of its own; and the damaged DICOM files that
        belong to none of them, with the reason.

    Raises:
        MedganError: an input does not exist or holds no scan; the message names it.
    """
    from medgan.io import find_scans
    from medgan.io.scans import survey

    damaged: dict[Path, str] = {}
    found: dict[tuple[str, str | None, int | None], Scan] = {}
    for path in inputs:
        looked_at = survey(path)
        damaged.update(looked_at.damaged)
        for scan in looked_at.scans or find_scans(path):  # which says why there is none
            # Links are not followed: two names for one file are two scans to whoever made the link.
            found.setdefault((os.path.normpath(scan.path.absolute()), scan.series, scan.index), scan)
    if not found:
        raise MedganError("no scan was named", hint="Give NIfTI files (.nii, .nii.gz), DICOM folders, or folders.")
    return _told_apart(list(found.values())), list(damaged.items())


def output_paths(scans: Sequence[Scan], out: Path, *, single_input_file: bool) -> list[Path]:
    """Where each result goes: `out` itself when it names a NIfTI file, else files in the folder `out`, named after
    the scans.

    Raises:
        MedganError: `out` names one file and there are several scans, an output would replace a scan, or the place
            cannot be written.
    """
    is_file = out.name.lower().endswith((".nii", ".nii.gz"))
    if is_file and len(scans) > 1:
        raise MedganError(f"{len(scans)} scans cannot go into one file", file=out, hint="Give a folder as --out.")
    if single_input_file and not is_file and out.suffix and not out.is_dir():
        raise MedganError(
            f"'{out.suffix}' is no format that medgan writes", file=out, hint="Use .nii.gz, .nii, or a folder."
        )
    targets = [out] if is_file else [out / f"{scan.name}.nii.gz" for scan in scans]
    sources = [scan.path for scan in scans]
    return [writable_file(target, sources) for target in targets]


def blamed(error: MedganError, path: Path) -> MedganError:
    """The error with `path` as the file it is about, unless it names one."""
    return error if error.file is not None else MedganError(error.what, file=path, hint=error.hint)


def _told_apart(scans: Sequence[Scan]) -> list[Scan]:
    """The scans with as many parent folders in front of equal names as tell them apart, or a number if none do."""
    names = [_with_parents(scan, [other for other in scans if other.name == scan.name]) for scan in scans]
    taken: dict[str, Scan] = {}
    for scan, name in zip(scans, names, strict=True):
        tries = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        free = next(one for one in tries if one not in taken and (one == name or one not in names))
        taken[free] = replace(scan, name=free)
    return list(taken.values())


def _with_parents(scan: Scan, namesakes: Sequence[Scan]) -> str:
    """The scan's name, with the fewest parent folders in front that differ among all namesakes."""
    if len(namesakes) == 1:
        return scan.name
    above = {id(one): Path(os.path.normpath(one.path.absolute())).parts[1:-1] for one in namesakes}
    for depth in range(1, 1 + max(len(parts) for parts in above.values())):
        if len({parts[-depth:] for parts in above.values()}) == len(namesakes):
            return "_".join([*above[id(scan)][-depth:], scan.name])
    return scan.name
