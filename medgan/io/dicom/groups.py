"""Slices of one series by geometry: frame of reference, stack, orientation, matrix and pixel spacing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.io.dicom.geometry import (
    FEWEST_SLICES,
    ORIENTATION_TOLERANCE,
    PIXEL_SPACING_TOLERANCE,
    SAME_POSITION_MM,
    SlicePlane,
    slice_distances,
    slice_normal,
)
from medgan.io.dicom.headers import SliceHeader

# By the patient axis that the normal is nearest to: left-right, front-back, head-feet.
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Distinction:
    """What tells one volume of a series from another.

    Args:
        kind: such as "echo" or "orientation".
        rank: its place among the values of this kind, from 0.
        text: such as "echo 2" or "sagittal".
    """

    kind: str
    rank: int
    text: str


Classes = list[tuple[list[SliceHeader], tuple[Distinction, ...]]]


def geometric_classes(headers: Sequence[SliceHeader]) -> Classes | None:
    """The slices by geometry, each class with what tells it from the others.

    None if they are not to be told apart: one of them does not say where it lies, or a class would hold fewer places
    than a volume needs, which is a sign of damage rather than of a second stack.
    """
    planes = [header.plane for header in headers if header.plane is not None]
    if len(planes) < len(headers) or not all(map(_is_usable, planes)):
        return None
    aspects = _aspects(headers, planes)
    members: dict[tuple[int, ...], list[int]] = {}
    for index, signature in enumerate(zip(*(numbers for _, numbers, _ in aspects), strict=True)):
        members.setdefault(signature, []).append(index)
    if len(members) == 1:
        return [(list(headers), ())]
    if min(_count_places([planes[i] for i in indices]) for indices in members.values()) < FEWEST_SLICES:
        return None
    varying = [n for n, (_, numbers, _) in enumerate(aspects) if max(numbers) > 0]
    return [
        (
            [headers[i] for i in indices],
            tuple(Distinction(aspects[n][0], signature[n], aspects[n][2](indices[0], signature[n])) for n in varying),
        )
        for signature, indices in members.items()
    ]


Aspect = tuple[str, list[int], Callable[[int, int], str]]


def _aspects(headers: Sequence[SliceHeader], planes: list[SlicePlane]) -> list[Aspect]:
    """For each property: its name, the number of each slice's value, and the words for a slice and its number."""
    spacings = np.array([plane.pixel_spacing for plane in planes])
    orientations = np.array([plane.orientation for plane in planes])
    words = _orientation_words(planes, numbers := _numbered(orientations, ORIENTATION_TOLERANCE))
    return [
        (
            "frame of reference",
            _enumerated([header.frame_of_reference for header in headers]),
            lambda _, number: f"frame of reference {number + 1}",
        ),
        ("orientation", numbers, lambda _, number: words[number]),
        ("stack", _enumerated([header.stack for header in headers]), lambda _, number: f"stack {number + 1}"),
        (
            "matrix",
            _enumerated([header.matrix for header in headers]),
            lambda index, _: "{1}x{0}".format(*headers[index].matrix),
        ),
        (
            "pixel spacing",
            _numbered(spacings, PIXEL_SPACING_TOLERANCE * float(spacings.max())),
            lambda index, _: "{1:.4g}x{0:.4g} mm".format(*planes[index].pixel_spacing),
        ),
    ]


def _is_usable(plane: SlicePlane) -> bool:
    values = [*plane.position, *plane.orientation, *plane.pixel_spacing]
    across = np.cross(plane.orientation[:3], plane.orientation[3:])
    return bool(np.isfinite(values).all() and np.linalg.norm(across) > 0)


def _enumerated(values: Sequence[Any]) -> list[int]:
    """Each value's number in the order of appearance."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def _numbered(values: NDArray[np.float64], tolerance: float) -> list[int]:
    """Like `_enumerated` for rows of numbers; a row within `tolerance` of a number's first row has that number."""
    numbers = np.full(len(values), -1)
    for number in range(len(values)):
        left = np.flatnonzero(numbers < 0)
        if not len(left):
            break
        alike = np.abs(values[left] - values[left[0]]).max(axis=1) <= tolerance
        numbers[left[alike]] = number
    return [int(number) for number in numbers]


def _orientation_words(planes: list[SlicePlane], numbers: list[int]) -> list[str]:
    """ "axial", "sagittal" or "coronal" for each number, counted where several are nearest to one."""
    firsts = [planes[numbers.index(number)] for number in range(max(numbers) + 1)]
    words = [_PLANES[int(np.argmax(np.abs(slice_normal(plane))))] for plane in firsts]
    return [f"{word} {words[:n].count(word) + 1}" if words.count(word) > 1 else word for n, word in enumerate(words)]


def _count_places(planes: list[SlicePlane]) -> int:
    distances = np.sort(slice_distances(planes))
    return 1 + int((np.diff(distances) > SAME_POSITION_MM).sum())
