"""Splits in which synthetic scans stay with what they were made from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from medgan.data.cohort import Cohort, MaskRecord, ScanRecord
from medgan.data.lineage import LeakError, Origin
from medgan.data.splits import split_subjects

Generators = Mapping[str, Mapping[str, Sequence[str] | None]]
"""By the SHA-256 of a model's weights: "trained_on", the hashes of what it learned from, or None if unknown."""


@dataclass(frozen=True)
class Relative:
    """What decides on whose side a scan stands.

    Args:
        subject: who it counts as.
        hashes: of the scan and of its label map, see `hashes_of`.
        origin: of a synthetic scan.
    """

    subject: str
    hashes: frozenset[str]
    origin: Origin | None


def hashes_of(record: ScanRecord) -> frozenset[str]:
    """By what a scan of a cohort and its label map are known."""
    return known_hashes(record.sha256, record.voxels_sha256, record.mask)


def known_hashes(sha256: str, voxels_sha256: str | None, mask: MaskRecord | None) -> frozenset[str]:
    """The hashes of a scan and of its label map, of their files and of their voxels.

    An empty label map is everybody's and tells nothing.
    """
    of_mask = (mask.sha256, mask.voxels_sha256) if mask is not None and set(mask.labels) != {0} else ()
    return frozenset(one for one in (sha256, voxels_sha256, *of_mask) if one is not None)


def learned_by(origin: Origin, generators: Generators) -> frozenset[str] | None:
    """The hashes of what the generator of a synthetic scan learned from; None where nothing records it."""
    about = generators.get(origin.model_sha256 or "")
    known = about.get("trained_on") if about is not None else None
    return None if known is None else frozenset(known)


def training_hashes(cohort: Cohort) -> list[str] | None:
    """All that a model learns from which is trained on a cohort's training scans: the hashes of these, of their label
    maps, and of what those of them that are synthetic come from; None where that is unknown.
    """
    found: set[str] = set()
    generators: Generators = cohort.fingerprint.get("generators", {})
    for record in cohort.split("train"):
        found |= _content_hashes(record)
        if record.origin is not None:
            learned = learned_by(record.origin, generators)
            if learned is None or record.origin.parents is None:
                return None
            found |= learned | set(record.origin.parents)
    return sorted(found)


def split_kin(
    relatives: Sequence[Relative],
    generators: Generators,
    fractions: Sequence[float],
    seed: int,
    given: Mapping[str, str],
) -> dict[str, str]:
    """The split of every subject, synthetic scans on the side of what they were made from.

    What was made from one parent stays together and with the parent's subject. Scans of a generator whose training
    scans are in the cohort stand with all of these in the training split.

    Args:
        relatives: all scans.
        generators: what the generators of synthetic scans learned from.
        fractions: see `medgan.data.splits.split_subjects`, as the seed.
        seed: of the split.
        given: subjects whose split is settled.

    Raises:
        LeakError: the settled splits put children elsewhere than what they were made from.
    """
    owners: dict[str, set[str]] = {}
    for one in relatives:
        for known in one.hashes if one.origin is None else ():
            owners.setdefault(known, set()).add(one.subject)
    learners = {one.subject: _owners_of(_learned(one, generators), owners) for one in relatives if one.origin}
    ties = [{subject, *teachers} for subject, teachers in learners.items() if teachers]
    for_training = {subject for tie in ties for subject in tie}
    ties += _families(relatives, owners)
    leader = _leaders({one.subject for one in relatives}, ties)
    settled: dict[str, str] = {}
    for subject, split in [*given.items(), *((subject, "train") for subject in sorted(for_training))]:
        if settled.setdefault(leader[subject], split) != split:
            raise LeakError(
                f"'{subject}' is to stand in the split '{split}', but what it was made from, or what was made from "
                f"it, stands in '{settled[leader[subject]]}'"
                + (": scans of a generator stand with its training scans in 'train'" if split == "train" else ""),
                hint="Leave out these synthetic scans, or correct the column split of the participants table.",
            )
    assigned = split_subjects(set(leader.values()), fractions, seed, settled)
    return {subject: assigned[group] for subject, group in leader.items()}


def _content_hashes(record: ScanRecord) -> set[str]:
    """One hash for a scan and one for its label map: of voxels, or of files in cohorts of older versions."""
    known = {record.voxels_sha256 or record.sha256}
    if record.mask is not None and set(record.mask.labels) != {0}:
        known.add(record.mask.voxels_sha256 or record.mask.sha256)
    return known


def _learned(relative: Relative, generators: Generators) -> frozenset[str]:
    learned = learned_by(relative.origin, generators) if relative.origin is not None else None
    return learned or frozenset()


def _owners_of(hashes: Iterable[str], owners: Mapping[str, Collection[str]]) -> set[str]:
    return {subject for known in hashes for subject in owners.get(known, ())}


def _families(relatives: Sequence[Relative], owners: Mapping[str, Collection[str]]) -> list[set[str]]:
    """The subjects of all scans that were made from one parent, with the parent's own where it is in the cohort."""
    children: dict[str, set[str]] = {}
    for one in relatives:
        for parent in (one.origin.parents or ()) if one.origin is not None else ():
            children.setdefault(parent, set()).add(one.subject)
    return [subjects | set(owners.get(parent, ())) for parent, subjects in children.items()]


def _leaders(subjects: Collection[str], ties: Iterable[Collection[str]]) -> dict[str, str]:
    """For every subject the first by name of all that it is tied to, directly or through others."""
    leader = {subject: subject for subject in subjects}

    def top(subject: str) -> str:
        while leader[subject] != subject:
            subject = leader[subject]
        return subject

    for tie in ties:
        first, *others = sorted({top(subject) for subject in tie})
        for other in others:
            leader[other] = first
    return {subject: top(subject) for subject in sorted(subjects)}
