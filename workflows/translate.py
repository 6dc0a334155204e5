"""Translate scans to another contrast, from files to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.batch import BatchResult, blamed, search
from medgan.workflows.formats import (
    NIFTI,
    Format,
    Origin,
    format_named,
    reference_files,
    require_sources,
    sources_of,
)
from medgan.workflows.models import model_for
from medgan.workflows.places import new_folder, write_sidecar

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.io import Scan
    from medgan.volume import Volume

_NOTICE = (
    "This contrast was made by a model from another one, not acquired: what the source does not show is invented. "
    "For research, not for diagnosis."
)
_ADVICE = "Translate the scan that it was drawn on; the labels fit the result as they are, on the same grid."


@dataclass(frozen=True)
class _Job:
    """What is the same for all scans.

    Args:
        model: loaded.
        reverse: whether from its target to its source.
        wanted: the format of the results.
        reference: DICOM files that a NIfTI file was made from.
    """

    model: Model
    reverse: bool
    wanted: Format
    reference: tuple[Path, ...]


def translate_scans(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path,
    reverse: bool = False,
    device: str = "auto",
    format: str = NIFTI,
    reference: str | Path | None = None,
    reporter: Reporter | None = None,
) -> BatchResult:
    """Translate every scan in `inputs`; of several, one that fails is listed in the result.

    Args:
        inputs: NIfTI files (3D, or 4D: volume by volume into one 4D file), DICOM folders, or folders of them.
        out: a NIfTI file for one scan, or a folder; for DICOM always a folder, in which each series gets one of its
            own. Beside each scan stands a JSON file with what was done.
        model: as `medgan.workflows.models.resolve_model` takes it, trained for translation.
        reverse: see `medgan.inference.translate.translate`.
        device: "auto", "cpu", "cuda", ...
        format: one of `medgan.workflows.formats.FORMATS`; a DICOM series is derived from the one that was read.
        reference: for one NIfTI file that is to become DICOM: the folder of the DICOM series that it was made from.
        reporter: where progress goes.

    Raises:
        MedganError: an argument is wrong, the place cannot be written, or there is nothing to translate; or the only
            scan cannot be translated.
    """
    from medgan.inference.translate import contrasts

    reporter = reporter or Reporter()
    wanted = format_named(format)
    scans, damaged = search(inputs)
    if reference is not None and (len(scans) > 1 or scans[0].slices is not None):
        raise MedganError(
            "a reference is for one NIfTI file; a DICOM series is its own",
            file=reference,
            hint="Leave --reference out, or translate one NIfTI file at a time.",
        )
    loaded = model_for("translation", model, device, "translate")
    contrasts(loaded, reverse)
    job = _Job(loaded, reverse, wanted, reference_files(reference) if reference is not None else ())
    targets = wanted.targets(scans, Path(out), len(inputs) == 1 and Path(inputs[0]).is_file())
    written: list[Path] = []
    failures = list(damaged)
    for done, (scan, target) in enumerate(zip(scans, targets, strict=True), start=1):
        try:
            _translated_file(scan, target, job, reporter)
            written.append(target)
        except MedganError as error:
            if len(scans) == 1:
                raise blamed(error, scan.path) from error
            failures.append((scan.path, str(blamed(error, scan.path))))
        reporter.progress("translate", done, len(scans), scan.name)
    return BatchResult(tuple(written), tuple(failures))


def translated(
    volume: Volume,
    model: Model,
    *,
    reverse: bool = False,
    name: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Volume:
    """A scan in the other contrast, once it is known to be an image of the right one and to fit into memory.

    Args:
        volume: as it was read.
        model: trained for translation.
        reverse: see `medgan.inference.translate.translate`.
        name: of the file without ending, if it may say that this is a label map or which contrast it has.
        progress: called with (tiles done, tiles in all).

    Raises:
        MedganError: it is a label map or empty, its name says another contrast, or memory is too small.
    """
    from medgan.inference.inputs import require_image
    from medgan.inference.memory import peak_bytes, require_memory
    from medgan.inference.translate import footprint, tile_of, translate, translator

    require_image(volume, name, nothing="translate", advice=_ADVICE)
    _require_contrast(model, reverse, name)
    network = translator(model, reverse)
    around = tuple(size + 2 * int(model.config["margin"]) for size in volume.shape)
    seen = (around[0], around[1], around[2])
    needed = peak_bytes(
        volume.shape, seen, channels=volume.channels, footprint=footprint(network), tile=tile_of(network, seen)
    )
    # Without tiles memory is what the whole scan takes, which only another network changes.
    require_memory(volume.shape, needed, advice="" if network.is_local else "Train with network.normalisation=none.")
    return translate(volume, model, reverse=reverse, progress=progress)


def _require_contrast(model: Model, reverse: bool, name: str) -> None:
    """Refuse a scan whose name says that it has another contrast than the model starts from."""
    import re

    from medgan.inference.translate import contrasts
    from medgan.io.bids import suffix_of

    source, target = contrasts(model, reverse)
    said, wanted = suffix_of(re.split(r"[_-]", name)[-1]), suffix_of(source)
    if said is not None and wanted is not None and said != wanted:
        can_reverse = len(model.config["directions"]) > 1
        raise MedganError(
            f"by its name this is a {said} scan, and the model translates from {source} to {target}",
            hint=f"Give a {source} scan{', or turn --reverse round' if can_reverse else ''}; "
            "if the name is wrong, rename the file.",
        )


def _translated_file(scan: Scan, target: Path, job: _Job, reporter: Reporter) -> None:
    """Read, translate, write, and say beside the result what was done."""
    from medgan.files import sha256_of
    from medgan.io.nifti import read_nifti_volumes
    from medgan.io.scans import nifti_stem

    require_sources(job.wanted, scan, job.reference)
    if job.wanted.must_be_new:
        new_folder(target)
    is_file = scan.slices is None
    source = read_nifti_volumes(scan.path) if is_file else scan.read()
    start = time.perf_counter()
    volume = translated(
        source,
        job.model,
        reverse=job.reverse,
        name=nifti_stem(scan.path) if is_file else "",
        progress=partial(reporter.progress, "tiles"),
    )
    for step in volume.history[len(source.history) : -1]:
        reporter.say(f"{scan.name}: {step}")
    origin = Origin(
        label="translated",
        steps=("learned",),
        model_sha256=job.model.sha256,
        parameters={
            "reverse": job.reverse,
            "volume": scan.index,
            "before": list(source.history),
            "file": sha256_of(scan.path) if is_file else None,
        },
        sources=sources_of(source, job.reference),
        keeps_contrast=False,
    )
    job.wanted.write(volume, target, origin)
    if not job.wanted.has_sidecar:
        _write_sidecar(volume, target, job, time.perf_counter() - start)


def _write_sidecar(volume: Volume, target: Path, job: _Job, seconds: float) -> None:
    from medgan.inference.translate import contrasts

    source, made = contrasts(job.model, job.reverse)
    content = {
        "history": list(volume.history),
        "source_contrast": source,
        "made_contrast": made,
        "spacing_mm": [round(step, 6) for step in volume.spacing],
        "model_sha256": job.model.sha256,
        "seconds": round(seconds, 3),
        "notice": _NOTICE,
    }
    write_sidecar(content, target)
