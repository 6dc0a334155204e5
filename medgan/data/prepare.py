"""Scans in, a cohort out: one orientation, one grid, subjects split, everything on record.

The stages trust each other through files: the fingerprint says what the scans are and how they were prepared, the
manifest lists them and is written last, after all voxels; a folder without a manifest is no cohort.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

import medgan
from medgan.data.cohort import FINGERPRINT, MANIFEST, PERCENTILES, Cohort, ScanRecord, write_manifest
from medgan.data.gridding import Gridded, Refused, Specification, Surveyed, gridded, surveyed
from medgan.data.participants import (
    SPLITS,
    Label,
    Participants,
    entity_of,
    labels_in,
    split_in,
    subject_by_name,
    subject_in,
    typed_labels,
)
from medgan.data.processes import counter, mapped
from medgan.data.splits import checked_fractions, split_subjects
from medgan.errors import MedganError
from medgan.files import require_existing, write_json
from medgan.geometry import Shape, Spacing, shape_for_spacing
from medgan.io import Scan, find_scans
from medgan.resampling import checked_shape, checked_spacing

Progress = Callable[[int, int, str], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Preparation:
    """What a preparation gave: the cohort, and the scans that were left out, each with the reason."""

    cohort: Cohort
    failures: tuple[tuple[Path, str], ...]


@dataclass(frozen=True, eq=False)
class _Source:
    """A scan among the inputs: its path from the source root and from the input folder, and that folder's table."""

    scan: Scan
    path: PurePosixPath
    within: PurePosixPath
    table: Participants | None


@dataclass(frozen=True)
class _Person:
    """Who was scanned."""

    subject: str
    labels: Mapping[str, str]
    split: str | None


