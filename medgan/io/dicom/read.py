"""One DICOM series to one `Volume`, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from medgan.errors import MedganError
from medgan.files import require_existing
from medgan.io.dicom.geometry import SlicePlane, stack_affine, stack_order, stack_problems
from medgan.io.dicom.scan import HEADER_ERRORS, DicomSeries, SliceHeader, find_series, pydicom_quiet, visible_files
from medgan.volume import Volume

# Storage classes with functional groups (DICOM PS3.3 A.36, A.38, A.56, A.70 to A.72, A.85): geometry per frame, not
# per file.
_ENHANCED = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{ending}"
    for ending in ("2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "13.1.1", "128.1", "130")
)

# Decoders raise RuntimeError and, on damaged data, whatever their native code reports.
_PIXEL_ERRORS = (*HEADER_ERRORS, RuntimeError, MemoryError)


def read_series(path: str | Path, series: str | None = None) -> Volume:
    """Read the classic (one slice per file) CT or MR series in a folder.

    Args:
        path: a folder, searched with its subfolders; files are known by their content, not their names.
        series: which SeriesInstanceUID, if there are several.

    Returns:
        One channel (1, columns, rows, slices), the slices sorted along their normal; float32 after each slice's own
        rescale slope and intercept, or the stored integer type if no slice has any. The affine is in RAS+ mm.
        `metadata` holds the facts that all slices agree on: `modality`, `slice_thickness`, `spacing_between_slices`,
        `echo_time`, `repetition_time`, `inversion_time` (mm and ms), `flip_angle` (degrees), `magnetic_field_strength`
        (tesla) and `patient_position`.

    Raises:
        MedganError: there is no series or more than one; or the series is damaged, coloured, multi-frame, or not one
            regular grid.
    """
    path = require_existing(path)
    found, damaged = find_series(visible_files(path))
    if not found:
        reasons = "".join(f"; {file.name}: {reason}" for file, reason in damaged[:3])
        hint = "Name a folder that holds the files of a series."
        raise MedganError(f"no DICOM image here{reasons}", file=path, hint=hint)
    chosen = _chosen(found, series, path)
    if path.is_file():
        _require_readable(chosen)
        hint = f"Name the folder that holds them all: {path.parent}"
        raise MedganError("this file is one slice of a DICOM series", file=path, hint=hint)
    return volume_of(chosen)


def volume_of(series: DicomSeries) -> Volume:
    """The volume of a series that was found before; see `read_series`."""
    planes = _require_readable(series)
    problems = stack_problems(planes)
    if problems:
        raise MedganError(
            f"this series is not one regular grid: {'; '.join(problems)}",
            file=series.folder,
            hint="Add what is missing, take out what does not belong, or resample it with a tool made for that.",
        )
    order = stack_order(planes)
    slices = [series.slices[i] for i in order]
    history = ("inverted from MONOCHROME1",) if any(one.photometric == "MONOCHROME1" for one in slices) else ()
    return Volume(_voxels(slices), stack_affine([planes[i] for i in order]), history, shared_facts(series))


def shared_facts(series: DicomSeries) -> dict[str, float | str]:
    """The acquisition facts in which all slices agree."""
    first, *others = [one.facts for one in series.slices]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def unsupported(header: SliceHeader) -> str | None:
    """Why a file cannot be a slice of a volume, in words; None if it can."""
    if header.sop_class in _ENHANCED:
        return f"an enhanced multi-frame DICOM image ({header.frames} frames), which is not yet read"
    if header.frames > 1:
        return f"a multi-frame DICOM image ({header.frames} frames), which is not yet read"
    if "MOSAIC" in header.image_type:
        return "a mosaic (several slices tiled in one image), which is not yet read"
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return f"a colour image ({header.photometric}), not one grey value per pixel"
    if header.has_lookup_table:
        return "an image whose values follow a lookup table (ModalityLUTSequence), which is not yet read"
    if header.plane is None:
        return "an image without position, orientation or pixel spacing: where its pixels lie is unknown"
    if header.slope == 0 or not np.isfinite([header.slope, header.intercept]).all():
        return f"an image with the unusable rescale slope {header.slope} and intercept {header.intercept}"
    return None


def _chosen(found: list[DicomSeries], uid: str | None, path: Path) -> DicomSeries:
    matching = [one for one in found if uid is None or one.uid == uid]
    listing = "; ".join(map(str, matching or found))
    if not matching:
        raise MedganError(f"no series '{uid}' here", file=path, hint=f"There is: {listing}.")
    if len(matching) > 1:
        hint = "Name a folder that holds one of them" + (", or choose one by its UID." if uid is None else ".")
        raise MedganError(f"{len(matching)} DICOM series here: {listing}", file=path, hint=hint)
    return matching[0]


def _require_readable(series: DicomSeries) -> list[SlicePlane]:
    """The planes of the slices, once every file is known to be one."""
    for header in series.slices:
        problem = unsupported(header)
        if problem is not None:
            raise MedganError(f"this is {problem}", file=header.path, hint=_hint_for(problem))
    if series.damaged:
        names = "; ".join(f"{path.name}: {reason}" for path, reason in series.damaged[:5])
        raise MedganError(
            f"damaged files among those of the series, so slices may be missing: {names}",
            file=series.folder,
            hint="Copy the series again, or take these files away if they do not belong to it.",
        )
    return [header.plane for header in series.slices if header.plane is not None]


def _hint_for(problem: str) -> str:
    if "not yet read" in problem:
        return "Convert it to NIfTI with dcm2niix and use that file."
    return "Take the file out of the series, or export the series again from its source."


def _voxels(slices: list[SliceHeader]) -> NDArray[Any]:
    """The slices' real values, shape (columns, rows, slices), read-only."""
    is_scaled = any((one.slope, one.intercept) != (1.0, 0.0) for one in slices)
    stack = np.stack([_slice_values(one, is_scaled) for one in slices])
    if stack.dtype.kind == "f" and not np.isfinite(stack).all():
        raise MedganError("pixels that are not finite (NaN or infinite)", file=slices[0].path.parent)
    stack.setflags(write=False)
    return stack.transpose(2, 1, 0)


