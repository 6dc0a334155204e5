"""What image files say of themselves: their headers as plain values, pixels left on disk."""

from __future__ import annotations

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medgan.io.dicom.coding import TAGS as CODING_TAGS
from medgan.io.dicom.coding import PixelCoding, RealWorldMap, coding_of, real_world_map
from medgan.io.dicom.geometry import SlicePlane
from medgan.io.dicom.quick import quick_header
from medgan.io.dicom.roles import IMAGE, role_of
from medgan.io.dicom.values import numbers, several, whole
from medgan.io.dicom.variants import VARIANT_TAGS, Variant, variant_of

# What pydicom raises on damaged headers.
HEADER_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
    RecursionError,
    MemoryError,
    EOFError,
    OSError,
    struct.error,
    zlib.error,
)

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

HEADER_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
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
    *VARIANT_TAGS,
    *CODING_TAGS,
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    # Siemens' CSA image header, with the creators that reserve its block.
    *(tag for block in (0x10, 0x11, 0x12) for tag in (0x00290000 | block, 0x00290010 | block << 8)),
]

# Storage classes with functional groups (DICOM PS3.3 A.36, A.38, A.56, A.70 to A.72, A.85): geometry per frame, not
# per file.
ENHANCED_CLASSES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{ending}"
    for ending in ("2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "13.1.1", "128.1", "130")
)

# A header that claims more pixels than this, and a thousand times more bytes than the file has, lies: the blank images
# that compress best do so by some hundreds.
_LARGE_BYTES = 64 << 20
_LARGEST_COMPRESSION = 1000

# Pixels between a third of a micrometre and ten metres; numbers beyond come from other kinds of value.
_FINEST_MM, _COARSEST_MM = 3e-4, 1e4


