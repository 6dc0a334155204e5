"""Find the synthetic scan that comes closest to a real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.batch import blamed
from medgan.workflows.models import model_for
from medgan.workflows.places import new_folder
from medgan.workflows.points import require_smooth, write_point

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.inference.projection import Projection
    from medgan.volume import Volume

NOTICE = (
    "Made by a generative model from a real scan: it may show that person, as the file of its point may. For research; "
    "not for diagnosis."
)
# Mean squared errors, in units of that between two random samples, up to which a projection is called close, and from
# which on far.
_CLOSE, _FAR = 0.25, 0.8
_ADVICE = "Give the scan that the labels were drawn on."


@dataclass(frozen=True)
class Projected:
    """What `project_scan` wrote and found.

    Args:
        folder: with `projection.nii.gz`, `scan.nii.gz` on the same grid, `point.json`, `figures.json`, `report.html`.
        figures: as in `figures.json`.
        verdict: how close it came, in words.
    """

    folder: Path
    figures: Mapping[str, Any]
    verdict: str


def project_scan(
    scan: str | Path,
    model: str | Path,
    out: str | Path,
    *,
    steps: int = 300,
    starts: int = 32,
    seed: int = 0,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Projected:
    """Optimise a point of a generator's space until its scan looks like a real one, and say how far off it stays.

    Args:
        scan: a NIfTI file, or a folder with one DICOM series. It is turned, resampled, cropped or padded and
            normalised as the scans of a cohort are.
        model: as `medgan.workflows.models.resolve_model` takes it.
        out: a folder; it appears whole or not at all. Both scans in it lie where the real one does, in its units.
        steps: of the optimisation.
        starts: random samples, from the best of which it begins.
        seed: of these, and of the jitter.
        device: "auto", "cpu", "cuda", ...
        reporter: where progress goes.

    Raises:
        MedganError: the scan or the model cannot be used, a number is out of range, or `out` exists and is not empty.
    """
    import torch

    from medgan.data.intensity import normalise
    from medgan.inference.projection import project

    reporter = reporter or Reporter()
    folder = new_folder(out)
    if steps < 1 or starts < 2:
        raise MedganError(
            f"{steps} steps from {starts} starts are no projection", hint="Use --steps 1 and --starts 2 at least."
        )
    loaded = model_for("synthesis", model, device, "project")
    network = loaded.network()
    require_smooth(network, loaded)
    target = scan_on_grid(scan, loaded)
    low, high = _range(target, Path(scan))
    found = project(
        network,
        torch.from_numpy(2 * normalise(target.as_float(), low, high) - 1),
        steps=steps,
        starts=starts,
        seed=seed,
        progress=lambda done, total, decibel: reporter.progress("project", done, total, f"{decibel:.2f} dB"),
    )
    values = (found.sample.float().cpu().numpy() + 1) / 2 * (high - low) + low
    made = replace(
        target.with_data(values.clip(min=target.data.min()), f"projected by medgan, model {loaded.sha256[:12]}"),
        metadata={**target.metadata, "projected": True},
    )
    figures = _figures(found, loaded, steps=steps, starts=starts, seed=seed)
    verdict = _verdict(found)
    _write(folder, target, made, found, loaded, {**figures, "verdict": verdict})
    return Projected(folder, figures, verdict)


def scan_on_grid(path: str | Path, model: Model) -> Volume:
    """A scan with the voxels that the model's samples have, made as the scans of a cohort are, in its own units.

    Raises:
        MedganError: it cannot be read, is no image, or has several channels.
    """
    import numpy as np

    from medgan.data.gridding import Specification, on_grid
    from medgan.inference.inputs import require_image
    from medgan.io import read_volume
    from medgan.io.scans import nifti_stem
    from medgan.volume import Volume

    path = Path(path)
    volume = read_volume(path)
    try:
        require_image(volume, nifti_stem(path), nothing="project", advice=_ADVICE)
        own = Volume(np.zeros(model.config["shape"], np.float32), np.asarray(model.config["affine"], dtype=np.float64))
        turned = own.reoriented("RAS")
        gridded, _ = on_grid(volume, Specification(turned.spacing, turned.shape))
    except MedganError as error:
        raise blamed(error, path) from error
    return gridded.reoriented(own.orientation)


def _range(target: Volume, path: Path) -> tuple[float, float]:
    """The scan's own percentiles, which become 0 and 1 as in training."""
    import numpy as np

    low, high = (float(value) for value in np.percentile(target.data, (0.5, 99.5)))
    if not high > low:
        raise MedganError(
            f"99 % of its voxels are {low:g} on the model's grid of {'x'.join(map(str, target.shape))} voxels: there "
            "is nothing to project",
            file=path,
            hint="Look at it with `medgan inspect`: it may not show the anatomy that the model makes.",
        )
    return low, high


