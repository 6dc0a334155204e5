"""Finding, reading and writing scans whatever their format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.files import require_existing
from medgan.volume import Volume

if TYPE_CHECKING:
    from medgan.io.dicom.relaxations import Relaxations
    from medgan.io.dicom.scan import DicomSeries

_READABLE = "medgan reads NIfTI (.nii, .nii.gz) and DICOM (a folder of files, any suffix)"


@dataclass(frozen=True)
class Scan:
    """One scan on disk, found but not yet read.

    Args:
        path: the NIfTI file, or the folder that holds the DICOM series (the file, if a single DICOM file was named).
        series: SeriesInstanceUID of a DICOM series; None for NIfTI.
        name: stem for the names of outputs, unique among the scans found together, such as "sub-01_T1w".
        slices: the DICOM volume as it was found; None for NIfTI.
        index: which volume of a DICOM series that holds several, counted from 0; else None.
        relaxations: by what the reader may depart from strictness; None is nothing.
    """

    path: Path
    series: str | None
    name: str
    slices: DicomSeries | None = field(default=None, repr=False, compare=False)
    index: int | None = None
    relaxations: Relaxations | None = None

    def read(self) -> Volume:
        """The scan as a volume.

        Raises:
            MedganError: it cannot be read, or not without guessing where its voxels are.
        """
        if self.slices is None:
            return read_volume(self.path, series=self.series)
        from medgan.io.dicom.read import volume_of
        from medgan.io.dicom.relaxations import Relaxations

        return volume_of(self.slices, self.relaxations or Relaxations())


@dataclass(frozen=True)
class Survey:
    """What a search met.

    Args:
        scans: every volume, one by one.
        damaged: DICOM files that belong to none of them, each with the reason.
        left_out: DICOM objects that are no scans, such as localisers and dose reports; their `role` says what they are.
    """

    scans: tuple[Scan, ...]
    damaged: tuple[tuple[Path, str], ...] = ()
    left_out: tuple[DicomSeries, ...] = ()


def read_volume(
    path: str | Path, *, series: str | None = None, index: int | None = None, relaxations: Relaxations | None = None
) -> Volume:
    """Read one scan.

    Args:
        path: a NIfTI file, or a folder (searched with its subfolders) that holds a DICOM series.
        series: which SeriesInstanceUID, if the folder holds several.
        index: which volume, counted from 0, of a 4D NIfTI file or of a DICOM series that holds several.
        relaxations: what may be done to a DICOM series that is not one regular grid; without them it is refused.

    Returns:
        One channel (1, X, Y, Z) with its affine in RAS+ mm; float32, or the stored integer type if the file scales
        nothing. A volume read from DICOM has `metadata["dicom"]`: `files` and `frames`, the source file
        of each slice in their order and which frame of it if it has several, and `series`, the SeriesInstanceUID.

    Raises:
        MedganError: the scan cannot be read, does not lie on one regular grid, or is one of several volumes and none
            was chosen.
    """
    path = require_existing(path)
    if _is_nifti(path, series):
        from medgan.io.nifti import read_nifti

        return read_nifti(path, index)
    from medgan.io.dicom.read import read_series
    from medgan.io.dicom.relaxations import Relaxations

    return read_series(path, series, index, relaxations or Relaxations())


def read_all_volumes(path: str | Path, *, series: str | None = None, relaxations: Relaxations | None = None) -> Volume:
    """Read every volume of one scan, such as all echoes, time points or diffusion weightings of a DICOM series.

    Args:
        path: a folder (searched with its subfolders) that holds a DICOM series, or a NIfTI file of one volume.
        series: which SeriesInstanceUID, if the folder holds several.
        relaxations: see `read_volume`.

    Returns:
        One channel per volume (C, X, Y, Z); `history` says what the channels are.

    Raises:
        MedganError: a volume cannot be read, or they do not share one grid or are images of different kinds.
    """
    path = require_existing(path)
    if _is_nifti(path, series):
        return read_volume(path)
    from medgan.io.dicom.dynamic import read_volumes
    from medgan.io.dicom.relaxations import Relaxations

    return read_volumes(path, series, relaxations or Relaxations())


def _is_nifti(path: Path, series: str | None) -> bool:
    """Whether to read it as NIfTI, else as DICOM.

    Raises:
        MedganError: it is a file of neither kind, or a NIfTI file of which a series is wanted.
    """
    from medgan.io.dicom.files import is_dicom
    from medgan.io.nifti import is_nifti_name

    if not path.is_file():
        return False
    if is_nifti_name(path):
        if series is not None:
            raise MedganError(f"a NIfTI file has no series '{series}'", file=path, hint="Leave the series out.")
        return True
    if not is_dicom(path):
        raise MedganError("neither NIfTI nor DICOM", file=path, hint=_READABLE)
    return False


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
            "this is no NIfTI file name",
            file=path,
            hint=f"Name a file such as {path.with_suffix('').name}.nii.gz, or ask for a DICOM series (--format dicom).",
        )
    raise MedganError(f"unknown suffix '{path.suffix}'", file=path, hint=f"Valid ones are {' and '.join(SUFFIXES)}.")


def find_scans(
    path: str | Path,
    *,
    relaxations: Relaxations | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Scan]:
    """Every scan under a file or folder, in the order of their paths; hidden files and folders are passed over.

    NIfTI files are found by their suffix, DICOM series by looking into every other file. A series of several volumes,
    such as echoes or time points, is several scans. A scan that is listed may still be refused when it is read. What is
    no scan (localisers, dose reports, colour captures ...) is not listed; `survey` names it.

    Args:
        path: a file or folder.
        relaxations: what may be done to DICOM series that are not one regular grid.
        progress: told now and then how many of how many files were looked into.

    Raises:
        MedganError: there is nothing at `path`, or no scan in it.
    """
    found = survey(path, relaxations=relaxations, progress=progress)
    if not found.scans:
        damaged = "".join(f"; {file.name}: {reason}" for file, reason in found.damaged[:3])
        raise MedganError(f"no scan here{_only(found.left_out)}{damaged}", file=path, hint=_READABLE)
    return list(found.scans)


def survey(
    path: str | Path,
    *,
    relaxations: Relaxations | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Like `find_scans`, but an empty answer is an answer, and what is no scan is told apart."""
    from medgan.io.dicom.files import visible_files
    from medgan.io.dicom.roles import IMAGE
    from medgan.io.dicom.scan import find_series
    from medgan.io.nifti import is_nifti_name

    path = require_existing(path)
    files = list(visible_files(path))
    scans = [Scan(file, None, nifti_stem(file)) for file in files if is_nifti_name(file)]
    series, damaged = find_series([file for file in files if not is_nifti_name(file)], progress)
    images = [one for one in series if one.role == IMAGE]
    scans += [replace(scan, relaxations=relaxations) for scan in _dicom_scans(images, path)]
    left_out = tuple(one for one in series if one.role != IMAGE)
    return Survey(tuple(_uniquely_named(scans, path)), tuple(damaged), left_out)


