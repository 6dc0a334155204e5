"""One scan, from its files to its result: read, looked at, upscaled, written, marked as done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.workflows.batch import blamed
from medgan.workflows.done import Fingerprint, Mark, digest_of_files, digest_of_values
from medgan.workflows.formats import Format, Origin, require_sources, sources_of
from medgan.workflows.places import new_folder, remove
from medgan.workflows.upscale_report import write_upscale_report
from medgan.workflows.upscale_trust import SPREAD, UNCONFIRMED, has_maps, looked_at, write_maps

if TYPE_CHECKING:
    from medgan.geometry import Shape
    from medgan.inference.model import Model
    from medgan.io import Scan
    from medgan.volume import Volume

_NOTICE = "Upscaled by software for research; not for diagnosis."


@dataclass(frozen=True)
class Request:
    """What is asked of every scan, see `medgan.inference.upscale.upscale`; `self_supervised` for
    `medgan.workflows.self_supervised.self_supervised_upscale` instead. With `uncertainty` maps are written beside the
    result, which is the same with and without them.
    """

    factor: Sequence[float] | None = None
    spacing: Sequence[float] | None = None
    thickness: float | None = None
    fidelity: float = 1.0
    self_supervised: bool = False
    uncertainty: bool = False

    def values(self) -> dict[str, Any]:
        """The options that decide the result by name, as JSON could hold them."""
        triples = {"factor": self.factor, "spacing": self.spacing}
        listed = {name: None if value is None else list(value) for name, value in triples.items()}
        return {
            **listed,
            "thickness": self.thickness,
            "fidelity": self.fidelity,
            "self_supervised": self.self_supervised,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Args:
        target: its result.
        notes: what the user should know.
        error: why there is no result, if there is none.
        is_fatal: whether other scans would meet the same error, as where nothing can be written.
        is_skipped: whether the result stood there already.
    """

    target: Path
    notes: tuple[str, ...] = ()
    error: MedganError | None = None
    is_fatal: bool = False
    is_skipped: bool = False


def check_request(request: Request) -> None:
    """Refuse what no scan could be upscaled by, once instead of for every scan.

    Raises:
        MedganError: an option makes no sense.
    """
    factor, spacing, thickness = request.factor, request.spacing, request.thickness
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
    if not 0 <= request.fidelity <= 1:
        raise MedganError(
            f"the fidelity {request.fidelity:g} is out of range", hint="Give a number from 0 (texture) to 1 (fidelity)."
        )


def read_source(scan: Scan) -> Volume:
    """A scan with all its volumes, and what its sidecar says of its slices.

    Raises:
        MedganError: it or its sidecar cannot be read.
    """
    if scan.slices is not None:
        return scan.read()
    from medgan.inference.planning import SIDECAR
    from medgan.io.nifti import read_nifti_volumes
    from medgan.io.sidecar import slice_facts

    volume, facts = read_nifti_volumes(scan.path), slice_facts(scan.path)
    if not facts:
        return volume
    return replace(volume, metadata={**volume.metadata, **facts, "slice_thickness_source": SIDECAR})