def _slice_values(header: SliceHeader, is_scaled: bool) -> NDArray[Any]:
    """One slice's values, shape (rows, columns); in float32, rounded once, if any slice of the series is scaled."""
    pixels = _decoded(header)
    if header.photometric == "MONOCHROME1":
        # The standard shows the least value white; turning the stored range about makes greater mean brighter.
        pixels = (sum(header.stored_range) - pixels.astype(np.int64)).astype(pixels.dtype)
    if not is_scaled:
        return pixels
    return (pixels.astype(np.float64) * header.slope + header.intercept).astype(np.float32)


def _decoded(header: SliceHeader) -> NDArray[Any]:
    """The stored pixels, shape (rows, columns)."""
    dataset: pydicom.Dataset | None = None
    try:
        with pydicom_quiet():
            dataset = pydicom.dcmread(header.path, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
            if dataset.file_meta.TransferSyntaxUID == RLELossless:
                # The other plugin for this coding panics on damaged data, which no error handler should catch.
                dataset.pixel_array_options(decoding_plugin="pydicom")
            pixels = np.asarray(dataset.pixel_array)
    except _PIXEL_ERRORS as error:
        what, hint = _why_not_decoded(dataset, error)
        raise MedganError(what, file=header.path, hint=hint) from error
    if pixels.shape != header.matrix:
        raise MedganError(
            f"the pixels have the shape {pixels.shape}, the header says {header.matrix}", file=header.path
        )
    return pixels


def _guessed_syntax(dataset: pydicom.FileDataset) -> UID:
    """The transfer syntax by which pydicom could parse a file that states none."""
    is_implicit, is_little_endian = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _why_not_decoded(dataset: pydicom.Dataset | None, error: BaseException) -> tuple[str, str]:
    """What is wrong with a file's pixels, and what to do."""
    again = "Copy the file again from its source."
    if dataset is None or "PixelData" not in dataset:
        return f"the file holds no pixels that can be read ({error})", again
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        with pydicom_quiet():
            decoder = get_decoder(syntax)
    except NotImplementedError:
        return f"the pixels are coded as {syntax.name}, which pydicom cannot decode", "Export the series uncompressed."
    if not decoder.is_available:
        plugins = "; ".join(decoder.missing_dependencies)
        return (
            f"the pixels are coded as {syntax.name}, and no decoder for it is installed",
            f"Install one of: {plugins}",
        )
    return f"the pixels ({syntax.name}) cannot be decoded ({error})", again
