"""Convert a scan between DICOM and NIfTI, every voxel and its place unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.io import read_all_volumes, read_volume, write_volume
from medgan.io.scans import require_writable_name
from medgan.workflows.bids import BIDS
from medgan.workflows.formats import (
    DICOM,
    DICOM_ENHANCED,
    NIFTI,
    Origin,
    format_named,
    no_reference,
    reference_files,
    require_folder_name,
    sources_of,
)
from medgan.workflows.places import new_folder, writable_file

if TYPE_CHECKING:
    from medgan.io.dicom.relaxations import Relaxations
    from medgan.volume import Volume

_DICOM_FORMATS = (DICOM, DICOM_ENHANCED)


def convert(
    input: str | Path,
    output: str | Path,
    *,
    series: str | None = None,
    index: int | None = None,
    relaxations: Relaxations | None = None,
    format: str | None = None,
    reference: str | Path | None = None,
    deface: bool = False,
    subject: str | None = None,
    contrast: str | None = None,
) -> Path:
    """Read one scan and write it as a NIfTI file, into a BIDS dataset or as a DICOM series.

    A NIfTI input keeps its data type, scaling, qform and sform codes and units. A DICOM series keeps its stored
    integers, or is written in float32 if its slices are rescaled; one of several volumes (echoes, time points) becomes
    a 4D file.

    A DICOM output is a derived series: it stands in the study of the series that was read, or of the reference.

    Args:
        input: a NIfTI file or a folder that holds a DICOM series.
        output: the file to write, ending in .nii or .nii.gz; for DICOM a new folder.
        series: which SeriesInstanceUID, if the folder holds several.
        index: which volume, counted from 0, of a 4D NIfTI file or of a DICOM series that holds several.
        relaxations: what may be done to a DICOM series that is not one regular grid; without them it is refused.
        format: one of `medgan.workflows.formats.FORMATS`, or "bids": a raw dataset in the folder `output`; NIfTI if
            None.
        reference: the folder of the DICOM series that a NIfTI input was made from, if it is to become DICOM.
        deface: remove the face from a head scan, see `medgan.defacing`; for NIfTI and BIDS.
        subject: for BIDS, whose scan it is, unless its name says so.
        contrast: for BIDS, the suffix such as "T1w", unless the name says it.

    Returns:
        The path written, the folder of a DICOM series.

    Raises:
        MedganError: the input cannot be read as one regular grid, or the output cannot be written or is the input.
    """
    if format != BIDS and (subject is not None or contrast is not None):
        raise MedganError("--subject and --contrast are for BIDS", hint="Add --format bids, or leave them out.")
    if format not in (None, NIFTI, BIDS):
        if deface:
            raise MedganError(
                "a derived DICOM series still names the patient, so that removing the face hides nobody",
                hint="Use --deidentify --deface, which writes a DICOM series that names nobody.",
            )
        return _derived(Path(input), Path(output), str(format), series, index, relaxations, reference)
    if reference is not None:
        raise MedganError(
            "a reference has a use for DICOM outputs only", file=reference, hint="Add --format dicom, or leave it out."
        )
    if format == BIDS:
        return _into_dataset(Path(input), Path(output), series, index, relaxations, deface, subject, contrast)
    path = writable_file(require_writable_name(output), [input])
    volume = _perhaps_defaced(_source(input, series, index, relaxations), deface)
    write_volume(volume, path)
    if "dicom" in volume.metadata and volume.history:
        _write_history(volume, path)
    return path


def _write_history(volume: Volume, output: Path) -> None:
    """What was done to the voxels of a DICOM series, beside the file, which has no room for it; both or neither."""
    from medgan.files import write_json
    from medgan.io.sidecar import sidecar_of

    try:
        write_json(sidecar_of(output), {"history": list(volume.history)})
    except MedganError:
        output.unlink()
        raise


def _perhaps_defaced(volume: Volume, deface: bool) -> Volume:
    from medgan.defacing import defaced

    return defaced(volume) if deface else volume


def _into_dataset(
    input: Path,
    output: Path,
    series: str | None,
    index: int | None,
    relaxations: Relaxations | None,
    deface: bool,
    subject: str | None,
    contrast: str | None,
) -> Path:
    """One volume as an image of a raw dataset."""
    from medgan.io.scans import Scan
    from medgan.workflows.bids import named, require_dataset_name, write_converted

    require_dataset_name(output)
    stem = input.name.lower().removesuffix(".gz").removesuffix(".nii")
    name = named(Scan(input, series, input.name[: len(stem)]), subject, contrast)
    writable_file(output / name.path, [input])
    volume = read_volume(input, series=series, index=index, relaxations=relaxations)
    return write_converted(_perhaps_defaced(volume, deface), output, name)


def _source(input: str | Path, series: str | None, index: int | None, relaxations: Relaxations | None) -> Volume:
    """The scan: the volume with this index, or all volumes as channels."""
    if index is None:
        return read_all_volumes(input, series=series, relaxations=relaxations)
    return read_volume(input, series=series, index=index, relaxations=relaxations)


def _derived(
    input: Path,
    output: Path,
    format: str,
    series: str | None,
    index: int | None,
    relaxations: Relaxations | None,
    reference: str | Path | None,
) -> Path:
    """One volume as a DICOM series that is derived from the one read, or from the reference."""
    from medgan.files import sha256_of

    wanted = format_named(format, (NIFTI, *_DICOM_FORMATS, BIDS))
    require_folder_name(output)
    output = new_folder(output, hint="Name a new folder.")
    volume = read_volume(input, series=series, index=index, relaxations=relaxations)
    is_dicom = "dicom" in volume.metadata
    if reference is not None and is_dicom:
        raise MedganError("a DICOM series is its own reference", file=reference, hint="Leave --reference out.")
    referred = reference_files(reference) if reference is not None else ()
    if not is_dicom and not referred:
        raise no_reference(input)
    resampled = relaxations is not None and relaxations != type(relaxations)()
    origin = Origin(
        label="converted",
        steps=("resampled", "converted") if resampled else ("converted",),
        parameters={
            "volume": index,
            "before": list(volume.history),
            "file": None if is_dicom else sha256_of(input),
        },
        sources=sources_of(volume, referred),
    )
    wanted.write(volume, output, origin)
    return output
