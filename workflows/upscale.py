"""Upscale scans from files to files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.batch import BatchResult, blamed, output_paths, scans_in

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.volume import Volume

PHYSICS = "physics"
# Eight GiB as float32, eight times a large CT; more is a slip of the pen, and would be killed for lack of memory.
_MOST_VOXELS = 2**31


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
        MedganError: an argument is wrong, the place cannot be written, or there is nothing to upscale; of several
            scans, one that fails is listed in the result instead.
    """
    from medgan.inference.upscale import upscale

    reporter = reporter or Reporter()
    _check_request(factor, spacing, thickness)
    scans = scans_in(inputs)
    single_file = len(inputs) == 1 and Path(inputs[0]).is_file()
    targets = output_paths(scans, Path(out), single_input_file=single_file)
    loaded = _loaded(model, device)
    written: list[Path] = []
    failures: list[tuple[Path, str]] = []
    for done, (scan, target) in enumerate(zip(scans, targets, strict=True)):
        reporter.progress("upscale", done, len(scans), scan.name)
        try:
            source = scan.read()
            _check_size(source, factor, spacing)
            volume = upscale(
                source,
                loaded,
                factor=factor,
                spacing=spacing,
                thickness=thickness,
                fidelity=fidelity,
                progress=lambda part, parts: reporter.progress("tiles", part, parts),
            )
        except MedganError as error:
            if len(scans) == 1:
                raise blamed(error, scan.path) from error
            failures.append((scan.path, str(blamed(error, scan.path))))
            continue
        _write(volume, target, source=scan.path.name, model=loaded)
        written.append(target)
    reporter.progress("upscale", len(scans), len(scans))
    return BatchResult(tuple(written), tuple(failures))


def sidecar_of(path: Path) -> Path:
    """The JSON file beside a NIfTI file."""
    name = path.name
    for suffix in (".gz", ".nii"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return path.with_name(name + ".json")


def _check_request(factor: Sequence[float] | None, spacing: Sequence[float] | None, thickness: float | None) -> None:
    """Refuse what no scan could be upscaled by, once instead of for every scan."""
    if factor is not None and spacing is not None:
        raise MedganError(
            f"both a factor {tuple(factor)} and a spacing {tuple(spacing)} are given", hint="Give one of them."
        )
    if factor is not None and not (len(factor) == 3 and all(math.isfinite(one) and one >= 1 for one in factor)):
        raise MedganError(
            f"the factor {tuple(factor)} is not three numbers of 1 or more", hint="Write for example --factor 1,1,2."
        )
    if spacing is not None and not (len(spacing) == 3 and all(math.isfinite(one) and one > 0 for one in spacing)):
        raise MedganError(
            f"the spacing {tuple(spacing)} is not three numbers above 0", hint="Write for example --spacing 1,1,1."
        )
    if thickness is not None and not (math.isfinite(thickness) and thickness > 0):
        raise MedganError(f"the slice thickness {thickness:g} is no length", hint="Give --thickness in mm, above 0.")


def _check_size(volume: Volume, factor: Sequence[float] | None, spacing: Sequence[float] | None) -> None:
    if factor is None:
        factor = [1.0] * 3 if spacing is None else [a / b for a, b in zip(volume.spacing, spacing, strict=True)]
    shape = [max(size, round(size * times)) for size, times in zip(volume.shape, factor, strict=True)]
    if math.prod(shape) > _MOST_VOXELS:
        raise MedganError(
            f"the result would have {' x '.join(map(str, shape))} voxels, more than {_MOST_VOXELS}",
            hint="Ask for a smaller factor or a coarser spacing.",
        )


def _loaded(model: str | Path, device: str) -> Model | None:
    """The model on its device; None for physics alone."""
    from medgan.inference.model import load_model, require_task
    from medgan.training.numerics import choose_device
    from medgan.workflows.models import resolve_model

    place = choose_device(device)
    if str(model) == PHYSICS:
        return None
    loaded = load_model(resolve_model(model), place)
    require_task(loaded, "super_resolution", "upscale")
    return loaded


def _write(volume: Volume, target: Path, *, source: str, model: Model | None) -> None:
    """Write a scan and its sidecar, both or neither."""
    from medgan.files import write_json
    from medgan.io import write_volume

    write_volume(volume, target)
    sidecar = {
        "source": source,
        "history": list(volume.history),
        "spacing_mm": [round(step, 6) for step in volume.spacing],
        "model_sha256": model.sha256 if model else None,
        "notice": "Upscaled by software for research; not for diagnosis.",
    }
    try:
        write_json(sidecar_of(target), sidecar)
    except MedganError:
        target.unlink()
        raise