def prepare(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    spacing: Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Preparation:
    """Prepare a cohort from every scan in the inputs.

    Each scan is turned to RAS, resampled to the spacing over its field of view, and cropped or padded around its centre
    to the shape. Voxels stay in the scan's own units. Those prepared before from the same content in the same way are
    not made again.

    Args:
        inputs: files and folders of NIfTI or DICOM; a folder may hold a participants table
            (`medgan.data.participants`).
        out: the cohort's folder; made if missing.
        spacing: mm along R, A and S; the median over the scans when None.
        shape: voxels along R, A and S; the median over the resampled scans when None.
        split: parts of the subjects for train, validation and test; a `split` column in the participants table comes
            first.
        seed: of the split.
        jobs: processes to use.
        progress: called as `progress(done, total, name)`; every scan counts twice, once looked at and once prepared.

    Raises:
        MedganError: no usable scan, too few subjects for the split, contradictory tables, or the folder cannot be
            written.
    """
    fractions = checked_fractions(split)
    spacing = None if spacing is None else checked_spacing(spacing)
    shape = None if shape is None else checked_shape(shape)
    root, sources = _found(inputs)
    total = 2 * len(sources)

    looked_at = mapped(
        surveyed,
        [source.scan for source in sources],
        jobs=jobs,
        finished=counter(progress, [source.scan.name for source in sources], 0, total),
    )
    surveys, failures = _sorted_out(sources, looked_at)
    specification = _specification(list(surveys.values()), spacing, shape)
    _splits(_people(surveys), fractions, seed)  # too few subjects should be heard of before the long work

    made = mapped(
        partial(_gridded, specification=specification, folder=Path(out)),
        [(source.scan, survey.sha256) for source, survey in surveys.items()],
        jobs=jobs,
        finished=counter(progress, [source.scan.name for source in surveys], total - len(surveys), total),
    )
    grids, unusable = _sorted_out(list(surveys), made)
    records = _records(grids, surveys, specification, fractions, seed)
    fingerprint = {
        "medgan_version": medgan.__version__,
        "source_root": str(root),
        "specification": specification.as_dict(),
        **_summary(records),
        "modalities": dict(Counter(surveys[source].modality or "unknown" for source in grids)),
        "split": {"fractions": fractions, "seed": seed},
        "failures": [{"path": _relative(path, root), "reason": reason} for path, reason in (*failures, *unusable)],
    }
    _write(Path(out), records, fingerprint)
    return Preparation(Cohort.load(out), (*failures, *unusable))


def _found(inputs: Sequence[str | Path]) -> tuple[Path, list[_Source]]:
    """The deepest folder above all inputs, and every scan in them once, in the order of their paths."""
    places = [require_existing(place).resolve() for place in inputs]
    if not places:
        raise MedganError("nothing to prepare: no input was named")
    homes = [place if place.is_dir() else place.parent for place in places]
    root = Path(os.path.commonpath(homes))
    sources: dict[tuple[Path, str | None], _Source] = {}
    for place, home in zip(places, homes, strict=True):
        table = Participants.beside(home)
        for scan in find_scans(place):
            path = PurePosixPath(_relative(scan.path, root))
            source = _Source(scan, path, PurePosixPath(_relative(scan.path, home)), table)
            sources.setdefault((scan.path, scan.series), source)
    return root, sorted(sources.values(), key=lambda source: (source.path, source.scan.series or ""))


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _gridded(job: tuple[Scan, str], specification: Specification, folder: Path) -> Gridded | Refused:
    scan, sha256 = job
    return gridded(scan, sha256, specification, folder)


def _sorted_out(
    sources: Sequence[_Source], results: Sequence[Result | Refused]
) -> tuple[dict[_Source, Result], list[tuple[Path, str]]]:
    """The results of the usable scans, and the others with the reason.

    Raises:
        MedganError: none is usable.
    """
    kept: dict[_Source, Result] = {}
    failures: list[tuple[Path, str]] = []
    for source, result in zip(sources, results, strict=True):
        if isinstance(result, Refused):
            failures.append((source.scan.path, result.reason))
        else:
            kept[source] = result
    if not kept:
        reasons = "; ".join(f"{path.name}: {reason}" for path, reason in failures[:3])
        raise MedganError(f"none of the {len(failures)} scans can be used ({reasons})")
    return kept, failures


def _specification(surveys: Sequence[Surveyed], spacing: Spacing | None, shape: Shape | None) -> Specification:
    """The grid asked for, completed by the medians over the scans."""
    if spacing is None:
        spacing = checked_spacing(np.median([survey.ras_spacing for survey in surveys], axis=0).round(6).tolist())
    if shape is None:
        # Only lengths matter here, so an axis-aligned affine of each scan's spacing stands in for its own.
        shapes = [
            shape_for_spacing(np.diag([*survey.ras_spacing, 1.0]), survey.ras_shape, spacing) for survey in surveys
        ]
        shape = checked_shape(np.rint(np.median(shapes, axis=0)).astype(int).tolist())
    return Specification(spacing, shape)


def _people(sources: Iterable[_Source]) -> dict[_Source, _Person]:
    """Who is in each scan.

    Raises:
        MedganError: there is a participants table, but none of its rows is about any of its scans.
    """
    people: dict[_Source, _Person] = {}
    matched: dict[Path, bool] = {}
    for source in sources:
        entity = entity_of(source.path)
        guess = entity or subject_by_name(source.path, is_series=source.scan.series is not None)
        row: Mapping[str, str] | None = None
        if source.table is not None:
            row = source.table.row_of_file(source.within) or source.table.row_of_subject(guess)
            matched[source.table.path] = matched.get(source.table.path, False) or row is not None
        if source.table is None or row is None:
            people[source] = _Person(guess, {}, None)
        else:
            subject = entity or subject_in(row) or guess
            people[source] = _Person(subject, labels_in(row), split_in(row, source.table.path))
    for table, any_match in matched.items():
        if not any_match:
            names = ", ".join(sorted({person.subject for person in people.values()})[:3])
            raise MedganError(
                f"no row of this table is about any of the scans (subjects by their file names: {names}, ...)",
                file=table,
                hint="Correct the column participant_id or subject, or add a column file with the paths of the scans.",
            )
    return people


def _splits(people: Mapping[_Source, _Person], fractions: Sequence[float], seed: int) -> dict[str, str]:
    """The split of every subject.

    Raises:
        MedganError: a table puts one subject into two splits, or there are too few subjects.
    """
    given: dict[str, str] = {}
    for source, person in people.items():
        if person.split and given.setdefault(person.subject, person.split) != person.split:
            raise MedganError(
                f"subject '{person.subject}' stands in two splits, {given[person.subject]} and {person.split}",
                file=source.table.path if source.table else None,
                hint="Put all scans of a subject into one split.",
            )
    return split_subjects({person.subject for person in people.values()}, fractions, seed, given)


def _records(
    grids: Mapping[_Source, Gridded],
    surveys: Mapping[_Source, Surveyed],
    specification: Specification,
    fractions: Sequence[float],
    seed: int,
) -> list[ScanRecord]:
    people = _people(grids)
    splits = _splits(people, fractions, seed)
    labels = typed_labels([person.labels for person in people.values()])
    names = _names(grids)
    return [
        ScanRecord(
            path=source.path.as_posix(),
            name=name,
            sha256=surveys[source].sha256,
            shape=surveys[source].shape,
            spacing=surveys[source].spacing,
            orientation=surveys[source].orientation,
            subject=people[source].subject,
            labels=typed,
            split=splits[people[source].subject],
            prepared_shape=specification.shape,
            series=source.scan.series,
            **vars(grid),
        )
        for (source, grid), typed, name in zip(grids.items(), labels, names, strict=True)
    ]


def _names(sources: Iterable[_Source]) -> list[str]:
    """One name per scan: its own if no other has it, else its whole path from the source root."""
    sources = list(sources)
    counts = Counter(source.scan.name for source in sources)
    names = []
    for source in sources:
        name = source.scan.name
        if counts[name] > 1:
            name = "_".join([*source.path.parts[:-1], name])
        tries = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        names.append(next(candidate for candidate in tries if candidate not in names))
    return names


def _summary(records: Sequence[ScanRecord]) -> dict[str, Any]:
    """What the scans have in common and where they differ."""
    middle = {
        f"{percentile:g}": float(np.median([record.percentiles[f"{percentile:g}"] for record in records]))
        for percentile in PERCENTILES
    }
    return {
        "shape": records[0].prepared_shape,
        "spacing": np.median([record.prepared_spacing for record in records], axis=0).round(6).tolist(),
        "percentiles": middle,
        "scans": len(records),
        "subjects": len({record.subject for record in records}),
        "splits": {
            name: {
                "scans": sum(record.split == name for record in records),
                "subjects": len({record.subject for record in records if record.split == name}),
            }
            for name in SPLITS
        },
        "labels": _label_columns([record.labels for record in records]),
        "source_shapes": _counts("x".join(map(str, record.shape)) for record in records),
        "source_spacings": _counts("x".join(f"{value:.4g}" for value in record.spacing) for record in records),
        "source_orientations": _counts(record.orientation for record in records),
    }


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _label_columns(rows: Sequence[Mapping[str, Label]]) -> dict[str, dict[str, Any]]:
    """Per label: its type, how many scans have it, and its range or its values."""
    columns: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row[name] for row in rows if name in row]
        numbers = [value for value in values if isinstance(value, float)]
        if numbers:
            columns[name] = {"type": "number", "scans": len(values), "minimum": min(numbers), "maximum": max(numbers)}
        else:
            columns[name] = {"type": "text", "scans": len(values), "values": _counts(map(str, values))}
    return columns


def _write(folder: Path, records: Sequence[ScanRecord], fingerprint: Mapping[str, Any]) -> None:
    """The manifest comes last, and an older one goes first: it must never stand beside another fingerprint."""
    (folder / MANIFEST).unlink(missing_ok=True)
    write_json(folder / FINGERPRINT, fingerprint)
    write_manifest(folder, records)
