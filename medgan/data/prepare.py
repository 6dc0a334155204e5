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

import medgan
from medgan.data.cohort import FINGERPRINT, MANIFEST, Cohort, MaskRecord, ScanRecord, write_manifest
from medgan.data.fingerprint import completed_specification, mask_summary, summary
from medgan.data.gridding import Gridded, Refused, Specification, Surveyed, gridded, surveyed
from medgan.data.lineage import Origins
from medgan.data.mask_gridding import MaskJob, gridded_mask
from medgan.data.mask_search import MaskSearch
from medgan.data.participants import Participants, typed_labels
from medgan.data.people import (
    Made,
    Source,
    count_unknown_parents,
    people_among,
    relatives_among,
    splits_among,
    synthetic_among,
)
from medgan.data.processes import counter, mapped
from medgan.data.splits import checked_fractions
from medgan.errors import MedganError
from medgan.files import require_existing, write_json
from medgan.io import Scan, find_scans
from medgan.io.scans import survey
from medgan.resampling import checked_shape, checked_spacing

Progress = Callable[[int, int, str], None]
Failure = tuple[Path, str]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Preparation:
    """What a preparation gave: the cohort, and the scans that were left out, each with the reason."""

    cohort: Cohort
    failures: tuple[Failure, ...]


def prepare(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    spacing: Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
    own_grids: bool = False,
    masks: str | Path | None = None,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    jobs: int = 1,
    progress: Progress | None = None,
    allow_unknown_parents: bool = False,
) -> Preparation:
    """Prepare a cohort from every scan in the inputs.

    Each scan is turned to RAS, resampled to the spacing over its field of view, and cropped or padded around its centre
    to the shape. Voxels stay in the scan's own units. Those prepared before from the same content in the same way are
    not made again. Synthetic scans that medgan made carry their origin, and stand in the split of what they were made
    from (`medgan.data.kinship`).

    Args:
        inputs: files and folders of NIfTI or DICOM; a folder may hold a participants table
            (`medgan.data.participants`).
        out: the cohort's folder; made if missing.
        spacing: mm along R, A and S; the median over the scans when None.
        shape: voxels along R, A and S; the median over the resampled scans when None.
        own_grids: keep every scan's own voxels, turned to RAS, for trainings that take scans of any spacing.
        masks: a folder with a label map for each scan, found by its name (`medgan.data.mask_names`) and brought onto
            the scan's prepared grid by nearest neighbour. Scans without a usable one are left out.
        split: parts of the subjects for train, validation and test; a `split` column in the participants table comes
            first.
        seed: of the split.
        jobs: processes to use.
        progress: called as `progress(done, total, name)`; every scan counts twice, once looked at and once prepared.
        allow_unknown_parents: take synthetic scans beside acquired ones although nothing records what they were made
            from; the fingerprint says so.

    Raises:
        LeakError: the splits that tables settle part synthetic scans from what they were made from, or what that was
            is unknown.
        MedganError: no usable scan, no label map that fits one, too few subjects for the split, contradictory tables, a
            grid is asked for although scans keep their own, or the folder cannot be written.
    """
    if own_grids and (spacing is not None or shape is not None):
        raise MedganError("scans cannot keep their own grids and be brought to one", hint="Leave out one of the two.")
    fractions = checked_fractions(split)
    spacing = None if spacing is None else checked_spacing(spacing)
    shape = None if shape is None else checked_shape(shape)
    root, sources, damaged = _found(inputs)
    search = None if masks is None else MaskSearch.over(masks, [(source.scan, source.within) for source in sources])
    if search is not None:
        sources, maskless = _with_masks(sources, search)
        damaged += maskless
    total = 2 * len(sources)

    looked_at = mapped(
        surveyed,
        [source.scan for source in sources],
        jobs=jobs,
        finished=counter(progress, [source.scan.name for source in sources], 0, total),
    )
    surveys, refused = _sorted_out(sources, looked_at)
    specification = completed_specification(list(surveys.values()), spacing, shape, own_grids=own_grids)
    origins = Origins.near(source.scan.path for source in surveys)
    made_by = synthetic_among(surveys, origins)
    unknown = count_unknown_parents(surveys, made_by, allowed=allow_unknown_parents)
    # Contradictions and too few subjects should be heard of before the long work.
    people = people_among(surveys, made_by)
    splits_among(people, relatives_among(people, surveys, {}, made_by), origins.generators, fractions, seed)

    made = mapped(
        partial(_gridded, specification=specification, folder=Path(out)),
        [(source.scan, looked.sha256) for source, looked in surveys.items()],
        jobs=jobs,
        finished=counter(progress, [source.scan.name for source in surveys], total - len(surveys), total),
    )
    grids, unusable = _sorted_out(list(surveys), made)
    maps: dict[Source, MaskRecord] = {}
    if search is not None:
        work = [
            MaskJob(search.of(source.scan), _relative(search.of(source.scan).path, root), surveys[source], grid)
            for source, grid in grids.items()
        ]
        maps, without = _sorted_out(list(grids), mapped(partial(gridded_mask, folder=Path(out)), work, jobs=jobs))
        grids = {source: grids[source] for source in maps}
        unusable += without
    failures = (*damaged, *refused, *unusable)
    records = _records(grids, surveys, maps, made_by, origins, fractions, seed)
    fingerprint = {
        "medgan_version": medgan.__version__,
        "source_root": str(root),
        "specification": specification.as_dict(),
        **summary(records),
        **({} if search is None else {"masks": {**mask_summary(records), "unused": search.unused}}),
        "modalities": dict(Counter(surveys[source].modality or "unknown" for source in grids)),
        "split": {"fractions": fractions, "seed": seed},
        **({"generators": origins.generators, "unknown_parents": unknown} if made_by else {}),
        "failures": [{"path": _relative(path, root), "reason": reason} for path, reason in failures],
    }
    _write(Path(out), records, fingerprint)
    return Preparation(Cohort.load(out), failures)


