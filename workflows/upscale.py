"""Upscale scans from files to files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.batch import BatchResult, blamed, search
from medgan.workflows.formats import (
    FORMATS,
    NIFTI,
    Format,
    Origin,
    format_named,
    reference_files,
    require_sources,
    sources_of,
)
from medgan.workflows.places import remove

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.io import Scan
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
    format: str = NIFTI,
    subject: str | None = None,
    contrast: str | None = None,
    reference: str | Path | None = None,
    reporter: Reporter | None = None,
) -> BatchResult:
    """Upscale every scan in `inputs`.

    Args:
        inputs: NIfTI files, DICOM folders, or folders of them.
        out: a NIfTI file for one scan, or a folder; for DICOM always a folder, in which each series gets one of its
            own. Beside each scan stands a JSON file with what was done.
        model: as `medgan.workflows.models.resolve_model` takes it, or "physics" for the regularised inverse without
            learning.
        factor: see `medgan.inference.upscale.upscale`.
        spacing: see there.
        thickness: see there.
        fidelity: see there.
        device: "auto", "cpu", "cuda", ...
        format: one of `medgan.workflows.formats.FORMATS`, or "bids": a derivative dataset in the folder `out`. A DICOM
            series is derived from the one that was read.
        subject: for BIDS, whose scans these are, unless their names say so.
        contrast: for BIDS, the suffix such as "T1w", unless their names say it.
        reference: for one NIfTI file that is to become DICOM: the folder of the DICOM series that it was made from.
        reporter: where progress goes.

    Raises:
        MedganError: an argument is wrong, the place cannot be written, or there is nothing to upscale; of several
            scans, one that fails is listed in the result instead.
    """
    from medgan.inference.upscale import upscale

    reporter = reporter or Reporter()
    check_request(factor, spacing, thickness)
    wanted = _format(format, factor, spacing, subject, contrast)
    scans, damaged = search(inputs)
    single_file = len(inputs) == 1 and Path(inputs[0]).is_file()
    targets = wanted.targets(scans, Path(out), single_file)
    referred = _reference(reference, scans)
    loaded = loaded_model(model, device)
    written: list[Path] = []
    failures: list[tuple[Path, str]] = list(damaged)
    for done, (scan, target) in enumerate(zip(scans, targets, strict=True)):
        reporter.progress("upscale", done, len(scans), scan.name)
        try:
            require_sources(wanted, scan, referred)
            source = scan.read()
            check_size(source, factor, spacing)
            volume = upscale(
                source,
                loaded,
                factor=factor,
                spacing=spacing,
                thickness=thickness,
                fidelity=fidelity,
                progress=lambda part, parts: reporter.progress("tiles", part, parts),
            )
            request = {"factor": factor, "spacing": spacing, "thickness": thickness, "fidelity": fidelity}
            _write(volume, target, wanted, loaded, origin_of(scan, source, loaded, request, referred))
        except MedganError as error:
            # A place that cannot be written would refuse the other scans too.
            if len(scans) == 1 or error.file in (target, sidecar_of(target)):
                raise blamed(error, scan.path) from error
            failures.append((scan.path, str(blamed(error, scan.path))))
            continue
        written.append(target)
    reporter.progress("upscale", len(scans), len(scans))
    return BatchResult(tuple(written), tuple(failures))


def sidecar_of(path: Path) -> Path:
    """The JSON file beside a NIfTI file."""
    name = path.name
    for suffix in (".gz", ".nii"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return path.with_name(name + ".json")


def check_request(factor: Sequence[float] | None, spacing: Sequence[float] | None, thickness: float | None) -> None:
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


def check_size(volume: Volume, factor: Sequence[float] | None, spacing: Sequence[float] | None) -> None:
    """Refuse a request whose result would not fit into the memory of any machine."""
    if factor is None:
        factor = [1.0] * 3 if spacing is None else [a / b for a, b in zip(volume.spacing, spacing, strict=True)]
    shape = [max(size, round(size * times)) for size, times in zip(volume.shape, factor, strict=True)]
    if math.prod(shape) > _MOST_VOXELS:
        raise MedganError(
            f"the result would have {' x '.join(map(str, shape))} voxels, more than {_MOST_VOXELS}",
            hint="Ask for a smaller factor or a coarser spacing.",
        )


def _format(
    name: str,
    factor: Sequence[float] | None,
    spacing: Sequence[float] | None,
    subject: str | None,
    contrast: str | None,
) -> Format:
    """The format of this name."""
    from medgan.workflows.bids import BIDS, bids_format

    if name == BIDS:
        return bids_format(subject=subject, contrast=contrast, factor=factor, spacing=spacing)
    if subject is not None or contrast is not None:
        raise MedganError("--subject and --contrast are for BIDS", hint="Add --format bids, or leave them out.")
    return format_named(name, [*FORMATS, BIDS])


def loaded_model(model: str | Path, device: str) -> Model | None:
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


def _reference(reference: str | Path | None, scans: Sequence[Scan]) -> tuple[Path, ...]:
    """The files of the reference series, if one is named."""
    if reference is None:
        return ()
    if len(scans) > 1 or scans[0].slices is not None:
        raise MedganError(
            "a reference is for one NIfTI file; a DICOM series is its own",
            file=reference,
            hint="Leave --reference out, or upscale one NIfTI file at a time.",
        )
    return reference_files(reference)


def origin_of(
    scan: Scan, source: Volume, model: Model | None, request: dict[str, Any], reference: tuple[Path, ...]
) -> Origin:
    """What decides the result: the scan, the model, and what was asked for."""
    from medgan.files import sha256_of

    asked = {name: list(value) if isinstance(value, Sequence) else value for name, value in request.items()}
    file = None if scan.slices is not None else sha256_of(scan.path)
    return Origin(
        label="upscaled",
        steps=("resampled",) if model is None else ("resampled", "learned"),
        model_sha256=model.sha256 if model else None,
        parameters={**asked, "volume": scan.index, "before": list(source.history), "file": file},
        sources=sources_of(source, reference),
    )


def _write(volume: Volume, target: Path, wanted: Format, model: Model | None, origin: Origin) -> None:
    """Write a scan and its sidecar, both or neither."""
    from medgan.files import write_json

    wanted.write(volume, target, origin)
    if wanted.has_sidecar:
        return
    sidecar = {
        "history": list(volume.history),
        "spacing_mm": [round(step, 6) for step in volume.spacing],
        "model_sha256": model.sha256 if model else None,
        "notice": "Upscaled by software for research; not for diagnosis.",
    }
    try:
        write_json(sidecar_of(target), sidecar)
    except MedganError:
        remove(target)
        raise
