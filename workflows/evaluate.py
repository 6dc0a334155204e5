"""Evaluate scans that are already in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.workflows.batch import scans_in

if TYPE_CHECKING:
    import numpy as np

    from medgan.volume import Volume


def evaluate_restoration_files(
    reference: str | Path, restored: str | Path, *, mask: str | Path | None = None
) -> list[dict[str, Any]]:
    """PSNR, SSIM and the rest of restored scans against their references.

    Args:
        reference: a scan, or a folder of them.
        restored: a scan, or a folder whose scans have the same names.
        mask: a scan whose voxels above 0 are judged; by default the reference's foreground.

    Returns:
        One row of figures per pair, in order of name.

    Raises:
        MedganError: nothing pairs up, or two grids differ.
    """
    from medgan.evaluation.restoration import evaluate_restoration
    from medgan.io import read_volume

    references = {scan.name: scan for scan in scans_in([reference])}
    candidates = {scan.name: scan for scan in scans_in([restored])}
    if len(references) == len(candidates) == 1:
        pairs = [(next(iter(references.values())), next(iter(candidates.values())))]
    else:
        missing = sorted(references.keys() ^ candidates.keys())
        if missing:
            raise MedganError(
                f"these scans have no partner: {', '.join(missing[:5])}", file=restored, hint="Pairs need equal names."
            )
        pairs = [(references[name], candidates[name]) for name in sorted(references)]
    region = read_volume(mask).data[0] > 0 if mask is not None else None
    rows = []
    for truth, candidate in pairs:
        figures = evaluate_restoration(truth.read(), candidate.read(), mask=region)
        rows.append({"name": truth.name, **figures.to_dict()})
    return rows


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
        MedganError: too few scans, or shapes that differ.
    """
    from medgan.evaluation.synthesis import evaluate_synthesis
    from medgan.files import write_json
    from medgan.workflows.run_report import write_synthesis_card

    originals, samples = _loaded(real), _loaded(synthetic)
    unseen = _loaded(holdout) if holdout is not None else []
    figures = evaluate_synthesis(
        [_normalised(volume) for volume in originals],
        [_normalised(volume) for volume in samples],
        holdout=[_normalised(volume) for volume in unseen],
        seed=seed,
    ).to_dict()
    write_json(Path(out) / "card.json", figures)
    write_synthesis_card(Path(out) / "card.html", figures, originals[:8], samples[:8])
    return figures


def _loaded(path: str | Path) -> list[Volume]:
    return [scan.read().reoriented("RAS") for scan in scans_in([path])]


def _normalised(volume: Volume) -> np.ndarray:
    import numpy as np

    from medgan.data.intensity import normalise

    low, high = (float(value) for value in np.percentile(volume.data, (0.5, 99.5)))
    return normalise(volume.as_float()[0], low, high)
