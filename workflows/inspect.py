"""Say what is in files and folders: scans, their geometry and contrast, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.io.scans import Scan, survey
from medgan.volume import Volume

if TYPE_CHECKING:
    from rich.console import Console

    from medgan.io.dicom.scan import DicomSeries

# Words of file names and series descriptions that tell the contrast, and the BIDS name of each.
_CONTRASTS = {
    "t1": "T1w",
    "t1w": "T1w",
    "mprage": "T1w",
    "t1ce": "T1ce",
    "t1gd": "T1ce",
    "t1c": "T1ce",
    "t2": "T2w",
    "t2w": "T2w",
    "pd": "PDw",
    "pdw": "PDw",
    "flair": "FLAIR",
    "t2star": "T2starw",
    "t2starw": "T2starw",
    "swi": "swi",
    "dwi": "dwi",
    "bold": "bold",
}

# By how much the slice distance in the header may differ from that of the positions before it is worth a remark.
_STATED_SPACING_TOLERANCE = 0.01


@dataclass(frozen=True)
class SeriesSummary:
    """What is known of one scan, or of a file that should be one.

    Args:
        path: the NIfTI file, the folder of a DICOM series, or the file or folder that is no scan.
        kind: "nifti", "dicom" or "unknown".
        role: "image", or what is left out as no scan: "localiser", "dose report", "colour capture" ...
        series: SeriesInstanceUID of a DICOM series.
        number: SeriesNumber of a DICOM series.
        index: which volume of a DICOM series that holds several, counted from 0.
        label: what tells the volume from the others of its series, such as "echo 2".
        files: how many files a DICOM volume or object has.
        shape: voxels along each array axis; a fourth number counts the volumes of a 4D file.
        spacing: mm between voxel centres along the three spatial axes.
        orientation: such as "RAS".
        dtype: the data type that the file stores (for DICOM, that of the volume read).
        modality: "MR", "CT" ...
        contrast: such as "T1w", as far as the file name or the series description tells.
        intensity: least and greatest value, rescaled to real units.
        problems: what hinders reading, or deserves a look; one sentence or two each.
    """

    path: Path
    kind: str
    role: str = "image"
    series: str | None = None
    number: int | None = None
    index: int | None = None
    label: str | None = None
    files: int | None = None
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, float, float] | None = None
    orientation: str | None = None
    dtype: str | None = None
    modality: str | None = None
    contrast: str | None = None
    intensity: tuple[float, float] | None = None
    problems: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether its voxels could be read."""
        return self.intensity is not None

    @property
    def left_out(self) -> bool:
        """Whether it is a DICOM object that is no scan and harms none."""
        return self.role != "image"

    def to_dict(self) -> dict[str, Any]:
        """As plain values that `json.dumps` takes."""
        return asdict(self) | {
            "path": str(self.path),
            "shape": _as_list(self.shape),
            "spacing": _as_list(self.spacing),
            "intensity": _as_list(self.intensity),
            "problems": list(self.problems),
        }


def inspect(paths: Iterable[str | Path]) -> list[SeriesSummary]:
    """Summarise every scan under the given files and folders.

    It never fails on a bad file, but reports what is wrong with it: a file or folder without any scan and a damaged
    DICOM file get a summary of their own, of the kind "unknown".
    """
    return [summary for path in paths for summary in _summaries(Path(path))]


def print_summaries(summaries: Sequence[SeriesSummary], console: Console, *, remarks_only: bool = False) -> None:
    """Print the summaries as a table, and the problems below it; with `remarks_only`, those of readable scans."""
    from rich.table import Table
    from rich.text import Text

    has_volumes = any(one.kind == "dicom" for one in summaries)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("scan", "kind", *(("series", "volume") if has_volumes else ())):
        table.add_column(heading, overflow="fold")
    for heading in ("shape", "spacing (mm)", "axes", "type", "contrast", "intensity"):
        table.add_column(heading, overflow="fold")
    for one in summaries:
        cells = (str(one.path), one.kind, *((_series_cell(one), _volume_cell(one)) if has_volumes else ()))
        style = "dim" if one.left_out else "yellow" if one.problems else None
        table.add_row(*map(Text, (*cells, *_voxel_cells(one))), style=style)
    console.print(table)
    for one in summaries:
        for problem in one.problems if one.readable or not remarks_only else ():
            console.print(Text.assemble((str(one.path), "yellow"), f": {problem}"))


def _series_cell(one: SeriesSummary) -> str:
    return "" if one.number is None else str(one.number)


def _volume_cell(one: SeriesSummary) -> str:
    if one.left_out:
        return f"left out: {one.role}"
    number = "" if one.index is None else f"{one.index}: "
    return number + (one.label or "")


