"""Which subject goes where: train, validation or test."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

from medgan.data.participants import SPLITS
from medgan.errors import MedganError


def checked_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """The parts of train, validation and test.

    Raises:
        MedganError: they are not three numbers, none negative, that add up to 1.
    """
    values = tuple(float(value) for value in fractions)
    if len(values) != 3 or not all(value >= 0 for value in values) or abs(sum(values) - 1) > 1e-6:
        raise MedganError(
            f"a split is three parts (train, validation, test) that add up to 1, this is {values}",
            hint="Write for example 0.8,0.1,0.1.",
        )
    train, validation, test = values
    return train, validation, test


def split_subjects(
    subjects: Collection[str], fractions: Sequence[float], seed: int, given: Mapping[str, str]
) -> dict[str, str]:
    """Assign every subject to "train", "validation" or "test".

    Subjects are ranked by a hash of the seed and their name, so the answer depends on nothing else, and a subject's
    rank does not change when others join. Every part asked for gets at least one subject.

    Args:
        subjects: all subjects.
        fractions: of the subjects for train, validation and test, see `checked_fractions`.
        seed: another seed, another assignment.
        given: subjects whose split is settled; when there are any, the parts are shared among the rest as far as it
            goes.

    Raises:
        MedganError: fewer subjects than parts.
    """
    fractions = checked_fractions(fractions)
    free = sorted(set(subjects) - set(given), key=lambda subject: (_rank(subject, seed), subject))
    wanted = [name for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    if not given and len(free) < len(wanted):
        known = ", ".join(free[:3]) + (", ..." if len(free) > 3 else "")
        raise MedganError(
            f"{_counted(len(free), 'subject')} ({known}) cannot be split into {' and '.join(wanted)}, "
            f"at least {len(wanted)} are needed",
            hint="Add scans, ask for fewer parts (such as 0.8,0,0.2) or name the subjects in a participants.tsv.",
        )
    sizes = _sizes(len(free), fractions)
    names = [name for name, size in zip(SPLITS, sizes, strict=True) for _ in range(size)]
    return {
        **{subject: given[subject] for subject in subjects if subject in given},
        **dict(zip(free, names, strict=True)),
    }


def _sizes(count: int, fractions: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `count`, near the fractions of it; at least one each while they last."""
    sizes = [0] * len(fractions)
    for _ in range(count):
        missing = [
            (sizes[i] == 0, fraction * count - sizes[i]) if fraction > 0 else (False, float("-inf"))
            for i, fraction in enumerate(fractions)
        ]
        sizes[missing.index(max(missing))] += 1
    return sizes


def _rank(subject: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{subject}".encode()).hexdigest()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