def _dicom_scans(images: Sequence[DicomSeries], path: Path) -> list[Scan]:
    """One scan per volume."""
    volumes = Counter((one.uid, one.folder) for one in images)
    in_folder = Counter(folder for _, folder in volumes)
    counted: Counter[tuple[str, Path]] = Counter()
    scans = []
    for one in images:
        key = (one.uid, one.folder)
        place = path if path.is_file() else one.folder
        index = counted[key] if volumes[key] > 1 else None
        counted[key] += 1
        name = _series_name(one, place, alone=in_folder[one.folder] == 1)
        scans.append(Scan(place, one.uid, name, one, index))
    return scans


def _only(left_out: Sequence[DicomSeries]) -> str:
    if not left_out:
        return ""
    from medgan.io.dicom.choose import left_out as in_words

    return f", only {in_words(left_out)}"


def nifti_stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz."""
    name = path.name
    for suffix in (".gz", ".nii"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name


def _series_name(series: DicomSeries, place: Path, *, alone: bool) -> str:
    """The folder's name, with the series number if the folder holds several series, and the volume's label if the
    series holds several volumes."""
    label = re.sub(r"[^a-z0-9.]+", "-", series.label.lower()).strip("-")
    ending = f"_{label}" if label else ""
    if place.is_file():
        return place.stem + ending
    folder, number = place.resolve().name, series.number
    return (folder if alone or number is None else f"{folder}_series-{number}") + ending


def _uniquely_named(scans: list[Scan], root: Path) -> list[Scan]:
    """The scans by path, with as many parent folders in front of their names as tell them apart, then a number."""
    scans = sorted(scans, key=lambda scan: (scan.path, scan.series or "", scan.index or 0, scan.name))
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
