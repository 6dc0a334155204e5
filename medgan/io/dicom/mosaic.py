"""Siemens mosaics: the slices of one volume side by side in one image.

The standard knows no mosaics: an image's position and matrix are those of the whole picture. Where the tiles lie
follows from the number of slices, the pixel spacing and the distance between slices, and from the direction in which
the slices follow one another, which only Siemens' private CSA header holds.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from medgan.io.dicom.geometry import SlicePlane, plane_directions
from medgan.io.dicom.headers import SliceHeader

MOSAIC = "MOSAIC"

# The blocks in which the private creator may have put the CSA image header, and its element in each.
_CREATOR = "SIEMENS CSA HEADER"
_BLOCKS = (0x10, 0x11, 0x12)
TAGS = tuple(tag for block in _BLOCKS for tag in (0x00290000 | block, 0x00290010 | block << 8))

# Largest sine of the angle between the stated normal and the one that the directions of rows and columns give.
_NORMAL_TOLERANCE = 1e-3

# A CSA header holds about a hundred entries of a few values each.
_MOST_ENTRIES = 1000


def tiles_of(dataset: pydicom.Dataset, header: SliceHeader) -> list[SliceHeader]:
    """One header per slice of a mosaic; the header alone if the file does not say how its tiles lie.

    Args:
        dataset: with the attributes `TAGS`.
        header: the mosaic as a whole, with its coding.
    """
    layout = _csa_layout(dataset)
    spacing = header.facts.get("spacing_between_slices")
    if layout is None or header.plane is None or header.coding is None or not isinstance(spacing, float):
        return [header]
    count, normal = layout
    side = math.ceil(math.sqrt(count))
    if count < 1 or any(size % side for size in header.matrix) or not _runs_across(normal, header.plane):
        return [header]
    rows, columns = (size // side for size in header.matrix)
    corner = _corner_of_first(header.plane, (rows, columns))
    tiles = []
    for number in range(count):
        x, y, z = (float(value) for value in corner + number * spacing * normal)
        name = f"{header.plane.name} tile {number + 1}"
        plane = replace(header.plane, name=name, position=(x, y, z), matrix=(rows, columns))
        coding = replace(header.coding, tile=(number // side * rows, number % side * columns))
        tiles.append(replace(header, matrix=(rows, columns), plane=plane, coding=coding))
    return tiles


def _corner_of_first(plane: SlicePlane, matrix: tuple[int, int]) -> NDArray[np.float64]:
    """Where the first pixel of the first tile lies: a mosaic's position is that of a single picture of its size about
    the same centre."""
    row, column, _ = plane_directions(plane)
    more_rows, more_columns = (whole - part for whole, part in zip(plane.matrix, matrix, strict=True))
    between_rows, between_columns = plane.pixel_spacing
    return np.asarray(plane.position + row * between_columns * more_columns / 2 + column * between_rows * more_rows / 2)


def _runs_across(normal: NDArray[np.float64], plane: SlicePlane) -> bool:
    length = float(np.linalg.norm(normal))
    aside = float(np.linalg.norm(np.cross(normal, plane_directions(plane)[2])))
    return abs(length - 1) < _NORMAL_TOLERANCE and aside < _NORMAL_TOLERANCE


def _csa_layout(dataset: pydicom.Dataset) -> tuple[int, NDArray[np.float64]] | None:
    """Number of slices and the direction from each to the next, by the CSA image header; None if it does not say."""
    content = _csa_content(dataset)
    if content is None:
        return None
    try:
        values = csa_values(content, ("NumberOfImagesInMosaic", "SliceNormalVector"))
        count, normal = int(values["NumberOfImagesInMosaic"][0]), np.array(values["SliceNormalVector"], np.float64)
    except (ValueError, LookupError, struct.error):
        return None
    return (count, normal) if normal.shape == (3,) and np.isfinite(normal).all() else None


def csa_values(content: bytes, names: Collection[str]) -> dict[str, list[str]]:
    """The values, as texts, of some entries of a CSA header in its second form (SV10, since syngo MR B).

    Raises:
        ValueError: it is of another form or damaged.
        struct.error: it ends too early.
    """
    if content[:4] != b"SV10":
        raise ValueError("not a CSA header of the form SV10")
    (count,) = struct.unpack_from("<I", content, 8)
    at, found = 16, {}
    for _ in range(min(count, _MOST_ENTRIES)):
        name, items = struct.unpack_from("<64s12xI4x", content, at)
        at += 84
        texts = []
        for _ in range(min(items, _MOST_ENTRIES)):
            (length,) = struct.unpack_from("<4xI8x", content, at)
            at += 16
            texts.append(content[at : at + length].partition(b"\0")[0].decode("ascii", "replace").strip())
            at += -(-length // 4) * 4
        key = name.partition(b"\0")[0].decode("ascii", "replace")
        if key in names:
            found[key] = [text for text in texts if text]
    return found


def _csa_content(dataset: pydicom.Dataset) -> bytes | None:
    for block in _BLOCKS:
        creator: Any = dataset.get(0x00290000 | block)
        element: Any = dataset.get(0x00290010 | block << 8)
        if creator is not None and element is not None and str(creator.value).strip() == _CREATOR:
            return element.value if isinstance(element.value, bytes) else None
    return None