def _found(inputs: Sequence[str | Path]) -> tuple[Path, list[Source], list[Failure]]:
    """The deepest folder above all inputs, every scan in them once in the order of their paths, and damaged files."""
    # Not resolved: a link's own name says who is in the scan, its target's often does not.
    places = [Path(os.path.normpath(require_existing(place).absolute())) for place in inputs]
    if not places:
        raise MedganError("nothing to prepare: no input was named")
    homes = [place if place.is_dir() else place.parent for place in places]
    root = Path(os.path.commonpath(homes))
    sources: dict[tuple[Path, str | None, int | None], Source] = {}
    damaged: dict[Path, str] = {}
    for place, home in zip(places, homes, strict=True):
        table = Participants.beside(home)
        found = survey(place)
        damaged.update(found.damaged)
        for scan in found.scans or find_scans(place):  # which says why there is none
            path = PurePosixPath(_relative(scan.path, root))
            source = Source(scan, path, PurePosixPath(_relative(scan.path, home)), table)
            sources.setdefault((scan.path, scan.series, scan.index), source)
    ordered = sorted(
        sources.values(), key=lambda source: (source.path, source.scan.series or "", source.scan.index or 0)
    )
    return root, ordered, list(damaged.items())


def _with_masks(sources: Sequence[Source], search: MaskSearch) -> tuple[list[Source], list[Failure]]:
    """The scans that have a label map, and the others with the reason; label maps among the inputs are neither."""
    kept: list[Source] = []
    failures: list[Failure] = []
    for source in sources:
        if search.is_mask(source.scan):
            continue
        reason = search.refusal(source.scan)
        if reason is None:
            kept.append(source)
        else:
            failures.append((source.scan.path, reason))
    return kept, failures


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _gridded(job: tuple[Scan, str], specification: Specification, folder: Path) -> Gridded | Refused:
    scan, sha256 = job
    return gridded(scan, sha256, specification, folder)


def _sorted_out(
    sources: Sequence[Source], results: Sequence[Result | Refused]
) -> tuple[dict[Source, Result], list[Failure]]:
    """The results of the usable scans, and the others with the reason.

    Raises:
        MedganError: none is usable.
    """
    kept: dict[Source, Result] = {}
    failures: list[Failure] = []
    for source, result in zip(sources, results, strict=True):
        if isinstance(result, Refused):
            failures.append((source.scan.path, result.reason))
        else:
            kept[source] = result
    if not kept:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in failures[:3])
        raise MedganError(
            f"none of the {len(failures)} scans can be used ({reasons})",
            hint="medgan inspect says more about each of them.",
        )
    return kept, failures


def _records(
    grids: Mapping[Source, Gridded],
    surveys: Mapping[Source, Surveyed],
    maps: Mapping[Source, MaskRecord],
    made_by: Made,
    origins: Origins,
    fractions: Sequence[float],
    seed: int,
) -> list[ScanRecord]:
    people = people_among(grids, made_by)
    kin = relatives_among(people, surveys, maps, made_by)
    splits = splits_among(people, kin, origins.generators, fractions, seed)
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
            series=source.scan.series,
            mask=maps.get(source),
            voxels_sha256=surveys[source].voxels_sha256,
            origin=made_by[source].origin if source in made_by else None,
            **vars(grid),
        )
        for (source, grid), typed, name in zip(grids.items(), labels, names, strict=True)
    ]


def _names(sources: Iterable[Source]) -> list[str]:
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


def _write(folder: Path, records: Sequence[ScanRecord], fingerprint: Mapping[str, Any]) -> None:
    """The manifest comes last, and an older one goes first: it must never stand beside another fingerprint."""
    (folder / MANIFEST).unlink(missing_ok=True)
    write_json(folder / FINGERPRINT, fingerprint)
    write_manifest(folder, records)
