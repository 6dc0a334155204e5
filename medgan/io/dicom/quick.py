"""The attributes of a well-formed file's header, several times faster than by pydicom.

Reading a series takes as long as reading its headers. Most of them are plain: uncompressed or encapsulated Little
Endian, tags in order, values in ASCII. Those are parsed here; at the first thing out of the ordinary this declines, and
pydicom reads the file instead, so that nothing is understood differently (DICOM PS3.5, chapter 7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, BinaryIO

import pydicom
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

_EXPLICIT, _IMPLICIT, _LENGTH = Struct("<HH2sH"), Struct("<HHL"), Struct("<L")
_SHORT = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()  # two bytes of length
)
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SYNTAXES = frozenset(AllTransferSyntaxes) - {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_PIXEL_GROUP = 0x7FE00000
_META_START = 132
_META_GROUP = 0x0002
_FIRST_LOOK = 1 << 14
_LONGEST_HEADER = 4 << 20
_DEEPEST = 16


class _DeclinedError(Exception):
    """Something out of the ordinary."""


class _CutError(Exception):
    """The header goes on behind the bytes at hand."""


class PlainDataset(pydicom.Dataset):
    """A data set of top-level attributes whose `get` by keyword is a look-up of values converted once."""

    def __init__(
        self,
        elements: dict[BaseTag, pydicom.DataElement | RawDataElement],
        values: dict[str, Any],
        asked: frozenset[str],
    ) -> None:
        super().__init__(elements)
        self.__dict__["_plain"] = values
        self.__dict__["_asked"] = asked

    def __getattr__(self, name: str) -> Any:
        plain = self.__dict__.get("_plain", {})
        return plain[name] if name in plain else super().__getattr__(name)

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of an attribute by keyword, or the element of a tag; `default` if it is absent."""
        if key in self._plain:
            return self._plain[key]
        if key in self._asked:
            return default
        return super().get(key, default)


def quick_header(stream: BinaryIO, tags: Sequence[str | int]) -> PlainDataset | None:
    """The attributes `tags` of a file that is open at its beginning; None if pydicom should read it.

    Afterwards the stream stands where PixelData begins, as it does after `pydicom.dcmread` with `stop_before_pixels`.
    """
    for size in (_FIRST_LOOK, _LONGEST_HEADER):
        stream.seek(0)
        content = stream.read(size)
        try:
            dataset, end = _parsed(content, _wanted(tuple(tags)))
        except _CutError:
            if len(content) < size:
                break
        except (_DeclinedError, UnicodeDecodeError, ValueError):
            break
        else:
            stream.seek(end)
            return dataset
    stream.seek(0)
    return None


def _parsed(content: bytes, wanted: _Wanted) -> tuple[PlainDataset, int]:
    syntax, start = _meta(content)
    is_implicit = syntax == ImplicitVRLittleEndian
    elements: dict[BaseTag, pydicom.DataElement | RawDataElement] = {}
    values: dict[str, Any] = {}
    unconverted: set[str] = set()
    at, previous = start, 0
    while True:
        tag, vr, length, value_at = _element(content, at, is_implicit)
        if tag <= previous:
            raise _DeclinedError
        if tag >= _PIXEL_GROUP:
            break
        previous = tag
        keyword, known_vr = wanted.by_tag.get(tag, (None, None))
        if length == _UNDEFINED:
            if known_vr is not None or vr not in (b"SQ", b""):
                raise _DeclinedError
            at = _after_sequence(content, value_at, is_implicit, 0)
            continue
        at = value_at + length
        if known_vr is None:
            continue
        if at > len(content):
            raise _CutError
        if known_vr == "SQ" or vr == b"SQ":
            raise _DeclinedError
        value = content[value_at:at]
        kind = vr.decode() if vr else None
        elements[BaseTag(tag)] = RawDataElement(BaseTag(tag), kind, length, value, value_at, is_implicit, True)
        convert = _CONVERTERS.get(kind or known_vr)
        if keyword and convert is not None:
            values[keyword] = convert(value)
        elif keyword:
            unconverted.add(keyword)
    if tag != _PIXEL_DATA:
        raise _DeclinedError
    dataset = PlainDataset(elements, values, wanted.keywords - unconverted)
    dataset.file_meta = _file_meta(syntax)
    dataset.set_original_encoding(is_implicit, True, "iso8859")
    return dataset, at


