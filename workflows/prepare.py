"""From scans to a cohort: what `medgan prepare` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medgan.data.cohort import Cohort
    from medgan.data.prepare import Preparation


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
    progress: Callable[[int, int, str], None] | None = None,
    allow_unknown_parents: bool = False,
) -> Preparation:
    """Find every scan in the inputs and prepare a cohort from them; see `medgan.data.prepare.prepare`.

    Args:
        inputs: files and folders of NIfTI or DICOM.
        out: the cohort's folder.
        spacing: mm along R, A and S; the median over the scans when None.
        shape: voxels along R, A and S; the median over the resampled scans when None.
        own_grids: keep every scan's own voxels, for trainings that take scans of any spacing.
        masks: a folder with a label map for each scan.
        split: parts of the subjects for train, validation and test.
        seed: of the split.
        jobs: processes to use.
        progress: called as `progress(done, total, name)`.
        allow_unknown_parents: mix real scans with synthetic ones that say nothing of what they were made from.

    Returns:
        The cohort, and the scans that were left out with the reasons.

    Raises:
        MedganError: nothing usable, no label map that fits a scan, too few subjects for the split, or `out` cannot be
            written.
    """
    from medgan.data.prepare import prepare as prepared
    from medgan.workflows.places import writable_folder

    out = writable_folder(out)
    return prepared(
        inputs,
        out,
        spacing=spacing,
        shape=shape,
        own_grids=own_grids,
        masks=masks,
        split=split,
        seed=seed,
        jobs=jobs,
        progress=progress,
        allow_unknown_parents=allow_unknown_parents,
    )


def described(preparation: Preparation) -> dict[str, str]:
    """A preparation in a few words for people: what, and how much or which."""
    cohort = preparation.cohort
    fingerprint = cohort.fingerprint
    splits = (f"{count['scans']} {name}" for name, count in fingerprint["splits"].items() if count["scans"])
    return {
        "cohort": str(cohort.folder),
        "scans": f"{fingerprint['scans']} of {fingerprint['subjects']} subjects",
        "split": ", ".join(splits),
        "grid": grid_of(cohort),
        "labels": ", ".join(_label(name, column) for name, column in fingerprint["labels"].items()) or "none",
        "left out": str(len(preparation.failures)),
    }


def grid_of(cohort: Cohort) -> str:
    """The grid of a cohort's scans in words."""
    if not cohort.has_common_grid:
        return "every scan its own, RAS"
    return f"{_by(cohort.shape)} voxels of {_by(round(value, 4) for value in cohort.spacing)} mm, RAS"


def masks_of(cohort: Cohort) -> str:
    """A phrase about a cohort's label maps; empty where it has none."""
    found = cohort.fingerprint.get("masks")
    if found is None:
        return ""
    unused = f" ({found['unused']} label maps belong to no scan)" if found["unused"] else ""
    return f", with label maps of {', '.join(found['labels'])}{unused}"


def _by(values: Iterable[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _label(name: str, column: dict) -> str:
    if column["type"] == "number":
        return f"{name} {column['minimum']:g} to {column['maximum']:g}"
    values = list(column["values"])
    return f"{name} {' / '.join(values[:5])}{' ...' if len(values) > 5 else ''}"
