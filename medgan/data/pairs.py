"""Two contrasts of a cohort: who was scanned in both, and whether both scans lie on one grid.

The contrast of a scan is what the column `contrast` of the participants table says, or else the last word of its
name, such as T1w in sub-01_ses-2_T1w; the session is the entity `ses` of the name or of a folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from medgan.data.cohort import Cohort, ScanRecord
from medgan.errors import MedganError
from medgan.geometry import world_corners
from medgan.io.bids import suffix_of

# How far the corners of two grids may lie apart, in mm, and count as one grid: the rounding of a float32 header.
SAME_PLACE_MM = 1e-3
_SESSION = re.compile(r"(?:^|_)ses-([A-Za-z0-9]+)")
_SHOWN = 5


@dataclass(frozen=True)
class ScanPair:
    """Two scans of one subject and session."""

    source: ScanRecord
    target: ScanRecord


@dataclass(frozen=True)
class Pairing:
    """The pairs of a split, and who has a scan of one contrast alone, such as "07 (session 2)"."""

    pairs: tuple[ScanPair, ...]
    incomplete: tuple[str, ...]


def contrast_of(record: ScanRecord) -> str:
    """The contrast of a scan as the participants table or its name says it, as a BIDS suffix where it is one."""
    said = record.labels.get("contrast")
    if isinstance(said, str):
        return _canonical(said)
    path = PurePosixPath(record.path)
    stem = record.name if record.series is not None else re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    return _canonical(re.split(r"[_-]", stem)[-1])


def session_of(record: ScanRecord) -> str:
    """The label of the entity `ses` in the scan's name or else in its folders, the nearest first; empty without."""
    found = (_SESSION.search(part) for part in reversed(PurePosixPath(record.path).parts))
    return next((match.group(1) for match in found if match), "")


def scans_of(cohort: Cohort, split: str, contrast: str) -> tuple[ScanRecord, ...]:
    """The scans of one contrast in a split.

    Raises:
        MedganError: there is none; the message says which contrasts there are.
    """
    records = cohort.split(split)
    chosen = tuple(one for one in records if contrast_of(one) == _canonical(contrast))
    if not chosen:
        there = ", ".join(sorted({contrast_of(one) for one in records})[:_SHOWN]) or "none at all"
        raise MedganError(
            f"the cohort has no {contrast} scan in its split '{split}' (contrasts there: {there})",
            file=cohort.folder,
            hint="Set source and target to contrasts of the cohort; names end in them, as in sub-01_T1w.nii.gz.",
        )
    return chosen


def paired(cohort: Cohort, split: str, source: str, target: str) -> Pairing:
    """The scans of two contrasts by subject and session.

    Raises:
        MedganError: no subject has both, one has several scans of a contrast in a session, or the two scans of a pair
            lie on different grids.
    """
    sources, targets = (_by_visit(cohort, scans_of(cohort, split, one), one) for one in (source, target))
    pairs = tuple(ScanPair(one, targets[visit]) for visit, one in sources.items() if visit in targets)
    incomplete = tuple(_told(visit) for visit in sorted(sources.keys() ^ targets.keys()))
    if not pairs:
        raise MedganError(
            f"nobody in the split '{split}' was scanned in both {source} and {target} ({_listed(incomplete)})",
            file=cohort.folder,
            hint="Train without pairs (translation.method=cyclegan), or name the files of a subject alike.",
        )
    for pair in pairs:
        require_one_grid(pair, cohort)
    return Pairing(pairs, incomplete)


def require_one_grid(pair: ScanPair, cohort: Cohort) -> None:
    """Refuse two scans whose voxels do not lie in the same places.

    Raises:
        MedganError: shapes differ, or corners lie more than a micrometre apart.
    """
    first, second = pair.source, pair.target
    who = f"{contrast_of(first)} and {contrast_of(second)} of subject {first.subject}"
    hint = "Register and resample one scan to the other before medgan prepare, or train without pairs (cyclegan)."
    if first.prepared_shape != second.prepared_shape:
        shapes = [" x ".join(map(str, one.prepared_shape)) for one in (first, second)]
        raise MedganError(
            f"{who} have {shapes[0]} and {shapes[1]} voxels: they are not on one grid", file=cohort.folder, hint=hint
        )
    corners = [world_corners(np.array(one.affine), one.prepared_shape) for one in (first, second)]
    apart = float(np.abs(corners[0] - corners[1]).max())
    if apart > SAME_PLACE_MM:
        raise MedganError(
            f"{who} are not on one grid: their corners lie up to {apart:.3g} mm apart along an axis",
            file=cohort.folder,
            hint=hint,
        )


def cohort_range(records: Sequence[ScanRecord]) -> tuple[float, float]:
    """The medians of the scans' 0.5th and 99.5th percentiles, in their units."""
    low, high = (float(np.median([one.percentiles[name] for one in records])) for name in ("0.5", "99.5"))
    return low, high


def _by_visit(cohort: Cohort, records: Iterable[ScanRecord], contrast: str) -> dict[tuple[str, str], ScanRecord]:
    """The scans by subject and session."""
    found: dict[tuple[str, str], ScanRecord] = {}
    for one in records:
        visit = (one.subject, session_of(one))
        if visit in found:
            raise MedganError(
                f"{_told(visit)} has several {contrast} scans ({found[visit].name}, {one.name}), and which of them "
                "belongs to the other contrast is unknown",
                file=cohort.folder,
                hint="Leave out all but one, or put them into sessions: sub-LABEL_ses-LABEL_T1w.nii.gz.",
            )
        found[visit] = one
    return found


def _told(visit: tuple[str, str]) -> str:
    subject, session = visit
    return f"{subject} (session {session})" if session else subject


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _canonical(contrast: str) -> str:
    """One name for one contrast: its BIDS suffix, or the word in capitals."""
    return suffix_of(contrast) or contrast.upper()
