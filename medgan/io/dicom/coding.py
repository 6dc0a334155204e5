"""How pixels are stored and what their values mean: the part of a header that decoding needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

import pydicom
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medgan.io.dicom.values import numbers, several, whole

TAGS = (
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RealWorldValueMappingSequence",
)

UNCOMPRESSED = frozenset((ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian))

_PIXEL_DATA = 0x7FE00010
_UNDEFINED_LENGTH = 0xFFFFFFFF
_LONGEST_UNIT = 16


@dataclass(frozen=True)
class PixelCoding:
    """How the pixels of a file are stored (DICOM PS3.3 C.7.6.3).

    Args:
        syntax: TransferSyntaxUID, or the one by which a file that states none could be parsed.
        bits_allocated: bits per pixel.
        bits_stored: how many of those hold the value.
        high_bit: the most significant of them, counted from 0.
        is_signed: whether the values are in two's complement (PixelRepresentation).
        offset: where the value of PixelData begins in the file, in bytes, if it is stored uncompressed; else None.
        length: bytes of PixelData there, as its element says; 0 if they are compressed.
        stored_matrix: rows and columns of the stored image; larger than the slice in mosaics only.
        tile: first row and first column of the slice in the stored image; (0, 0) but in mosaics.
        padding: least and greatest stored value that marks a pixel as outside the image (PixelPaddingValue and
            PixelPaddingRangeLimit, C.7.5.1.1.2); None if there is none.
    """

    syntax: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    offset: int | None
    length: int
    stored_matrix: tuple[int, int]
    tile: tuple[int, int] = (0, 0)
    padding: tuple[int, int] | None = None


@dataclass(frozen=True)
class RealWorldMap:
    """A linear map from stored values to quantities (Real World Value Mapping, DICOM PS3.3 C.7.6.16.2.11).

    Args:
        slope: quantity per stored unit.
        intercept: quantity of the stored value 0.
        unit: UCUM code, such as "Hz"; "" if none is stated.
    """

    slope: float
    intercept: float
    unit: str


def coding_of(dataset: pydicom.Dataset, stream: BinaryIO) -> PixelCoding:
    """How the pixels are stored.

    Args:
        dataset: with the attributes `TAGS`.
        stream: the file from which `pydicom.dcmread(stream, stop_before_pixels=True)` has just read the data set, so
            that it stands where PixelData begins.

    Raises:
        ValueError: an attribute cannot be read.
    """
    allocated = whole(dataset, "BitsAllocated") or 16
    stored = whole(dataset, "BitsStored") or allocated
    high_bit = whole(dataset, "HighBit")
    is_signed = bool(whole(dataset, "PixelRepresentation") or 0)
    syntax = _syntax_of(dataset)
    offset, length = _native_pixels(stream, syntax) if syntax in UNCOMPRESSED else (None, 0)
    return PixelCoding(
        syntax=str(syntax),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high_bit is None else high_bit,
        is_signed=is_signed,
        offset=offset,
        length=length,
        stored_matrix=(whole(dataset, "Rows") or 0, whole(dataset, "Columns") or 0),
        padding=_padding_of(dataset, is_signed, allocated),
    )


def real_world_map(dataset: pydicom.Dataset, stored_range: tuple[int, int]) -> RealWorldMap | None:
    """The linear real-world map of an image or frame, if there is exactly one and it covers all stored values."""
    sequence = dataset.get("RealWorldValueMappingSequence")
    if not isinstance(sequence, pydicom.Sequence) or len(sequence) != 1:
        return None
    mapping = sequence[0]
    try:
        slope, intercept = (numbers(mapping, f"RealWorldValue{name}", 1) for name in ("Slope", "Intercept"))
        first, last = (whole(mapping, f"RealWorldValue{end}ValueMapped") for end in ("First", "Last"))
    except ValueError:
        return None
    if slope is None or intercept is None or first is None or last is None or slope[0] == 0:
        return None
    if first > stored_range[0] or last < stored_range[1]:
        return None
    units = mapping.get("MeasurementUnitsCodeSequence")
    code = str(units[0].get("CodeValue") or "") if isinstance(units, pydicom.Sequence) and len(units) else ""
    return RealWorldMap(slope[0], intercept[0], code if len(code) <= _LONGEST_UNIT else "")


def _syntax_of(dataset: pydicom.Dataset) -> UID:
    """The transfer syntax, or the one by which pydicom could parse a file that states none."""
    stated = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if stated:
        return UID(stated)
    is_implicit, is_little_endian = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _native_pixels(stream: BinaryIO, syntax: UID) -> tuple[int | None, int]:
    """Offset and length of PixelData's value; no offset if something else stands there or the length is undefined."""
    begin = stream.tell()
    start = stream.read(12)
    order = "little" if syntax != ExplicitVRBigEndian else "big"
    if len(start) < 8:
        return None, 0
    tag = int.from_bytes(start[:2], order) << 16 | int.from_bytes(start[2:4], order)  # type: ignore[arg-type]
    if syntax == ImplicitVRLittleEndian:
        at, length = begin + 8, int.from_bytes(start[4:8], order)  # type: ignore[arg-type]
    elif start[4:6] == b"OW" or (start[4:6] == b"OB" and order == "little"):
        at, length = begin + 12, int.from_bytes(start[8:12], order)  # type: ignore[arg-type]
    else:
        return None, 0
    return (at, length) if tag == _PIXEL_DATA and length != _UNDEFINED_LENGTH else (None, 0)


def _padding_of(dataset: pydicom.Dataset, is_signed: bool, bits: int) -> tuple[int, int] | None:
    value = _stored_value(dataset.get("PixelPaddingValue"), is_signed, bits)
    if value is None:
        return None
    limit = _stored_value(dataset.get("PixelPaddingRangeLimit"), is_signed, bits)
    limit = value if limit is None else limit
    return min(value, limit), max(value, limit)


def _stored_value(value: Any, is_signed: bool, bits: int) -> int | None:
    """A pixel value whose representation the header leaves open (US or SS), as pixels are represented."""
    if isinstance(value, bytes):
        value = int.from_bytes(value[:2], "little") if value else None
    values = several(value)
    if len(values) != 1:
        return None
    try:
        number = int(values[0])
    except (TypeError, ValueError):
        return None
    if is_signed and number >= 1 << (bits - 1):
        number -= 1 << bits
    return number