@dataclass(frozen=True)
class SliceHeader:
    """What one image file, or one frame of a multi-frame file, says of itself.

    Args:
        path: the file.
        series: SeriesInstanceUID; "" if it has none.
        series_number: SeriesNumber, None if it has none.
        description: SeriesDescription, for messages only; never stored in a volume.
        sop_class: SOPClassUID.
        image_type: ImageType, such as ("ORIGINAL", "PRIMARY", "MOSAIC").
        frames: NumberOfFrames, 1 if absent.
        matrix: rows and columns; (0, 0) for an object without pixels.
        samples: values per pixel, 3 for colours.
        photometric: PhotometricInterpretation.
        stored_range: least and greatest value that a pixel can hold, by BitsStored and PixelRepresentation.
        plane: where the slice lies; None if the file does not say.
        slope: RescaleSlope, 1 if absent.
        intercept: RescaleIntercept, 0 if absent.
        has_lookup_table: whether a ModalityLUTSequence replaces the rescale factors.
        facts: acquisition facts under their names in `Volume.metadata`.
        frame: which frame of the file, counted from 0; None for the whole file.
        role: "image", or what else it is, such as "localiser"; see `medgan.io.dicom.roles`.
        instance: SOPInstanceUID; "" if it has none.
        frame_of_reference: FrameOfReferenceUID; "" if it has none.
        stack: StackID of a frame; "" if it has none.
        variant: what tells volumes at the same place apart: echo, b-value, time and the like.
        coding: how the pixels are stored; None if the header did not come from a file.
        real_world: the linear map of all stored values to quantities; None if there is not exactly one.
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
    frame: int | None = None
    role: str = IMAGE
    instance: str = ""
    frame_of_reference: str = ""
    stack: str = ""
    variant: Variant = field(default_factory=Variant)
    coding: PixelCoding | None = None
    real_world: RealWorldMap | None = None


def headers_of(path: Path) -> list[SliceHeader]:
    """The headers in one DICOM file: one, or one per frame of an enhanced multi-frame file; none for a DICOMDIR.

    An object without pixels has one header too, whose `role` says what it is.

    Raises:
        One of HEADER_ERRORS: an attribute that matters cannot be read, or the file claims more pixels than it can hold.
    """
    with path.open("rb") as stream:
        dataset: pydicom.Dataset | None = quick_header(stream, HEADER_TAGS)
        if dataset is None:
            _require_sane_deflation(path)
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=HEADER_TAGS, force=True)
        coding = coding_of(dataset, stream)
    role = role_of(dataset)
    if role is None:
        return []
    _require_possible_size(dataset, path)
    headers = [replace(header, coding=coding) for header in _headers(dataset, path, role)]
    if role == IMAGE and "MOSAIC" in headers[0].image_type:
        from medgan.io.dicom.mosaic import tiles_of

        return [tile for header in headers for tile in tiles_of(dataset, header)]
    return headers


def header_of(dataset: pydicom.Dataset, path: Path) -> SliceHeader:
    """One data set's header, its attributes read from the top level.

    Raises:
        One of HEADER_ERRORS: an attribute that matters cannot be read.
    """
    return _header(dataset, path, role_of(dataset) or IMAGE)


def _headers(dataset: pydicom.Dataset, path: Path, role: str) -> list[SliceHeader]:
    from medgan.io.dicom.enhanced import frames_of

    if role == IMAGE and dataset.get("SOPClassUID") in ENHANCED_CLASSES:
        return frames_of(dataset, path)
    return [_header(dataset, path, role)]


@contextmanager
def pydicom_quiet() -> Iterator[None]:
    """Silence pydicom's warnings on harmless faults of a header, which quote it; what matters is checked here and
    raised.

    Python's list of warning filters belongs to the whole process, so this stands around threads, not within them.
    """
    logger, unheard = logging.getLogger("pydicom"), logging.Filter("nothing of this name")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        logger.addFilter(unheard)
        try:
            yield
        finally:
            logger.removeFilter(unheard)


def plane_of(dataset: pydicom.Dataset, path: Path) -> SlicePlane | None:
    """Where an image lies by the top level of its data set; None if it does not say."""
    position = numbers(dataset, "ImagePositionPatient", 3)
    orientation = numbers(dataset, "ImageOrientationPatient", 6)
    spacing = numbers(dataset, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None:
        return None
    x, y, z = position
    a, b, c, d, e, f = orientation
    rows, columns = spacing
    if not all(one <= 0 or _FINEST_MM <= one <= _COARSEST_MM for one in spacing if math.isfinite(one)):
        raise ValueError(f"PixelSpacing holds {spacing}, which no scanner makes")
    matrix = (int(dataset.Rows), int(dataset.Columns))
    return SlicePlane(path.name, (x, y, z), (a, b, c, d, e, f), (rows, columns), matrix)


def facts_of(dataset: pydicom.Dataset) -> dict[str, float | str]:
    """Acquisition facts; one that cannot be read is left out, because no voxel depends on it."""
    facts: dict[str, float | str] = {}
    for keyword, name in _NUMBERS.items():
        try:
            number = numbers(dataset, keyword, 1)
        except HEADER_ERRORS:
            continue
        if number is not None:
            facts[name] = number[0]
    for keyword, name in _CODES.items():
        code = dataset.get(keyword)
        if isinstance(code, str) and code and len(code) <= 16:
            facts[name] = code
    return facts


def _header(dataset: pydicom.Dataset, path: Path, role: str) -> SliceHeader:
    bits, signed = int(dataset.get("BitsStored") or 16), bool(dataset.get("PixelRepresentation") or 0)
    if not 1 <= bits <= 64:
        raise ValueError(f"BitsStored holds {bits}")
    stored_range = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    has_pixels = bool(dataset.get("Rows") and dataset.get("Columns"))
    return SliceHeader(
        path=path,
        series=str(dataset.get("SeriesInstanceUID") or ""),
        series_number=whole(dataset, "SeriesNumber"),
        description=str(dataset.get("SeriesDescription") or "").strip(),
        sop_class=str(dataset.get("SOPClassUID") or ""),
        image_type=tuple(map(str, several(dataset.get("ImageType")))),
        frames=_frames(dataset),
        matrix=(int(dataset.Rows), int(dataset.Columns)) if has_pixels else (0, 0),
        samples=whole(dataset, "SamplesPerPixel") or 1,
        photometric=str(dataset.get("PhotometricInterpretation") or "MONOCHROME2"),
        stored_range=stored_range,
        plane=plane_of(dataset, path) if has_pixels else None,
        slope=_factor(dataset, "RescaleSlope", 1.0),
        intercept=_factor(dataset, "RescaleIntercept", 0.0),
        has_lookup_table=bool(dataset.get("ModalityLUTSequence")),
        facts=facts_of(dataset),
        role=role,
        instance=str(dataset.get("SOPInstanceUID") or ""),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or ""),
        variant=variant_of(dataset),
        real_world=real_world_map(dataset, stored_range),
    )


def _frames(dataset: pydicom.Dataset) -> int:
    frames = whole(dataset, "NumberOfFrames")
    if frames is not None and frames < 0:
        raise ValueError(f"NumberOfFrames holds {frames}")
    return frames or 1


def _factor(dataset: pydicom.Dataset, keyword: str, default: float) -> float:
    values = numbers(dataset, keyword, 1)
    return default if values is None else values[0]


def _require_possible_size(dataset: pydicom.Dataset, path: Path) -> None:
    """Refuse a header that claims far more pixels than its file can hold, before anybody makes room for them."""
    rows, columns = (whole(dataset, keyword) or 0 for keyword in ("Rows", "Columns"))
    values = rows * columns * (whole(dataset, "SamplesPerPixel") or 1) * _frames(dataset)
    claimed = values * -(-(whole(dataset, "BitsAllocated") or 16) // 8)
    size = path.stat().st_size
    if claimed > _LARGE_BYTES and claimed > _LARGEST_COMPRESSION * size:
        raise ValueError(f"{claimed / 2**20:.0f} MiB of pixels are claimed by a file of {size / 1024:.0f} KiB")


def _require_sane_deflation(path: Path) -> None:
    """Refuse a deflated file that would grow without measure: pydicom inflates it whole to read its header."""
    with path.open("rb") as stream:
        start = stream.read(1024)
        if str(DeflatedExplicitVRLittleEndian).encode() not in start:
            return
    if pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    with path.open("rb") as stream:
        stream.seek(_end_of_meta(start))
        inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while block := inflater.unconsumed_tail or stream.read(1 << 16):
            size += len(inflater.decompress(block, 1 << 20))
            if size > max(_LARGE_BYTES, _LARGEST_COMPRESSION // 10 * path.stat().st_size):
                raise ValueError(f"the deflated content is more than {size / 2**20:.0f} MiB")


def _end_of_meta(start: bytes) -> int:
    """Where the file meta information ends: behind the last element of group 2 (DICOM PS3.10 7.1)."""
    at = 132
    while start[at : at + 2] == b"\x02\x00":
        is_long = start[at + 4 : at + 6] in (b"OB", b"OW", b"UN", b"UT")
        value, ends = (at + 12, at + 8) if is_long else (at + 8, at + 6)
        at = value + int.from_bytes(start[ends:value], "little")
    return at
