"""Stored pixels of slices: read straight from the file where they are uncompressed, through pydicom where not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, RLELossless

from medgan.errors import MedganError
from medgan.io.dicom.codestream import coded_matrix
from medgan.io.dicom.coding import UNCOMPRESSED, PixelCoding
from medgan.io.dicom.headers import HEADER_ERRORS, SliceHeader, pydicom_quiet

# Decoders raise RuntimeError and, on damaged data, whatever their native code reports.
_PIXEL_ERRORS = (*HEADER_ERRORS, RuntimeError, MemoryError)

# Blank slices compress by some hundreds to one; a claim far beyond, if it is large as well, is a decompression bomb.
_LARGE_BYTES = 512 << 20
_LARGEST_COMPRESSION = 1000

_NO_PIXELS = "the file holds no pixels that can be read"
_AGAIN = "Copy the file again from its source."


def stored_dtype(coding: PixelCoding) -> np.dtype[Any]:
    """The integer type of the stored pixels, in this machine's byte order."""
    return np.dtype(f"{'i' if coding.is_signed else 'u'}{coding.bits_allocated // 8}")


def missing_decoder(syntax: str) -> str | None:
    """What to install for a transfer syntax to be decoded, such as "pylibjpeg - requires ..."; None if all is there.

    Raises:
        MedganError: pydicom knows no decoder at all.
    """
    if syntax in UNCOMPRESSED:
        return None
    try:
        with pydicom_quiet():
            decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise MedganError(
            f"the pixels are coded as {_name_of(syntax)}, which pydicom cannot decode",
            hint="Export the series uncompressed.",
        ) from error
    return None if decoder.is_available else "; ".join(decoder.missing_dependencies)


def require_decodable(slices: Sequence[SliceHeader]) -> None:
    """Refuse, before anything is decoded or memory is taken, slices whose pixels cannot be had.

    Raises:
        MedganError: a decoder is missing, pixels are stored in a way that is not known, uncompressed pixels are too few
            or too many, or the claimed size is that of a decompression bomb.
    """
    for syntax, header in {_coding(header).syntax: header for header in slices}.items():
        try:
            missing = missing_decoder(syntax)
        except MedganError as error:
            raise MedganError(error.what, file=header.path, hint=error.hint) from error
        if missing is not None:
            raise MedganError(
                f"the pixels are coded as {_name_of(syntax)}, and no decoder for it is installed",
                file=header.path,
                hint=f"Install one of: {missing}",
            )
    for header in slices:
        _require_plausible(header)
    _require_no_bomb(slices)