def _figures(found: Projection, model: Model, **asked: int) -> dict[str, Any]:
    """What is recorded: numbers alone, nothing that a header or a path said."""
    from medgan import __version__

    ratios = sorted(found.random_psnrs)
    return {
        "notice": NOTICE,
        "medgan_version": __version__,
        "model_sha256": model.sha256,
        **asked,
        "psnr_db": found.psnr,
        "distance": found.distance,
        "relative_error": found.relative_error,
        "random_samples": {
            "best_psnr_db": ratios[-1],
            "median_psnr_db": ratios[len(ratios) // 2],
            "best_distance": min(found.random_distances),
            "between_two_psnr_db": found.spread_psnr,
        },
        "curve": {"distance": list(found.distances), "psnr_db": list(found.ratios)},
    }


def _verdict(found: Projection) -> str:
    """How close it came, against what a random sample is."""
    error = found.relative_error
    if error <= _CLOSE:
        word = "close"
    elif error < _FAR:
        word = "halfway: the model makes scans like this one, but not this one"
    else:
        word = "far: as unlike the scan as two samples are unlike each other; do not take it for the scan"
    return (
        f"{word}. {found.psnr:.1f} dB; the best of {len(found.random_psnrs)} random samples has "
        f"{max(found.random_psnrs):.1f} dB, two random samples have {found.spread_psnr:.1f} dB between them "
        f"(mean squared error {error:.2g} times that)"
    )


def _write(
    folder: Path, target: Volume, made: Volume, found: Projection, model: Model, figures: Mapping[str, Any]
) -> None:
    from medgan.files import atomic_path, write_json
    from medgan.io import write_volume

    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_volume(made, temporary / "projection.nii.gz")
        write_volume(target, temporary / "scan.nii.gz")
        write_point(temporary / "point.json", found.point, model, {"notice": NOTICE})
        write_json(temporary / "figures.json", figures)
        _report(temporary / "report.html", target, made, found, figures["verdict"])


def _report(path: Path, target: Volume, made: Volume, found: Projection, verdict: str) -> None:
    from medgan.report.figures import midplanes
    from medgan.report.html import Curves, Heading, KeyFigure, KeyFigures, Picture, Text, Warning, write_report

    error = made.with_data(made.as_float() - target.as_float())
    is_far = found.relative_error >= _FAR
    statement = f"{verdict[0].upper()}{verdict[1:]}."
    history = {
        "distance": [(float(step), value) for step, value in enumerate(found.distances)],
        "PSNR, dB": [(float(step), value) for step, value in enumerate(found.ratios)],
    }
    figures = [
        KeyFigure("PSNR", f"{found.psnr:.1f} dB", f"best random sample {max(found.random_psnrs):.1f} dB"),
        KeyFigure("Error against that between two samples", found.relative_error, "0: the same scan; 1: any other"),
        KeyFigure("Distance", found.distance, f"best random sample {min(found.random_distances):.3g}"),
    ]
    picture = midplanes([("Scan", target), ("Projection", made)], differences=[("Projection − scan", error)])
    blocks = [
        Text(NOTICE),
        Warning(statement) if is_far else Text(statement),
        KeyFigures(figures),
        Heading("Side by side"),
        Picture(picture, "Mid-planes of the scan, its projection and the difference", "In the scan's units."),
        Heading("Optimisation"),
        Curves(
            history,
            {"Distance": ["distance"], "PSNR": ["PSNR, dB"]},
            "The point is jittered in the first three quarters of the steps.",
        ),
        Heading("Method"),
        Text(
            "The best of the random samples is optimised by Adam (after Karras et al. 2019, appendix D). The distance "
            "compares voxels at several scales and differences of neighbours. The point is held where samples come "
            "from; networks with styles may take another style in each layer, and get no noise."
        ),
    ]
    write_report(path, "Projection of a scan", "The closest scan that a generator makes", blocks)
