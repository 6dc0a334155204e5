"""One series apart into the volumes that it holds.

A series may hold several stacks, echoes, diffusion weightings, time points or kinds of image. Slices are first told
apart by geometry; where several then share one place, by what else their headers say. A split is made only where it
leaves whole volumes behind: a slice out of step with all others is more often damaged than a volume of its own, and
must not vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medgan.io.dicom.geometry import SAME_POSITION_MM, SlicePlane, slice_distances
from medgan.io.dicom.groups import Distinction, geometric_classes
from medgan.io.dicom.headers import SliceHeader
from medgan.io.dicom.variants import COMPONENTS

# Kinds of distinction along which the volumes of one grid form a fourth dimension; the others tell unlike images apart.
AXES = (
    "echo",
    "echo time",
    "inversion time",
    "flip angle",
    "b-value",
    "gradient direction",
    "time",
    "acquisition",
)


@dataclass(frozen=True)
class Group:
    """Slices that belong to one volume.

    Args:
        slices: their headers, in the order given.
        distinctions: what tells them from the other groups of the series.
        problems: why they cannot be one volume, as far as their places do not say so themselves.
    """

    slices: tuple[SliceHeader, ...]
    distinctions: tuple[Distinction, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Key:
    """One property that may tell volumes at the same place apart.

    `decisive` properties never vary within a volume; a part of the slices that has its own value is a volume even if
    slices of it are missing. The others are believed only when whole volumes come out.
    """

    kind: str
    value: Callable[[SliceHeader], Any]
    text: Callable[[Any, int], str]
    decisive: bool = False


def split(headers: Sequence[SliceHeader]) -> list[Group]:
    """The volumes that the slices of one series form, ordered by what tells them apart; one group if nothing does."""
    classes = geometric_classes(headers)
    if classes is None:
        return [Group(tuple(headers), (), _of_several_frames(headers))]
    groups = [
        replace(group, distinctions=(*distinctions, *group.distinctions))
        for members, distinctions in classes
        for group in _volumes(members)
    ]
    return sorted(groups, key=lambda group: [(one.kind, one.rank) for one in group.distinctions])


def _volumes(headers: list[SliceHeader]) -> list[Group]:
    """Slices of one geometry, by what else they say."""
    places = _places(headers)
    if len(set(places)) == len(headers):
        return [Group(tuple(headers), (), tuple(_mixed(headers)))]
    parts = _by_variant(list(zip(headers, places, strict=True)), _KEYS)
    if len(parts) == 1:
        return [Group(tuple(headers))]
    every = set(places)
    groups = []
    for members, distinctions in parts:
        gone = every - {place for _, place in members}
        problems = (_lacking(gone, headers, places),) if gone else ()
        groups.append(Group(tuple(header for header, _ in members), distinctions, problems))
    return groups


def _places(headers: Sequence[SliceHeader]) -> list[int]:
    """A number for each slice, the same for slices at the same distance along the normal, growing with it."""
    distances = slice_distances(_planes(headers))
    order = np.argsort(distances, kind="stable")
    places = np.empty(len(headers), dtype=int)
    places[order] = np.cumsum(np.diff(distances[order], prepend=distances[order[0]]) > SAME_POSITION_MM)
    return [int(place) for place in places]


def _planes(headers: Sequence[SliceHeader]) -> list[SlicePlane]:
    return [header.plane for header in headers if header.plane is not None]


Placed = list[tuple[SliceHeader, int]]


def _by_variant(members: Placed, keys: Sequence[_Key]) -> list[tuple[Placed, tuple[Distinction, ...]]]:
    """The members told apart by the first key that does, then the parts by the others, until no place repeats."""
    places = {place for _, place in members}
    if len(places) == len(members):
        return [(members, ())]
    for key in keys:
        parts = _parts(members, key)
        if not _is_believable(parts, key, places):
            continue
        others = [other for other in keys if other is not key]
        return [
            (part, (Distinction(key.kind, rank, key.text(value, rank)), *rest))
            for rank, (value, whole) in enumerate(parts)
            for part, rest in _by_variant(whole, others)
        ]
    for kind, value in _RANKED:
        ranked = _by_rank(members, value)
        if ranked is not None:
            return [(part, (Distinction(kind, n, f"{kind} {n + 1}"),)) for n, part in enumerate(ranked)]
    return [(members, ())]


def _parts(members: Placed, key: _Key) -> list[tuple[Any, Placed]]:
    """The members by their value of the key, least first; those without a value before all others."""
    parts: dict[Any, Placed] = {}
    for member in members:
        parts.setdefault(key.value(member[0]), []).append(member)
    return sorted(parts.items(), key=lambda part: (part[0] is not None, part[0]))


def _is_believable(parts: list[tuple[Any, Placed]], key: _Key, places: set[int]) -> bool:
    if len(parts) < 2:
        return False
    whole = sum({place for _, place in part} == places for _, part in parts)
    known = sum(value is not None for value, _ in parts)
    return whole >= 2 or (key.decisive and known >= 2)


def _by_rank(members: Placed, value: Callable[[SliceHeader], float | None]) -> list[Placed] | None:
    """The first, second ... slice in time of every place; None unless every place has as many, at different times."""
    stacks: dict[int, Placed] = {}
    for member in members:
        stacks.setdefault(member[1], []).append(member)
    count = len(members) // len(stacks)
    ordered = []
    for stack in stacks.values():
        moments = [moment for header, _ in stack if (moment := value(header)) is not None]
        if len(stack) != count or len(set(moments)) != count:
            return None
        ordered.append(sorted(stack, key=lambda member: value(member[0]) or 0.0))
    return [list(volume) for volume in zip(*ordered, strict=True)]


def _mixed(headers: list[SliceHeader]) -> list[str]:
    """Properties in which slices of one volume must agree, and do not, although no place repeats."""
    problems = []
    for key in _KEYS:
        parts = _parts([(header, 0) for header in headers], key)
        known = [(value, part) for value, part in parts if value is not None]
        if key.decisive and len(known) > 1:
            words = (
                f"{key.text(value, rank)} in {_counted(len(part), 'slice')} ({_named([one for one, _ in part])})"
                for rank, (value, part) in enumerate(known)
            )
            problems.append(f"slices that differ in {key.kind}: {'; '.join(words)}")
    return problems


def _of_several_frames(headers: Sequence[SliceHeader]) -> tuple[str, ...]:
    """Said only of slices that were not told apart: positions in different frames of reference cannot be compared."""
    by_frame: dict[str, list[SliceHeader]] = {}
    for header in headers:
        if header.plane is not None:
            by_frame.setdefault(header.frame_of_reference, []).append(header)
    if len(by_frame) < 2:
        return ()
    words = "; ".join(f"{_counted(len(group), 'slice')} ({_named(group)})" for group in by_frame.values())
    return (f"{len(by_frame)} different frames of reference: {words}",)


def _lacking(gone: set[int], headers: list[SliceHeader], places: list[int]) -> str:
    others = [next(header for header, place in zip(headers, places, strict=True) if place == one) for one in gone]
    return f"no slice at {_counted(len(gone), 'position')} that other volumes of the series have ({_named(others)})"


def _named(headers: Sequence[SliceHeader], most: int = 3) -> str:
    names = [header.plane.name if header.plane is not None else header.path.name for header in headers]
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _component(header: SliceHeader) -> int | None:
    return COMPONENTS.index(header.variant.component) if header.variant.component else None


def _aside(header: SliceHeader) -> tuple[float, ...]:
    """Where the slice lies within its plane, in whole mm: stacks side by side share their distances."""
    if header.plane is None:
        return ()
    position = np.array(header.plane.position)
    along = [np.dot(position, header.plane.orientation[at : at + 3]) for at in (0, 3)]
    return tuple(float(np.round(one)) for one in along)


_KEYS = (
    _Key("component", _component, lambda value, _: "unknown" if value is None else COMPONENTS[value], decisive=True),
    _Key("image type", lambda one: one.variant.kind, lambda value, _: " ".join(value).lower() or "no image type"),
    _Key(
        "echo",
        lambda one: one.variant.echo,
        lambda value, _: "no echo number" if value is None else f"echo {value}",
        decisive=True,
    ),
    _Key("echo time", lambda one: one.variant.echo_time, lambda value, _: _measured("TE", value, " ms")),
    _Key("inversion time", lambda one: one.variant.inversion_time, lambda value, _: _measured("TI", value, " ms")),
    _Key("flip angle", lambda one: one.variant.flip_angle, lambda value, _: _measured("flip angle", value, "")),
    _Key(
        "b-value",
        lambda one: one.variant.b_value,
        lambda value, _: "no b-value" if value is None else f"b={value:g}",
        decisive=True,
    ),
    _Key("gradient direction", lambda one: one.variant.direction, lambda _, rank: f"direction {rank + 1}"),
    _Key("time", lambda one: one.variant.time, lambda value, _: "no time" if value is None else f"time {value}"),
    _Key(
        "acquisition",
        lambda one: one.variant.acquisition,
        lambda value, _: "no acquisition" if value is None else f"acquisition {value}",
    ),
    _Key("stack", _aside, lambda _, rank: f"stack {rank + 1}"),
)
_RANKED: tuple[tuple[str, Callable[[SliceHeader], float | None]], ...] = (
    ("time", lambda one: one.variant.trigger),
    ("time", lambda one: one.variant.acquired),
)


def _measured(name: str, value: float | None, unit: str) -> str:
    return f"no {name}" if value is None else f"{name} {value:g}{unit}"
