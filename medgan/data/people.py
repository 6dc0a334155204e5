"""Who is in the scans of a preparation, what the synthetic ones come from, and who goes into which split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medgan.data.cohort import MaskRecord
from medgan.data.gridding import Surveyed
from medgan.data.kinship import Generators, Relative, known_hashes, split_kin
from medgan.data.lineage import LeakError, Origins, Record
from medgan.data.participants import Participants, entity_of, labels_in, split_in, subject_by_name, subject_in
from medgan.errors import MedganError
from medgan.io import Scan


@dataclass(frozen=True, eq=False)
class Source:
    """A scan among the inputs: its path from the source root and from the input folder, and that folder's table."""

    scan: Scan
    path: PurePosixPath
    within: PurePosixPath
    table: Participants | None


@dataclass(frozen=True)
class Person:
    """Who was scanned."""

    subject: str
    labels: Mapping[str, str]
    split: str | None


Made = Mapping[Source, Record]
"""The records of the synthetic ones among scans."""


def synthetic_among(surveys: Mapping[Source, Surveyed], origins: Origins) -> Made:
    """What is known of the synthetic ones among the scans."""
    found = {
        source: origins.of(source.scan.path, looked.voxels_sha256, is_marked=looked.synthetic)
        for source, looked in surveys.items()
    }
    return {source: record for source, record in found.items() if record is not None}


def count_unknown_parents(sources: Iterable[Source], made_by: Made, *, allowed: bool) -> int:
    """How many synthetic scans come from nobody knows what.

    Raises:
        LeakError: there are such beside acquired scans, and they are not allowed.
    """
    unknown = [source for source, record in made_by.items() if record.origin.parents is None]
    if unknown and not allowed and len(made_by) < len(list(sources)):
        raise LeakError(
            f"{len(unknown)} synthetic scans say nothing of what they were made from: they may be children of scans in "
            "another split",
            file=unknown[0].scan.path,
            hint="Give the folder that medgan generate wrote, with its samples.json; or say --allow-unknown-parents.",
        )
    return len(unknown)


def people_among(sources: Iterable[Source], made_by: Made) -> dict[Source, Person]:
    """Who is in each scan.

    Raises:
        MedganError: there is a participants table, but none of its rows is about any of its scans.
    """
    people: dict[Source, Person] = {}
    matched: dict[Path, bool] = {}
    for source in sources:
        entity = entity_of(source.path)
        guess = entity or subject_by_name(source.path, is_series=source.scan.series is not None)
        row: Mapping[str, str] | None = None
        if source.table is not None:
            row = source.table.row_of_file(source.within) or source.table.row_of_subject(guess)
            matched[source.table.path] = matched.get(source.table.path, False) or row is not None
        if source.table is None or row is None:
            people[source] = Person(guess, made_by[source].labels if source in made_by else {}, None)
        else:
            subject = entity or subject_in(row) or guess
            people[source] = Person(subject, labels_in(row), split_in(row, source.table.path))
    for table, any_match in matched.items():
        if not any_match:
            names = ", ".join(sorted({person.subject for person in people.values()})[:3])
            raise MedganError(
                f"no row of this table is about any of the scans (subjects by their file names: {names}, ...)",
                file=table,
                hint="Correct the column participant_id or subject, or add a column file with the paths of the scans.",
            )
    return people


def splits_among(
    people: Mapping[Source, Person],
    relatives: Sequence[Relative],
    generators: Generators,
    fractions: Sequence[float],
    seed: int,
) -> dict[str, str]:
    """The split of every subject.

    Args:
        people: who is in each scan.
        relatives: the same scans for `medgan.data.kinship.split_kin`, as the others.
        generators: see there.
        fractions: see there.
        seed: see there.

    Raises:
        LeakError: tables part synthetic scans from what they were made from.
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
    return split_kin(relatives, generators, fractions, seed, given)


def relatives_among(
    people: Mapping[Source, Person],
    surveys: Mapping[Source, Surveyed],
    maps: Mapping[Source, MaskRecord],
    made_by: Made,
) -> list[Relative]:
    """What decides on whose side each scan stands; `maps` are the label maps that are known yet."""
    return [
        Relative(
            person.subject,
            known_hashes(surveys[source].sha256, surveys[source].voxels_sha256, maps.get(source)),
            made_by[source].origin if source in made_by else None,
        )
        for source, person in people.items()
    ]
