"""One DICOM series to one `Volume`, or a refusal that says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medgan.errors import MedganError
from medgan.files import require_existing
from medgan.io.dicom.choose import chosen_volume, require_found
from medgan.io.dicom.dcm2niix import read_by_dcm2niix
from medgan.io.dicom.geometry import SlicePlane, StackFault, stack_affine, stack_faults, stack_order
from medgan.io.dicom.headers import SliceHeader
from medgan.io.dicom.relaxations import Relaxations, Relaxed, flag, options_for, relaxed
from medgan.io.dicom.scan import DicomSeries, find_series, visible_files
from medgan.io.dicom.voxels import Stack, read_only, stacked
from medgan.volume import Volume

STRICT = Relaxations()


def read_series(
    path: str | Path,
    series: str | None = None,
    index: int | None = None,
    relaxations: Relaxations = STRICT,
) -> Volume:
    """Read one volume of a DICOM series: single-frame files, mosaics or an enhanced multi-frame file.

    Args:
        path: a folder, searched with its subfolders; files are known by their content, not their names. An enhanced
            multi-frame file may be named alone.
        series: which SeriesInstanceUID, if there are several.
        index: which volume of a series that holds several (echoes, time points ...), counted from 0.
        relaxations: what may be done if the slices are not one regular grid; by default they are refused.

    Returns:
        One channel (1, columns, rows, slices), the slices sorted along their normal; float32 after each slice's own
        rescale slope and intercept, or the stored integer type if no slice has any (see `medgan.io.dicom.voxels` for
        what the values are). The affine is in RAS+ mm. `metadata` holds the facts that all slices agree on: `modality`,
        `slice_thickness`, `spacing_between_slices`, `echo_time`, `repetition_time`, `inversion_time` (mm and ms),
        `flip_angle` (degrees), `magnetic_field_strength` (tesla) and `patient_position`; `slice_direction`, the unit
        vector in RAS along which slices follow each other; `interpolated_slices`, the indices of slices that nobody
        measured, if there are any; and `dicom`, the `series` (UID), `files` and `frames` (the source of each measured
        slice, in slice order, and which frame of it if it has several), which are for references from derived objects
        alone.

    Raises:
        MedganError: there is no series or more than one; or the series is damaged, coloured, or not one regular grid.
    """
    path = require_existing(path)
    found, damaged = find_series(visible_files(path))
    require_found(found, damaged, path)
    chosen = chosen_volume(found, path, series, index)
    if path.is_file() and len(chosen.slices) == 1 and vendor_format(chosen.slices[0]) is None:
        _require_readable(chosen)
        hint = f"Name the folder that holds them all: {path.parent}"
        raise MedganError("this file is one slice of a DICOM series", file=path, hint=hint)
    return volume_of(chosen, relaxations)


def volume_of(series: DicomSeries, relaxations: Relaxations = STRICT) -> Volume:
    """The volume of a series that was found before; see `read_series`.

    What only a scanner's maker explains is read through dcm2niix, if that is installed; `history` says so.
    """
    vendors = next((why for header in series.slices if (why := vendor_format(header)) is not None), None)
    if vendors is not None and not series.damaged:
        volume = read_by_dcm2niix([header.path for header in series.slices], series.folder, vendors)
        return replace(volume, metadata={**shared_facts(series), "dicom": _sources(series.uid, series.slices)})
    slices, planes, faults = _placed(series, relaxations)
    stack = stacked(slices)
    grid = _on_grid(series, stack, planes, faults)
    metadata: dict[str, Any] = dict(shared_facts(series))
    if grid.made:
        metadata["interpolated_slices"] = grid.made
    step = grid.affine[:3, 2]
    metadata["slice_direction"] = tuple(np.round(step / np.linalg.norm(step), 6).tolist())
    metadata["dicom"] = _sources(series.uid, slices)
    return Volume(read_only(grid.values).transpose(2, 1, 0), grid.affine, (*stack.steps, *grid.steps), metadata)


def _sources(uid: str, slices: Sequence[SliceHeader]) -> dict[str, Any]:
    paths = tuple(str(one.path) for one in slices)
    return {"series": uid, "files": paths, "frames": tuple(one.frame for one in slices)}


def padding_of(series: DicomSeries) -> Volume:
    """Where a series has padding instead of measurements (PixelPaddingValue): 1 there, 0 elsewhere, as uint8.

    The grid is that of `volume_of(series)`.

    Raises:
        MedganError: as for `volume_of`.
    """
    slices, planes, _ = _placed(series, STRICT)
    padding = stacked(slices, keep_padding=True).padding
    assert padding is not None
    return Volume(read_only(padding).transpose(2, 1, 0), stack_affine(planes))


def shared_facts(series: DicomSeries) -> dict[str, float | str]:
    """The acquisition facts in which all slices agree."""
    first, *others = [one.facts for one in series.slices]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def unsupported(header: SliceHeader) -> str | None:
    """Why an image cannot be a slice of a volume, in words; None if it can."""
    if header.samples != 1 or header.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return f"a colour image ({header.photometric}), not one grey value per pixel"
    if (vendors := vendor_format(header)) is not None:
        return vendors
    if header.has_lookup_table:
        return "an image whose values follow a lookup table (ModalityLUTSequence), which is not read"
    if header.plane is None:
        return "an image without position, orientation or pixel spacing: where its pixels lie is unknown"
    if header.slope == 0 or not np.isfinite([header.slope, header.intercept]).all():
        return f"an image with the unusable rescale slope {header.slope} and intercept {header.intercept}"
    return None


def vendor_format(header: SliceHeader) -> str | None:
    """What a file is that holds several slices and does not say by the standard where they lie; None if it does."""
    if "MOSAIC" in header.image_type and not _is_tile(header):
        return "a mosaic (several slices tiled in one image) that does not say how its tiles lie"
    if header.frames > 1 and header.frame is None:
        return f"a multi-frame DICOM image ({header.frames} frames) that does not say where its frames lie"
    return None


def _is_tile(header: SliceHeader) -> bool:
    return header.coding is not None and header.coding.stored_matrix != header.matrix


def _placed(
    series: DicomSeries, relaxations: Relaxations
) -> tuple[list[SliceHeader], list[SlicePlane], list[StackFault]]:
    """The slices and their planes, sorted along the normal, and the faults that the relaxations are to cure."""
    planes = _require_readable(series)
    faults = stack_faults(planes)
    if series.problems or not all(map(relaxations.cures, faults)):
        phrases = [*series.problems, *(fault.phrase for fault in faults)]
        raise MedganError(
            f"this series is not one regular grid: {'; '.join(phrases)}",
            file=series.folder,
            hint=_hint_for(faults, hopeless=bool(series.problems)),
        )
    order = stack_order(planes)
    return [series.slices[i] for i in order], [planes[i] for i in order], faults


def _on_grid(series: DicomSeries, stack: Stack, planes: Sequence[SlicePlane], faults: Sequence[StackFault]) -> Relaxed:
    if not faults:
        return Relaxed(stack.values, stack_affine(planes), ())
    try:
        return relaxed(stack.values, planes, faults, stack.background)
    except MedganError as error:
        raise MedganError(error.what, file=series.folder, hint=error.hint) from error


def _require_readable(series: DicomSeries) -> list[SlicePlane]:
    """The planes of the slices, once every file is known to be one."""
    for header in series.slices:
        problem = unsupported(header)
        if problem is not None:
            raise MedganError(f"this is {problem}", file=header.path, hint=_advice(problem))
    if series.damaged:
        names = "; ".join(f"{path.name}: {reason}" for path, reason in series.damaged[:5])
        raise MedganError(
            f"damaged files among those of the series, so slices may be missing: {names}",
            file=series.folder,
            hint="Copy the series again, or take these files away if they do not belong to it.",
        )
    return [header.plane for header in series.slices if header.plane is not None]


def _advice(problem: str) -> str:
    if "does not say" in problem:
        return "Install dcm2niix: medgan reads such files through it."
    if "not read" in problem:
        return "Convert it to NIfTI with another program and use that file."
    return "Take the file out of the series, or export the series again from its source."


def _hint_for(faults: Sequence[StackFault], *, hopeless: bool) -> str:
    options = None if hopeless else options_for(faults)
    if not options:
        return "Add what is missing, or take out what does not belong."
    flags = " and ".join(map(flag, options))
    return f"Add what is missing and take out what does not belong; or have a regular grid made from it with {flags}."