def _meta(content: bytes) -> tuple[UID, int]:
    """The transfer syntax, and where the data set begins."""
    if content[128:_META_START] != b"DICM":
        raise _DeclinedError
    at, syntax = _META_START, ""
    while True:
        if int.from_bytes(content[at : at + 2], "little") != _META_GROUP:
            break
        tag, _, length, value_at = _element(content, at, is_implicit=False)
        if length == _UNDEFINED:
            raise _DeclinedError
        at = value_at + length
        if tag == 0x00020010:
            syntax = content[value_at:at].decode("ascii").rstrip("\0 ")
    if syntax not in _SYNTAXES:
        raise _DeclinedError
    return UID(syntax), at


@lru_cache
def _file_meta(syntax: UID) -> FileMetaDataset:
    """The file meta information, as far as it is kept; shared by the files of one transfer syntax."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    return meta


def _element(content: bytes, at: int, is_implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR (b"" if implicit), length and where the value begins."""
    if at + 12 > len(content):
        raise _CutError
    if is_implicit:
        group, element, length = _IMPLICIT.unpack_from(content, at)
        return group << 16 | element, b"", length, at + 8
    group, element, vr, length = _EXPLICIT.unpack_from(content, at)
    if vr in _SHORT:
        return group << 16 | element, vr, length, at + 8
    if vr not in _LONG:
        raise _DeclinedError
    return group << 16 | element, vr, _LENGTH.unpack_from(content, at + 8)[0], at + 12


def _after_sequence(content: bytes, at: int, is_implicit: bool, depth: int) -> int:
    """Where a sequence of undefined length ends; `at` is its first item."""
    if depth > _DEEPEST:
        raise _DeclinedError
    while True:
        if at + 8 > len(content):
            raise _CutError
        group, element, length = _IMPLICIT.unpack_from(content, at)
        tag = group << 16 | element
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _DeclinedError
        at = _after_item(content, at, is_implicit, depth) if length == _UNDEFINED else at + length


def _after_item(content: bytes, at: int, is_implicit: bool, depth: int) -> int:
    while True:
        if at + 8 > len(content):
            raise _CutError
        group, element, _ = _IMPLICIT.unpack_from(content, at)
        if group << 16 | element == _ITEM_END:
            return at + 8
        _, vr, length, value_at = _element(content, at, is_implicit)
        if length == _UNDEFINED:
            if vr not in (b"SQ", b""):
                raise _DeclinedError
            at = _after_sequence(content, value_at, is_implicit, depth + 1)
        else:
            at = value_at + length


class _Wanted:
    """Which attributes are asked for: keyword and VR by tag; no keyword for private ones."""

    def __init__(self, tags: tuple[str | int, ...]) -> None:
        numbers = [tag if isinstance(tag, int) else tag_for_keyword(tag) or 0 for tag in tags]
        self.by_tag = {
            tag: (keyword_for_tag(tag) or None, "UN" if tag >> 16 & 1 else dictionary_VR(tag)) for tag in numbers
        }
        self.keywords = frozenset(keyword for keyword, _ in self.by_tag.values() if keyword)


@lru_cache
def _wanted(tags: tuple[str | int, ...]) -> _Wanted:
    return _Wanted(tags)


def _texts(value: bytes) -> Any:
    """One text or several; an empty one where there is none."""
    texts = [text.rstrip("\0 ") for text in value.decode("ascii").split("\\")]
    return texts[0] if len(texts) == 1 else texts


def _one_text(value: bytes) -> str:
    return value.decode("ascii").rstrip("\0 ")


def _numbers(convert: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """One number or several from text; None where there is none."""

    def converted(value: bytes) -> Any:
        text = value.decode("ascii").strip("\0 ")
        if "_" in text:  # which Python takes for a number's thousands
            raise _DeclinedError
        if "\\" not in text:
            return convert(text) if text else None
        return [convert(part) for part in text.split("\\")]

    return converted


def _unsigned(value: bytes) -> Any:
    if len(value) == 2:
        return int.from_bytes(value, "little")
    if not value:
        return None
    raise _DeclinedError


_CONVERTERS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(("CS", "UI", "LO", "SH", "TM", "DA", "DT"), _texts),
    "DS": _numbers(float),
    "IS": _numbers(int),
    "US": _unsigned,
}