def _voxel_cells(one: SeriesSummary) -> tuple[str, ...]:
    return (
        _joined(one.shape),
        _joined(one.spacing),
        one.orientation or "",
        one.dtype or "",
        " ".join(word for word in (one.modality, one.contrast) if word),
        f"{one.intensity[0]:.4g} to {one.intensity[1]:.4g}" if one.intensity else "",
    )


def _summaries(path: Path) -> list[SeriesSummary]:
    try:
        found = survey(path)
    except MedganError as error:
        return [SeriesSummary(path, "unknown", problems=(_in_words(error, path),))]
    summaries = [_summary(scan) for scan in found.scans]
    summaries += [_left_out(one) for one in found.left_out]
    summaries += [SeriesSummary(file, "unknown", problems=(reason,)) for file, reason in found.damaged]
    return summaries or [SeriesSummary(path, "unknown", problems=("no NIfTI file and no DICOM image",))]


def _summary(scan: Scan) -> SeriesSummary:
    """What the header says, completed by what reading the voxels shows."""
    try:
        summary = _by_header(scan)
    except MedganError as error:
        return SeriesSummary(scan.path, "nifti", problems=(_in_words(error, scan.path),))
    try:
        volume = scan.read()
    except MedganError as error:
        return replace(summary, problems=(_in_words(error, scan.path),))
    return replace(
        summary,
        spacing=volume.spacing,
        orientation=volume.orientation,
        dtype=summary.dtype or str(volume.data.dtype),
        intensity=(float(volume.data.min()), float(volume.data.max())),
        problems=tuple(_remarks(volume)),
    )


def _by_header(scan: Scan) -> SeriesSummary:
    if scan.slices is not None:
        return _by_dicom_headers(scan, scan.slices)
    from medgan.io.nifti import outline_of

    outline = outline_of(scan.path)
    contrast = _contrast(scan.name)
    return SeriesSummary(
        scan.path,
        "nifti",
        shape=outline.shape,
        spacing=outline.spacing,
        orientation=outline.orientation,
        dtype=outline.dtype,
        modality="MR" if contrast else None,
        contrast=contrast,
    )


def _by_dicom_headers(scan: Scan, series: DicomSeries) -> SeriesSummary:
    from medgan.io.dicom.read import shared_facts

    matrices = {header.matrix for header in series.slices}
    modality = shared_facts(series).get("modality")
    shape = None
    if len(matrices) == 1:
        rows, columns = matrices.pop()
        count = sum(header.frames if header.frame is None else 1 for header in series.slices)
        shape = (columns, rows, count)
    return replace(
        _of_series(scan.path, series),
        index=scan.index,
        label=series.label or None,
        shape=shape,
        modality=None if modality is None else str(modality),
        contrast=_contrast(series.slices[0].description) if modality == "MR" else None,
    )


def _left_out(series: DicomSeries) -> SeriesSummary:
    """A DICOM object that is no scan."""
    paths = {header.path for header in series.slices}
    modality = series.slices[0].facts.get("modality")
    summary = _of_series(paths.pop() if len(paths) == 1 else series.folder, series)
    return replace(summary, modality=None if modality is None else str(modality))


def _of_series(path: Path, series: DicomSeries) -> SeriesSummary:
    return SeriesSummary(
        path,
        "dicom",
        role=series.role,
        series=series.uid or None,
        number=series.number,
        files=len({header.path for header in series.slices}),
    )


def _remarks(volume: Volume) -> list[str]:
    """What deserves a look although the scan can be read."""
    remarks = [phrase for phrase in volume.history if phrase.startswith("orientation unknown")]
    if volume.data.min() == volume.data.max():
        remarks.append(f"every voxel has the value {float(volume.data.min()):g}")
    if 1 in volume.shape:
        remarks.append("a single slice, not a 3D scan")
    stated = volume.metadata.get("spacing_between_slices")
    measured = volume.spacing[2]
    if isinstance(stated, float) and abs(stated - measured) > _STATED_SPACING_TOLERANCE * measured:
        remarks.append(
            f"the header states {stated:g} mm between slices, the slice positions say {measured:.4g} mm (which is used)"
        )
    return remarks


def _contrast(name: str) -> str | None:
    """The contrast that one of the words of a name tells."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return next((_CONTRASTS[word] for word in words if word in _CONTRASTS), None)


def _in_words(error: MedganError, path: Path) -> str:
    """The error without the path that stands beside it anyway; another file's name in front."""
    same_place = error.file is None or error.file == path
    what = error.what if same_place or error.file is None else f"{error.file.name}: {error.what}"
    return str(MedganError(what, hint=error.hint))


def _as_list(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else list(values)


def _joined(values: Sequence[float] | None) -> str:
    return "" if values is None else " x ".join(f"{value:.4g}" for value in values)
