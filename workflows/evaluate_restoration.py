"""Evaluate restored scans that are already in files, against their references and what the scanner measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.workflows.batch import blamed, scans_in

if TYPE_CHECKING:
    from medgan.io import Scan
    from medgan.volume import Volume


@dataclass(frozen=True)
class RestorationTable:
    """One row of figures per pair of scans, in order of name, and the pairs that failed with the reason."""

    rows: tuple[dict[str, Any], ...]
    failures: tuple[tuple[Path, str], ...] = ()


def evaluate_restoration_files(
    reference: str | Path,
    restored: str | Path,
    *,
    mask: str | Path | None = None,
    lesions: str | Path | None = None,
    acquired: str | Path | None = None,
    thickness: float | None = None,
    out: str | Path | None = None,
) -> RestorationTable:
    """PSNR, SSIM and the rest of restored scans against their references.

    Args:
        reference: a scan, or a folder of them.
        restored: a scan, or a folder whose scans have the same names.
        mask: a scan on the references' grid whose voxels above 0 are judged; by default the reference's foreground.
        lesions: a mask of lesions, or a folder of masks with the same names; voxels above 0 are lesions.
        acquired: the low-resolution scan that was restored, or a folder of them with the same names.
        thickness: of its slices in mm; by default what its file says, or slices that touch.
        out: folder for `restoration.json` and the page `restoration.html`; nothing is written without it.

    Raises:
        MedganError: nothing pairs up, or the only pair cannot be compared; of several pairs, one that fails is listed
            in the result instead.
    """
    from medgan.evaluation.restoration_card import evaluate_restoration_fully
    from medgan.io import read_volume
    from medgan.workflows.places import writable_folder

    folder = writable_folder(out) if out is not None else None
    pairs = _pairs(reference, restored)
    names = [truth.name for truth, _ in pairs]
    beside = {"lesions": _beside(lesions, names), "acquired": _beside(acquired, names)}
    region = read_volume(mask) if mask is not None else None
    inside = region.with_data(region.data > 0) if region is not None else None
    rows: list[dict[str, Any]] = []
    failures: list[tuple[Path, str]] = []
    shown: tuple[Volume, Volume] | None = None
    for truth, candidate in pairs:
        others = {kind: found[truth.name].read() for kind, found in beside.items() if truth.name in found}
        try:
            scans = truth.read(), candidate.read()
            card = evaluate_restoration_fully(
                *scans,
                mask=inside,
                lesions=others.get("lesions"),
                acquired=others.get("acquired"),
                thickness=thickness,
            )
        except MedganError as error:
            if len(pairs) == 1:
                raise blamed(error, candidate.path) from error
            failures.append((candidate.path, str(blamed(error, candidate.path))))
            continue
        rows.append({"name": truth.name, **card.to_dict()})
        shown = shown or scans
    if folder is not None and shown is not None:
        _written(folder, rows, shown)
    return RestorationTable(tuple(rows), tuple(failures))


def _written(folder: Path, rows: list[dict[str, Any]], shown: tuple[Volume, Volume]) -> None:
    """The figures and the page."""
    from medgan.files import write_json
    from medgan.workflows.restoration_report import write_restoration_report

    write_json(folder / "restoration.json", rows)
    write_restoration_report(folder / "restoration.html", rows, *shown)


def _beside(place: str | Path | None, names: list[str]) -> Mapping[str, Scan]:
    """What lies beside each pair: by name, or the only one beside the only pair.

    Raises:
        MedganError: one is missing.
    """
    if place is None:
        return {}
    found = {scan.name: scan for scan in scans_in([place])}
    if len(names) == len(found) == 1:
        return {names[0]: next(iter(found.values()))}
    missing = [name for name in names if name not in found]
    if missing:
        raise MedganError(
            f"no scan here for {', '.join(missing[:5])}", file=place, hint="They need the names of the references."
        )
    return found


def _pairs(reference: str | Path, restored: str | Path) -> list[tuple[Scan, Scan]]:
    """Reference and restored scan side by side: one and one, or by their names."""
    references = {scan.name: scan for scan in scans_in([reference])}
    candidates = {scan.name: scan for scan in scans_in([restored])}
    if len(references) == len(candidates) == 1:
        return [(next(iter(references.values())), next(iter(candidates.values())))]
    missing = sorted(references.keys() ^ candidates.keys())
    if missing:
        raise MedganError(
            f"these scans have no partner in {reference}: {', '.join(missing[:5])}"
            if missing[0] in candidates
            else f"no scan here for these of {reference}: {', '.join(missing[:5])}",
            file=restored,
            hint="Pairs need equal names.",
        )
    return [(references[name], candidates[name]) for name in sorted(references)]
