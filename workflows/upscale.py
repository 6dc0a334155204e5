"""Upscale scans from files to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.batch import BatchResult, output_paths, scans_in

PHYSICS = "physics"


def upscale_scans(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path = PHYSICS,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    thickness: float | None = None,
    fidelity: float = 1.0,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> BatchResult:
    """Upscale every scan in `inputs`.

    Args:
        inputs: NIfTI files, DICOM folders, or folders of them.
        out: a NIfTI file for one scan, or a folder. Beside each scan stands a JSON file with what was done.
        model: as `medgan.workflows.models.resolve_model` takes it, or "physics" for the regularised inverse without
            learning.
        factor: see `medgan.inference.upscale.upscale`.
        spacing: see there.
        thickness: see there.
        fidelity: see there.
        device: "auto", "cpu", "cuda", ...
        reporter: where progress goes.

    Raises:
        MedganError: an argument is wrong, or there is nothing to upscale; a scan that fails is listed in the result
            instead.
    """
    from medgan.files import write_json
    from medgan.inference.model import load_model, require_task
    from medgan.inference.upscale import upscale
    from medgan.io import write_volume
    from medgan.training.numerics import choose_device
    from medgan.workflows.models import resolve_model

    reporter = reporter or Reporter()
    scans = scans_in(inputs)
    single_file = len(inputs) == 1 and Path(inputs[0]).is_file()
    targets = output_paths(scans, Path(out), single_input_file=single_file)
    loaded = None
    if str(model) != PHYSICS:
        loaded = load_model(resolve_model(model), choose_device(device))
        require_task(loaded, "super_resolution", "upscale")
    written: list[Path] = []
    failures: list[tuple[Path, str]] = []
    for done, (scan, target) in enumerate(zip(scans, targets, strict=True)):
        reporter.progress("upscale", done, len(scans), scan.name)
        try:
            volume = upscale(
                scan.read(),
                loaded,
                factor=factor,
                spacing=spacing,
                thickness=thickness,
                fidelity=fidelity,
                progress=lambda part, parts: reporter.progress("tiles", part, parts),
            )
        except MedganError as error:
            if len(scans) == 1:
                raise
            failures.append((scan.path, str(error)))
            continue
        write_volume(volume, target)
        sidecar = {
            "source": scan.path.name,
            "history": list(volume.history),
            "spacing_mm": [round(step, 6) for step in volume.spacing],
            "model_sha256": loaded.sha256 if loaded else None,
            "notice": "Upscaled by software for research; not for diagnosis.",
        }
        write_json(sidecar_of(target), sidecar)
        written.append(target)
    reporter.progress("upscale", len(scans), len(scans))
    return BatchResult(tuple(written), tuple(failures))


def sidecar_of(path: Path) -> Path:
    """The JSON file beside a NIfTI file."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
