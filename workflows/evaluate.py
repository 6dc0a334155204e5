"""Evaluate scans that are already in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.workflows.batch import blamed, scans_in

if TYPE_CHECKING:
    import numpy as np

    from medgan.io import Scan
    from medgan.volume import Volume


@dataclass(frozen=True)
class RestorationTable:
    """One row of figures per pair of scans, in order of name, and the pairs that failed with the reason."""

    rows: tuple[dict[str, Any], ...]
    failures: tuple[tuple[Path, str], ...] = ()


def evaluate_restoration_files(
    reference: str | Path, restored: str | Path, *, mask: str | Path | None = None
) -> RestorationTable:
    """PSNR, SSIM and the rest of restored scans against their references.

    Args:
        reference: a scan, or a folder of them.
        restored: a scan, or a folder whose scans have the same names.
        mask: a scan on the references' grid whose voxels above 0 are judged; by default the reference's foreground.

    Raises:
        MedganError: nothing pairs up, or the only pair cannot be compared; of several pairs, one that fails is listed
            in the result instead.
    """
    from medgan.evaluation.restoration import evaluate_restoration
    from medgan.io import read_volume

    pairs = _pairs(reference, restored)
    region = read_volume(mask) if mask is not None else None
    inside = region.with_data(region.data > 0) if region is not None else None
    rows: list[dict[str, Any]] = []
    failures: list[tuple[Path, str]] = []
    for truth, candidate in pairs:
        try:
            figures = evaluate_restoration(truth.read(), candidate.read(), mask=inside)
        except MedganError as error:
            if len(pairs) == 1:
                raise blamed(error, candidate.path) from error
            failures.append((candidate.path, str(blamed(error, candidate.path))))
            continue
        rows.append({"name": truth.name, **figures.to_dict()})
    return RestorationTable(tuple(rows), tuple(failures))


def evaluate_synthesis_files(
    real: str | Path, synthetic: str | Path, out: str | Path, *, holdout: str | Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """The evaluation card of synthetic scans: `card.json` and `card.html` in the folder `out`.

    Args:
        real: folder of the scans that the generator was trained on.
        synthetic: folder of its samples, of the same shape.
        out: folder to write.
        holdout: folder of real scans that it never saw.
        seed: of the resampling behind the confidence intervals.

    Raises:
        MedganError: too few scans, a scan that cannot be read (figures of a part would be those of another set), or
            shapes that differ.
    """
    from medgan.evaluation.synthesis import evaluate_synthesis
    from medgan.files import write_json
    from medgan.workflows.places import writable_folder
    from medgan.workflows.run_report import write_synthesis_card

    folder = writable_folder(out)
    originals, real_voxels = _loaded(real)
    samples, synthetic_voxels = _loaded(synthetic, originals[0])
    unseen = _loaded(holdout, originals[0])[1] if holdout is not None else []
    figures = evaluate_synthesis(real_voxels, synthetic_voxels, holdout=unseen, seed=seed).to_dict()
    write_json(folder / "card.json", figures)
    try:
        write_synthesis_card(folder / "card.html", figures, originals[:8], samples[:8])
    except MedganError:
        (folder / "card.json").unlink()
        raise
    return figures


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


def _loaded(path: str | Path, like: Volume | None = None) -> tuple[list[Volume], list[np.ndarray]]:
    """The scans in RAS order, all of one shape (that of `like`, or of the first), and their normalised voxels."""
    volumes: list[Volume] = []
    voxels: list[np.ndarray] = []
    for scan in scans_in([path]):
        volume = scan.read().reoriented("RAS")
        like = like or volume
        if volume.shape != like.shape:
            raise MedganError(
                f"this scan has {volume.shape} voxels in RAS order, the first real one {like.shape}",
                file=scan.path,
                hint="Bring all scans to one grid before they are compared, for example with medgan prepare.",
            )
        volumes.append(volume)
        try:
            voxels.append(_normalised(volume))
        except MedganError as error:
            raise blamed(error, scan.path) from error
    return volumes, voxels


def _normalised(volume: Volume) -> np.ndarray:
    import numpy as np

    from medgan.data.intensity import normalise

    low, high = (float(value) for value in np.percentile(volume.data, (0.5, 99.5)))
    return normalise(volume.as_float()[0], low, high)
