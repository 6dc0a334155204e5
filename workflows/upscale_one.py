"""One scan, from its files to its result: read, looked at, upscaled, written, marked as done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.workflows.batch import blamed
from medgan.workflows.done import Fingerprint, Mark, digest_of_files, digest_of_values
from medgan.workflows.formats import Format, Origin, require_sources, sources_of
from medgan.workflows.places import new_folder, remove, write_sidecar
from medgan.workflows.upscale_report import write_upscale_report
from medgan.workflows.upscale_request import Request
from medgan.workflows.upscale_trust import has_maps, looked_at, write_maps
from medgan.workflows.upscale_volume import upscaled_with_maps

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.io import Scan
    from medgan.volume import Volume

_NOTICE = "Upscaled by software for research; not for diagnosis."


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
    begun = begin_one(scan, target, model, request, output)
    if isinstance(begun, Outcome):
        return begun
    start = time.perf_counter()
    try:
        volume, maps = upscaled_with_maps(
            begun.source, model, request, name=begun.stem, processes=processes, progress=progress
        )
    except MedganError as error:
        return begun.failed(error)
    return finish_one(begun, volume, maps, model, request, output, time.perf_counter() - start)


@dataclass(frozen=True)
class Begun:
    """A scan that was read and is to be upscaled.

    Args:
        scan: as it was found.
        target: where the result goes.
        mark: of the result, if it gets one.
        source: as it was read.
    """

    scan: Scan
    target: Path
    mark: Mark | None
    source: Volume

    @property
    def stem(self) -> str:
        """The name of a NIfTI file, without the folders that tell it from its namesakes; nothing for DICOM."""
        from medgan.io.scans import nifti_stem

        return nifti_stem(self.scan.path) if self.scan.slices is None else ""

    def failed(self, error: MedganError, *, is_fatal: bool = False) -> Outcome:
        """There is no result, because of this."""
        return Outcome(self.target, error=blamed(error, self.scan.path), is_fatal=is_fatal)


def begin_one(scan: Scan, target: Path, model: Model | None, request: Request, output: Output) -> Begun | Outcome:
    """Read a scan, unless its result stands there already or cannot be; arguments as of `upscale_one`."""
    try:
        require_sources(output.wanted, scan, output.reference)
        mark = _mark(scan, target, model, request, output)
        if mark is not None and mark.is_done() and output.is_all_there(target, model, request):
            return Outcome(target, ("stands there already, made from the same: skipped",), is_skipped=True)
        if output.wanted.must_be_new and not (mark is not None and mark.is_our_own()):
            new_folder(target)
        return Begun(scan, target, mark, read_source(scan))
    except MedganError as error:
        return Outcome(target, error=blamed(error, scan.path))


def finish_one(
    begun: Begun,
    volume: Volume,
    maps: Mapping[str, Volume],
    model: Model | None,
    request: Request,
    output: Output,
    seconds: float,
) -> Outcome:
    """Look at a result, write it and mark it as done.

    Args:
        begun: the scan.
        volume: the result.
        maps: those that were made with it.
        model: see `upscale_one`, as are the other arguments.
        request: see there.
        output: see there.
        seconds: what upscaling took.
    """
    source, is_writing = begun.source, False
    try:
        findings = looked_at(source, volume, maps, model, request, seconds)
        is_writing = True
        origin = origin_of(begun.scan, source, model, request, output.reference)
        origin = replace(origin, findings=findings.to_dict())
        _write(volume, begun.target, output.wanted, origin, begun.mark, findings.maps)
        if output.report is not None:
            write_upscale_report(output.report, source, volume, findings, model, request)
        return Outcome(begun.target, (*_notes(source, volume), *findings.warnings))
    except MedganError as error:
        # What the system refuses to write here it would refuse the other scans too.
        return begun.failed(error, is_fatal=is_writing and isinstance(error.__cause__, OSError))


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
    content = {
        "history": list(volume.history),
        "spacing_mm": [round(step, 6) for step in volume.spacing],
        "model_sha256": origin.model_sha256,
        "output_check": dict(origin.findings),
        "notice": _NOTICE,
    }
    write_sidecar(content, target)
