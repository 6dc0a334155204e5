"""Finding, reading and writing scans whatever their format."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.files import require_existing
from medgan.volume import Volume

if TYPE_CHECKING:
    from medgan.io.dicom.scan import DicomSeries

_READABLE = "medgan reads NIfTI (.nii, .nii.gz) and DICOM (a folder of files, any suffix)"


@dataclass(frozen=True)
class Scan:
    """One scan on disk, found but not yet read.

    Args:
        path: the NIfTI file, or the folder that holds the DICOM series (the file, if a single DICOM file was named).
        series: SeriesInstanceUID of a DICOM series; None for NIfTI.
        name: stem for the names of outputs, unique among the scans found together, such as "sub-01_T1w".
        slices: the DICOM series as it was found; None for NIfTI.
    """

    path: Path
    series: str | None
    name: str
    slices: DicomSeries | None = field(default=None, repr=False, compare=False)

    def read(self) -> Volume:
        """The scan as a volume.

        Raises:
            MedganError: it cannot be read, or not without guessing where its voxels are.
        """
        if self.slices is None:
            return read_volume(self.path, series=self.series)
        from medgan.io.dicom.read import volume_of

        return volume_of(self.slices)


@dataclass(frozen=True)
class Survey:
    """What a search met: the scans, and the damaged DICOM files that belong to none of them, each with the reason."""

    scans: tuple[Scan, ...]
    damaged: tuple[tuple[Path, str], ...] = ()


def read_volume(path: str | Path, *, series: str | None = None, index: int | None = None) -> Volume:
    """Read one scan.

    Args:
        path: a NIfTI file, or a folder (searched with its subfolders) that holds a DICOM series.
        series: which SeriesInstanceUID, if the folder holds several.
        index: which volume of a 4D NIfTI file, counted from 0.

    Returns:
        One channel (1, X, Y, Z) with its affine in RAS+ mm; float32, or the stored integer type if the file scales
        nothing.

    Raises:
        MedganError: the scan cannot be read, or does not lie on one regular grid.
    """
    path = require_existing(path)
    from medgan.io.nifti import is_nifti_name, read_nifti

    if path.is_file() and is_nifti_name(path):
        if series is not None:
            raise MedganError(f"a NIfTI file has no series '{series}'", file=path, hint="Leave the series out.")
        return read_nifti(path, index)
    from medgan.io.dicom.read import read_series
    from medgan.io.dicom.scan import is_dicom

    if path.is_file() and not is_dicom(path):
        raise MedganError("neither NIfTI nor DICOM", file=path, hint=_READABLE)
    if index is not None:
        raise MedganError(f"a DICOM series has no volume index (got {index})", file=path, hint="Leave the index out.")
    return read_series(path, series)


def write_volume(volume: Volume, path: str | Path) -> Path:
    """Write a volume as `.nii` or `.nii.gz`, whole or not at all; see `medgan.io.nifti.write_nifti` for what is kept.

    Raises:
        MedganError: the suffix is not known, or the place cannot be written.
    """
    path = require_writable_name(path)
    from medgan.io.nifti import write_nifti

    return write_nifti(volume, path)


def require_writable_name(path: str | Path) -> Path:
    """`path` as a Path, if its name is one that `write_volume` can write.

    Raises:
        MedganError: the suffix is not known.
    """
    from medgan.io.nifti import SUFFIXES, is_nifti_name

    path = Path(path)
    if is_nifti_name(path):
        return path
    if path.is_dir() or path.suffix.lower() in ("", ".dcm", ".ima", ".dicom"):
        raise MedganError(
            "DICOM cannot be written yet (a name without .nii or .nii.gz means a DICOM folder)",
            file=path,
            hint=f"Name a NIfTI file, such as {path.with_suffix('').name}.nii.gz",
        )
    raise MedganError(f"unknown suffix '{path.suffix}'", file=path, hint=f"Valid ones are {' and '.join(SUFFIXES)}.")


def find_scans(path: str | Path) -> list[Scan]:
    """Every scan under a file or folder, in the order of their paths; hidden files and folders are passed over.

    NIfTI files are found by their suffix, DICOM series by looking into every other file. A scan that is listed may
    still be refused when it is read: nothing is left out silently.

    Raises:
        MedganError: there is nothing at `path`, or no scan in it.
    """
    found = survey(path)
    if not found.scans:
        damaged = "".join(f"; {file.name}: {reason}" for file, reason in found.damaged[:3])
        raise MedganError(f"no scan here{damaged}", file=path, hint=_READABLE)
    return list(found.scans)


def survey(path: str | Path) -> Survey:
    """Like `find_scans`, but an empty answer is an answer, and damaged DICOM files are told apart."""
    from medgan.io.dicom.scan import find_series, visible_files
    from medgan.io.nifti import is_nifti_name

    path = require_existing(path)
    files = list(visible_files(path))
    scans = [Scan(file, None, nifti_stem(file)) for file in files if is_nifti_name(file)]
    series, damaged = find_series([file for file in files if not is_nifti_name(file)])
    in_folder = Counter(one.folder for one in series)
    for one in series:
        place = path if path.is_file() else one.folder
        scans.append(Scan(place, one.uid, _series_name(one, place, alone=in_folder[one.folder] == 1), one))
    return Survey(tuple(_uniquely_named(scans, path)), tuple(damaged))


def nifti_stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz."""
    name = path.name
    for suffix in (".gz", ".nii"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name


def _series_name(series: DicomSeries, place: Path, *, alone: bool) -> str:
    """The folder's name, with the series number if the folder holds several series."""
    if place.is_file():
        return place.stem
    folder, number = place.resolve().name, series.slices[0].series_number
    return folder if alone or number is None else f"{folder}_series-{number}"


def _uniquely_named(scans: list[Scan], root: Path) -> list[Scan]:
    """The scans by path, with as many parent folders in front of their names as tell them apart, then a number."""
    scans = sorted(scans, key=lambda scan: (scan.path, scan.name))
    for depth in range(1, 1 + max((len(scan.path.parts) for scan in scans), default=0)):
        counts = Counter(scan.name for scan in scans)
        scans = [_with_parent(scan, root, depth) if counts[scan.name] > 1 else scan for scan in scans]
    taken = {scan.name for scan in scans}
    numbered: dict[str, Scan] = {}
    for scan in scans:
        name, number = scan.name, 1
        while name in numbered or (number > 1 and name in taken):
            number += 1
            name = f"{scan.name}_{number}"
        numbered[name] = replace(scan, name=name)
    return list(numbered.values())


def _with_parent(scan: Scan, root: Path, depth: int) -> Scan:
    """The scan's name with the `depth`-th folder above it in front, if that folder lies under `root`."""
    parents = scan.path.relative_to(root).parts[:-1] if scan.path != root else ()
    return replace(scan, name=f"{parents[-depth]}_{scan.name}") if depth <= len(parents) else scan
