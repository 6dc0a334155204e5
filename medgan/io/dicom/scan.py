"""Which DICOM files there are and which series they form, by their headers alone."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError

from medgan.io.dicom.geometry import SlicePlane

# What pydicom raises on damaged headers.
HEADER_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    OverflowError,
    NotImplementedError,
    EOFError,
    OSError,
    struct.error,
    zlib.error,
)

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")

# Acquisition facts for `Volume.metadata`: attribute, and the name under which it goes. None can identify a patient.
_NUMBERS = {
    "SliceThickness": "slice_thickness",
    "SpacingBetweenSlices": "spacing_between_slices",
    "EchoTime": "echo_time",
    "RepetitionTime": "repetition_time",
    "InversionTime": "inversion_time",
    "FlipAngle": "flip_angle",
    "MagneticFieldStrength": "magnetic_field_strength",
}
_CODES = {"Modality": "modality", "PatientPosition": "patient_position"}

_TAGS = [
    "SOPClassUID",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsStored",
    "PixelRepresentation",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    *_NUMBERS,
    *_CODES,
]


@dataclass(frozen=True)
class SliceHeader:
    """What one image file says of itself, pixels left on disk.

    Args:
        path: the file.
        series: SeriesInstanceUID; "" if it has none.
        series_number: SeriesNumber, None if it has none.
        description: SeriesDescription, for messages only; never stored in a volume.
        sop_class: SOPClassUID.
        image_type: ImageType, such as ("ORIGINAL", "PRIMARY", "MOSAIC").
        frames: NumberOfFrames, 1 if absent.
        matrix: rows and columns.
        samples: values per pixel, 3 for colours.
        photometric: PhotometricInterpretation.
        stored_range: least and greatest value that a pixel can hold, by BitsStored and PixelRepresentation.
        plane: where the slice lies; None if the file does not say.
        slope: RescaleSlope, 1 if absent.
        intercept: RescaleIntercept, 0 if absent.
        has_lookup_table: whether a ModalityLUTSequence replaces the rescale factors.
        facts: acquisition facts under their names in `Volume.metadata`.
    """

    path: Path
    series: str
    series_number: int | None
    description: str
    sop_class: str
    image_type: tuple[str, ...]
    frames: int
    matrix: tuple[int, int]
    samples: int
    photometric: str
    stored_range: tuple[int, int]
    plane: SlicePlane | None
    slope: float
    intercept: float
    has_lookup_table: bool
    facts: Mapping[str, float | str]


@dataclass(frozen=True)
class DicomSeries:
    """The image files of one series.

    Args:
        uid: SeriesInstanceUID; "" if the files have none.
        folder: the deepest folder that holds all files.
        slices: one header per file, in the order of their paths.
        damaged: DICOM files in the same folders whose headers cannot be read and that may belong to the series; with
            the reason.
    """

    uid: str
    folder: Path
    slices: tuple[SliceHeader, ...]
    damaged: tuple[tuple[Path, str], ...] = ()

    def __str__(self) -> str:
        first = self.slices[0]
        number = "" if first.series_number is None else f"number {first.series_number}, "
        kind = f"{first.facts.get('modality', 'unknown modality')}, {first.matrix[0]}x{first.matrix[1]}"
        description = f", '{first.description}'" if first.description else ""
        place = f", in folder '{self.folder.name}'"
        files = "1 file" if len(self.slices) == 1 else f"{len(self.slices)} files"
        return f"{self.uid or 'no UID'} ({number}{files}, {kind}{description}{place})"


def is_dicom(path: Path) -> bool:
    """Whether the file begins as DICOM does, whatever its name.

    That is a preamble with the letters DICM or, in files without one, a first element of group 2 or 8 with a plausible
    value representation or length.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    if start[128:132] == b"DICM":
        return True
    if start[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or (len(start) >= 8 and int.from_bytes(start[4:8], "little") <= 64)


def visible_files(path: Path) -> Iterator[Path]:
    """The file itself, or every file below the folder in sorted order, without hidden files and folders."""
    if path.is_file():
        yield path
        return
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


def find_series(files: Iterable[Path]) -> tuple[list[DicomSeries], list[tuple[Path, str]]]:
    """The image series among `files`, by SeriesInstanceUID.

    A series may be spread over several folders; folders that hold the same slices again count as series of their own.
    Objects without pixels (reports, segmentation contours, DICOMDIR) and files of other kinds are passed over.

    Returns:
        The series in the order of their UIDs, and the damaged files that lie in no series' folder, each with the
        reason.
    """
    groups: dict[str, list[SliceHeader]] = {}
    damaged: list[tuple[Path, str]] = []
    for path in files:
        if not is_dicom(path):
            if path.suffix.lower() in _DICOM_SUFFIXES:
                what = "is empty" if path.stat().st_size == 0 else "holds something else"
                damaged.append((path, f"named as DICOM, but the file {what}"))
            continue
        try:
            header = read_header(path)
        except HEADER_ERRORS as error:
            damaged.append((path, f"the DICOM header cannot be read ({error})"))
            continue
        if header is not None:
            groups.setdefault(header.series, []).append(header)
    copies = [(uid, headers) for uid, group in sorted(groups.items()) for headers in _apart_by_folder(group)]
    series = [_series(uid, headers, damaged) for uid, headers in copies]
    attached = {path for one in series for path, _ in one.damaged}
    return series, [(path, reason) for path, reason in damaged if path not in attached]


def read_header(path: Path) -> SliceHeader | None:
    """The header of one file; None if it is a DICOM object without pixels.

    Raises:
        One of HEADER_ERRORS: an attribute that matters cannot be read.
    """
    with pydicom_quiet():
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        if not dataset.get("Rows") or not dataset.get("Columns"):
            return None
        bits, signed = int(dataset.get("BitsStored") or 16), bool(dataset.get("PixelRepresentation") or 0)
        return SliceHeader(
            path=path,
            series=str(dataset.get("SeriesInstanceUID") or ""),
            series_number=_whole(dataset, "SeriesNumber"),
            description=str(dataset.get("SeriesDescription") or "").strip(),
            sop_class=str(dataset.get("SOPClassUID") or ""),
            image_type=tuple(map(str, _several(dataset.get("ImageType")))),
            frames=_whole(dataset, "NumberOfFrames") or 1,
            matrix=(int(dataset.Rows), int(dataset.Columns)),
            samples=_whole(dataset, "SamplesPerPixel") or 1,
            photometric=str(dataset.get("PhotometricInterpretation") or "MONOCHROME2"),
            stored_range=(-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1),
            plane=_plane(dataset, path),
            slope=_factor(dataset, "RescaleSlope", 1.0),
            intercept=_factor(dataset, "RescaleIntercept", 0.0),
            has_lookup_table=bool(dataset.get("ModalityLUTSequence")),
            facts=_facts(dataset),
        )


@contextmanager
def pydicom_quiet() -> Iterator[None]:
    """Silence pydicom's warnings on harmless faults of a header; what matters is checked here and raised."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        yield


def _series(uid: str, headers: list[SliceHeader], damaged: list[tuple[Path, str]]) -> DicomSeries:
    folders = {header.path.parent for header in headers}
    folder = Path(os.path.commonpath(folders))
    slices = tuple(_named_from(header, folder) for header in sorted(headers, key=lambda header: header.path))
    return DicomSeries(uid, folder, slices, tuple((path, why) for path, why in damaged if path.parent in folders))


def _apart_by_folder(headers: list[SliceHeader]) -> list[list[SliceHeader]]:
    """The files of one series, kept together unless two folders hold slices of one position: those are copies or
    echoes."""
    by_folder: dict[Path, list[SliceHeader]] = {}
    for header in headers:
        by_folder.setdefault(header.path.parent, []).append(header)
    places = [{header.plane and header.plane.position for header in group} for group in by_folder.values()]
    return [headers] if sum(map(len, places)) == len(set().union(*places)) else list(by_folder.values())


def _named_from(header: SliceHeader, folder: Path) -> SliceHeader:
    """The header with its plane called by the path below `folder`, so that equal file names stay apart in messages."""
    if header.plane is None:
        return header
    return replace(header, plane=replace(header.plane, name=header.path.relative_to(folder).as_posix()))


def _several(value: Any) -> list[Any]:
    """An attribute's values: none, one or several."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, int, float)) else list(value)


def _numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    values = _several(dataset.get(keyword))
    if not values:
        return None
    if len(values) != count:
        raise ValueError(f"{keyword} holds {len(values)} values, {count} are needed")
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{keyword} holds {values}") from error


def _whole(dataset: pydicom.Dataset, keyword: str) -> int | None:
    numbers = _numbers(dataset, keyword, 1)
    return None if numbers is None else int(numbers[0])


def _factor(dataset: pydicom.Dataset, keyword: str, default: float) -> float:
    numbers = _numbers(dataset, keyword, 1)
    return default if numbers is None else numbers[0]


def _plane(dataset: pydicom.Dataset, path: Path) -> SlicePlane | None:
    position = _numbers(dataset, "ImagePositionPatient", 3)
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    spacing = _numbers(dataset, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None:
        return None
    x, y, z = position
    a, b, c, d, e, f = orientation
    rows, columns = spacing
    matrix = (int(dataset.Rows), int(dataset.Columns))
    return SlicePlane(path.name, (x, y, z), (a, b, c, d, e, f), (rows, columns), matrix)


def _facts(dataset: pydicom.Dataset) -> dict[str, float | str]:
    """Acquisition facts; one that cannot be read is left out, because no voxel depends on it."""
    facts: dict[str, float | str] = {}
    for keyword, name in _NUMBERS.items():
        try:
            number = _numbers(dataset, keyword, 1)
        except HEADER_ERRORS:
            continue
        if number is not None:
            facts[name] = number[0]
    for keyword, name in _CODES.items():
        code = dataset.get(keyword)
        if isinstance(code, str) and code and len(code) <= 16:
            facts[name] = code
    return facts