def upscaled(
    source: Volume,
    model: Model | None,
    request: Request,
    *,
    name: str = "",
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Volume:
    """A scan at a higher resolution, once it is known to be an image and the result to fit into memory.

    Args:
        source: as it was read.
        model: None for physics alone.
        request: what is asked for.
        name: of the file without ending, if it may say that this is a label map.
        processes: that do the same at the same time.
        progress: called with (tiles done, tiles in all).

    Raises:
        MedganError: the scan, the request or the two together make no sense, or memory is too small.
    """
    return upscaled_with_maps(source, model, request, name=name, processes=processes, progress=progress)[0]


def upscaled_with_maps(
    source: Volume,
    model: Model | None,
    request: Request,
    *,
    name: str = "",
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Volume, dict[str, Volume]]:
    """As `upscaled`, with those maps of uncertainty that are asked for and can only be made along with the result."""
    from medgan.inference.inputs import require_image
    from medgan.inference.memory import require_memory

    require_image(source, name)
    require_memory(
        *memory_for(source, model, request),
        processes=processes,
        advice="Upscale its volumes one by one." if source.channels > 1 else "",
    )
    try:
        return _made(source, model, request, progress)
    except (MemoryError, RuntimeError) as error:
        # torch says by a RuntimeError that a device, or the machine, has no more memory.
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        raise MedganError(
            f"memory ran out ({' '.join(str(error).split())[:120]})",
            hint="Ask for a smaller factor or a coarser spacing, use fewer --jobs, or on a GPU try --device cpu.",
        ) from error


def _made(
    source: Volume, model: Model | None, request: Request, progress: Callable[[int, int], None] | None
) -> tuple[Volume, dict[str, Volume]]:
    """The result by the way that is asked for, and the maps that came with it."""
    from medgan.inference.uncertainty import upscale_with_maps
    from medgan.inference.upscale import upscale
    from medgan.workflows.self_supervised import self_supervised_upscale

    options: dict[str, Any] = {
        "factor": request.factor,
        "spacing": request.spacing,
        "thickness": request.thickness,
        "fidelity": request.fidelity,
        "progress": progress,
    }
    if request.self_supervised:
        return self_supervised_upscale(source, model, **options), {}
    if not request.uncertainty:
        return upscale(source, model, **options), {}
    made = upscale_with_maps(source, model, **options)
    maps = {SPREAD: made.spread, UNCONFIRMED: made.unconfirmed}
    return made.volume, {name: one for name, one in maps.items() if one is not None}


def memory_for(source: Volume, model: Model | None, request: Request) -> tuple[Shape, int]:
    """The voxels of the result, and the bytes that making it takes at its peak (`medgan.inference.memory.peak_bytes`).

    Raises:
        MedganError: the request does not go with the scan.
    """
    from medgan.inference.memory import footprint_of, peak_bytes
    from medgan.inference.planning import high_shape_of
    from medgan.workflows.self_supervised import new_model, shipped_recipe

    if request.self_supervised and model is None:
        model = new_model(shipped_recipe())
    acquired = None if model is None else model.config["acquisition"]
    high_shape = high_shape_of(source, acquired, request.factor, request.spacing)
    # Two maps are as large as the result each.
    channels = source.channels * (3 if request.uncertainty else 1)
    if model is None:
        return high_shape, peak_bytes(source.shape, high_shape, channels=channels)
    footprint = footprint_of(model.network(fidelity=request.fidelity))
    needed = peak_bytes(source.shape, high_shape, channels=channels, footprint=footprint)
    return high_shape, needed


@dataclass(frozen=True)
class Output:
    """How and where results are written.

    Args:
        wanted: the format.
        name: of the format.
        folder: that holds the results, with marks of what is done; None for a single file, which is always made anew.
        reference: files of the DICOM series that a NIfTI file was made from.
        report: the HTML file that shows the result; None for none.
    """

    wanted: Format
    name: str
    folder: Path | None
    reference: tuple[Path, ...] = ()
    report: Path | None = None

    def is_all_there(self, target: Path, model: Model | None, request: Request) -> bool:
        """Whether what goes with a result stands there too."""
        return has_maps(target, model, request) and (self.report is None or self.report.is_file())


def upscale_one(
    scan: Scan,
    target: Path,
    model: Model | None,
    request: Request,
    output: Output,
    *,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Upscale one scan into its target, unless that was done before.

    Args:
        scan: as it was found.
        target: where the result goes.
        model: None for physics alone.
        request: what is asked for.
        output: how it is written.
        processes: that do the same at the same time.
        progress: called with (tiles done, tiles in all).
    """
    is_writing = False
    try:
        require_sources(output.wanted, scan, output.reference)
        mark = _mark(scan, target, model, request, output)
        if mark is not None and mark.is_done() and output.is_all_there(target, model, request):
            return Outcome(target, ("stands there already, made from the same: skipped",), is_skipped=True)
        if output.wanted.must_be_new and not (mark is not None and mark.is_our_own()):
            new_folder(target)
        source = read_source(scan)
        start = time.perf_counter()
        volume, maps = upscaled_with_maps(
            source, model, request, name=_stem(scan), processes=processes, progress=progress
        )
        findings = looked_at(source, volume, maps, model, request, time.perf_counter() - start)
        is_writing = True
        origin = origin_of(scan, source, model, request, output.reference)
        _write(volume, target, output.wanted, replace(origin, findings=findings.to_dict()), mark, findings.maps)
        if output.report is not None:
            write_upscale_report(output.report, source, volume, findings, model, request)
        return Outcome(target, (*_notes(source, volume), *findings.warnings))
    except MedganError as error:
        # What the system refuses to write here it would refuse the other scans too.
        is_fatal = is_writing and isinstance(error.__cause__, OSError)
        return Outcome(target, error=blamed(error, scan.path), is_fatal=is_fatal)


def origin_of(scan: Scan, source: Volume, model: Model | None, request: Request, reference: tuple[Path, ...]) -> Origin:
    """What decides the result: the scan, the model, and what was asked for."""
    from medgan.files import sha256_of

    file = None if scan.slices is not None else sha256_of(scan.path)
    return Origin(
        label="upscaled",
        steps=("resampled",) if model is None and not request.self_supervised else ("resampled", "learned"),
        model_sha256=model.sha256 if model else None,
        parameters={**request.values(), "volume": scan.index, "before": list(source.history), "file": file},
        sources=sources_of(source, reference),
    )


def _mark(scan: Scan, target: Path, model: Model | None, request: Request, output: Output) -> Mark | None:
    """The mark of a result, with hashes of all that decides it; the scan's sidecar belongs to the scan."""
    from medgan import __version__
    from medgan.io.sidecar import sidecar_of

    if output.folder is None:
        return None
    if scan.slices is not None:
        files = {header.path for header in scan.slices.slices}
    else:
        files = {path for path in (scan.path, sidecar_of(scan.path)) if path.is_file()}
    deciding = {
        **request.values(),
        "format": output.name,
        "volume": scan.index,
        "reference": digest_of_files(output.reference) if output.reference else None,
        "medgan": __version__,
    }
    fingerprint = Fingerprint(
        input=digest_of_files(files), model=model.sha256 if model else None, options=digest_of_values(deciding)
    )
    return Mark.of(target, output.folder, fingerprint)


def _stem(scan: Scan) -> str:
    """The name of a NIfTI file, without the folders that tell it from its namesakes; nothing for DICOM."""
    from medgan.io.scans import nifti_stem

    return nifti_stem(scan.path) if scan.slices is None else ""


def _notes(source: Volume, volume: Volume) -> tuple[str, ...]:
    """What the history says that was not in it before, but for where voxels went."""
    steps = volume.history[len(source.history) :]
    return tuple(step for step in steps if not step.startswith(("reoriented", "upscaled")))


def _write(
    volume: Volume, target: Path, wanted: Format, origin: Origin, mark: Mark | None, maps: Mapping[str, Volume]
) -> None:
    """Write a scan, its sidecar, its maps and its mark: all or none."""
    if mark is not None:
        mark.begin()
        if wanted.must_be_new and target.exists():
            remove(target)
    try:
        wanted.write(volume, target, origin)
        if not wanted.has_sidecar:
            _write_sidecar(volume, target, origin)
        _write_maps(maps, target)
    except MedganError:
        if mark is not None:
            mark.withdraw()
        raise
    if mark is not None:
        mark.finish()


def _write_maps(maps: Mapping[str, Volume], target: Path) -> None:
    """Write the maps beside a result; the result goes if they cannot be written."""
    try:
        write_maps(maps, target)
    except MedganError:
        remove(target)
        raise


def _write_sidecar(volume: Volume, target: Path, origin: Origin) -> None:
    """Say beside a result what was done; the result goes if that cannot be said."""
    from medgan.files import write_json
    from medgan.io.sidecar import sidecar_of

    sidecar = {
        "history": list(volume.history),
        "spacing_mm": [round(step, 6) for step in volume.spacing],
        "model_sha256": origin.model_sha256,
        "output_check": dict(origin.findings),
        "notice": _NOTICE,
    }
    try:
        write_json(sidecar_of(target), sidecar)
    except MedganError:
        remove(target)
        raise