def decoded_frames(slices: Sequence[SliceHeader]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The stored pixels of each slice, with its index in `slices`; in no particular order.

    Each array has the shape (rows, columns) and the stored integer type, bits beyond BitsStored cleared or filled with
    the sign. It is only valid until the next one is asked for.

    Raises:
        MedganError: pixels are cut off or cannot be decoded.
    """
    order = sorted(range(len(slices)), key=lambda index: (slices[index].path, slices[index].frame or 0))
    files = [(path, list(group)) for path, group in groupby(order, key=lambda index: slices[index].path)]
    for path, indices in files:
        wanted = [(index, slices[index]) for index in indices]
        if _coding(wanted[0][1]).offset is not None:
            yield from _native_frames(path, wanted)
        else:
            with pydicom_quiet():
                yield from _compressed_frames(wanted)


def _native_frames(path: Path, wanted: list[tuple[int, SliceHeader]]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Frames of one uncompressed file, each read into the same memory."""
    coding = _coding(wanted[0][1])
    dtype = stored_dtype(coding).newbyteorder("big" if coding.syntax == ExplicitVRBigEndian else "little")
    frame = np.empty(coding.stored_matrix, dtype)
    loaded: int | None = None
    try:
        with path.open("rb", buffering=0) as stream:
            for index, header in wanted:
                if loaded != (header.frame or 0):
                    loaded = header.frame or 0
                    _fill(frame, stream, (coding.offset or 0) + loaded * frame.nbytes, path)
                    frame = _without_unused_bits(frame, coding)
                yield index, _tile(frame, header)
    except OSError as error:
        raise MedganError(f"the file cannot be read ({error.strerror})", file=path) from error


def _fill(frame: NDArray[Any], stream: Any, offset: int, path: Path) -> None:
    stream.seek(offset)
    have = stream.readinto(frame.data.cast("B"))
    if have != frame.nbytes:
        raise MedganError(
            f"the pixels (uncompressed) are cut off: {have} of {frame.nbytes} bytes are there", file=path, hint=_AGAIN
        )


def _without_unused_bits(frame: NDArray[Any], coding: PixelCoding) -> NDArray[Any]:
    """The values in BitsStored bits below HighBit; overlays and rubbish may stand in the others (PS3.5, 8.1.1)."""
    above = coding.bits_allocated - 1 - coding.high_bit
    unused = coding.bits_allocated - coding.bits_stored
    if unused and 0 <= above <= unused:
        native = frame if frame.dtype.isnative else frame.byteswap().view(frame.dtype.newbyteorder("="))
        np.left_shift(native, above, out=native)
        np.right_shift(native, unused, out=native)
        if native is not frame:
            frame[...] = native
    return frame


def _compressed_frames(wanted: list[tuple[int, SliceHeader]]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Frames of one file, decoded one after the other: the decoders hold Python's lock, so threads would not help."""
    header = wanted[0][1]
    syntax = UID(_coding(header).syntax)
    # pydicom's own decoder of this coding is slow, but the other one panics on damaged data, which no error handler
    # should catch.
    plugin = "pydicom" if syntax == RLELossless else ""
    frames = sorted({one.frame or 0 for _, one in wanted})
    at: dict[int, list[tuple[int, SliceHeader]]] = {}
    for index, one in wanted:
        at.setdefault(one.frame or 0, []).append((index, one))
    try:
        dataset = pydicom.dcmread(header.path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = syntax
        if "PixelData" not in dataset:
            raise MedganError(_NO_PIXELS, file=header.path, hint=_AGAIN)
        _require_same_frames(dataset, header)
        decoder = get_decoder(syntax)
        subset = None if len(frames) == header.frames else frames
        pixels = decoder.iter_array(dataset, raw=True, indices=subset, decoding_plugin=plugin)
        for frame, (array, _) in zip(frames, pixels, strict=True):
            _require_shape(array, header)
            for index, one in at[frame]:
                yield index, _tile(array, one)
    except _PIXEL_ERRORS as error:
        raise MedganError(
            f"the pixels ({syntax.name}) cannot be decoded ({error})", file=header.path, hint=_AGAIN
        ) from error


def _require_same_frames(dataset: pydicom.Dataset, header: SliceHeader) -> None:
    """Refuse coded images whose own size or number is not the header's, before their decoder makes room for them."""
    if _coding(header).syntax in UNCOMPRESSED or not dataset["PixelData"].is_undefined_length:
        return
    want, count = _coding(header).stored_matrix, 0
    for frame in generate_frames(dataset.PixelData, number_of_frames=header.frames):
        count += 1
        have = coded_matrix(frame)
        if have is not None and have != want:
            raise ValueError(f"frame {count} is coded with {have[0]} x {have[1]} pixels, the header says {want}")
    if count != header.frames:
        raise ValueError(f"{count} frames are coded, the header says {header.frames}")


def _require_shape(array: NDArray[Any], header: SliceHeader) -> None:
    if array.shape != _coding(header).stored_matrix:
        raise ValueError(f"they have the shape {array.shape}, the header says {_coding(header).stored_matrix}")


def _require_plausible(header: SliceHeader) -> None:
    """Refuse a coding that is not known, and uncompressed pixels that are not as many as the header says."""
    coding = _coding(header)
    if coding.bits_allocated not in (8, 16, 32) or not 1 <= coding.bits_stored <= coding.bits_allocated:
        what = f"pixels of {coding.bits_stored} bits in {coding.bits_allocated} are not known"
        raise MedganError(what, file=header.path, hint="Export the series again from its source.")
    if coding.offset is None:
        return
    rows, columns = coding.stored_matrix
    each = rows * columns * coding.bits_allocated // 8
    if not header.frames * each <= coding.length < (header.frames + 1) * each:
        frames = "1 frame needs" if header.frames == 1 else f"{header.frames} frames need"
        raise MedganError(
            f"the file holds {coding.length} bytes of pixels, {frames} {header.frames * each}",
            file=header.path,
            hint=_AGAIN,
        )


def _require_no_bomb(slices: Sequence[SliceHeader]) -> None:
    rows, columns = slices[0].matrix
    claimed = len(slices) * rows * columns * (_coding(slices[0]).bits_allocated // 8)
    paths = {header.path for header in slices}
    if claimed > _LARGE_BYTES and claimed > _LARGEST_COMPRESSION * sum(path.stat().st_size for path in paths):
        raise MedganError(
            f"{claimed / 2**20:.0f} MiB of pixels are claimed by files a thousand times smaller: a decompression bomb",
            file=slices[0].path,
            hint="Do not open files whose source you do not trust.",
        )


def _tile(frame: NDArray[Any], header: SliceHeader) -> NDArray[Any]:
    """The slice's part of the stored image; all of it but in mosaics."""
    (row, column), (rows, columns) = _coding(header).tile, header.matrix
    return frame if frame.shape == header.matrix else frame[row : row + rows, column : column + columns]


def _coding(header: SliceHeader) -> PixelCoding:
    if header.coding is None:
        raise MedganError(_NO_PIXELS, file=header.path, hint=_AGAIN)
    return header.coding


def _name_of(syntax: str) -> str:
    with pydicom_quiet():
        return UID(syntax).name
