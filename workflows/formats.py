"""The formats of results: for each, where a result goes, what it is made from, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError, nearest
from medgan.workflows.batch import output_paths
from medgan.workflows.places import writable_folder

if TYPE_CHECKING:
    from medgan.io import Scan
    from medgan.volume import Volume

NIFTI, DICOM, DICOM_ENHANCED = "nifti", "dicom", "dicom-enhanced"


@dataclass(frozen=True)
class Origin:
    """Where a result comes from and what was done to it, for formats that say so.

    Args:
        label: one word, such as "upscaled".
        steps: what was done, in the words of `medgan.io.dicom.derive.STEPS`, such as "resampled".
        model_sha256: of the model that took part, if one did.
        parameters: whatever else decides the voxels, as JSON could hold it.
        sources: the DICOM files that it was made from; none if it was not made from DICOM.
        findings: what was found when the result was looked at, for the file beside it, as JSON could hold it.
        keeps_contrast: whether the result has the contrast of what it was made from.
    """

    label: str
    steps: tuple[str, ...]
    model_sha256: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Path, ...] = ()
    findings: Mapping[str, Any] = field(default_factory=dict)
    keeps_contrast: bool = True


@dataclass(frozen=True)
class Format:
    """One way to write results.

    Args:
        targets: where the result of each scan goes, given the scans, `--out`, and whether one file was named as input.
        write: writes a volume to its target, whole or not at all.
        must_be_new: whether nothing may be written where something stands that medgan did not write itself.
        needs_sources: whether nothing can be written without DICOM files that the result was made from.
        has_sidecar: whether `write` says beside the scan what was done, so that nobody else need.
    """

    targets: Callable[[Sequence[Scan], Path, bool], list[Path]]
    write: Callable[[Volume, Path, Origin], None]
    must_be_new: bool = False
    needs_sources: bool = False
    has_sidecar: bool = False


def format_named(name: str, among: Sequence[str] | None = None) -> Format:
    """The format of this name.

    Args:
        name: such as "dicom".
        among: the names that the workflow knows; all of them if None.

    Raises:
        MedganError: there is none.
    """
    known = list(FORMATS) if among is None else list(among)
    if name not in known:
        raise MedganError(f"'{name}' is no format that can be written here", hint=nearest(name, known))
    return FORMATS[name]


def sources_of(volume: Volume, reference: Sequence[Path]) -> tuple[Path, ...]:
    """The DICOM files that a volume was read from, or those of the reference if it was read from elsewhere."""
    return tuple(Path(file) for file in volume.metadata.get("dicom", {}).get("files", reference))


def reference_files(folder: str | Path, series: str | None = None) -> tuple[Path, ...]:
    """The files of the one DICOM image series in a folder.

    Raises:
        MedganError: there is none, or more than one.
    """
    from medgan.files import require_existing
    from medgan.io.dicom.files import visible_files
    from medgan.io.dicom.roles import IMAGE
    from medgan.io.dicom.scan import find_series

    folder = require_existing(folder)
    found = [one for one in find_series(visible_files(folder))[0] if one.role == IMAGE]
    found = [one for one in found if series is None or one.uid == series]
    uids = {one.uid for one in found}
    if len(uids) != 1:
        listing = "; ".join(sorted({str(one) for one in found})) or "none"
        raise MedganError(
            f"the reference must be one DICOM image series, here there are {len(uids)}: {listing}",
            file=folder,
            hint="Name a folder that holds the series that the scan was made from.",
        )
    return tuple(sorted({header.path for one in found for header in one.slices}))


def require_sources(wanted: Format, scan: Scan, reference: Sequence[Path]) -> None:
    """Refuse a NIfTI scan without reference for a format that files results with their source images.

    Raises:
        MedganError: there is nothing to refer to.
    """
    if wanted.needs_sources and scan.slices is None and not reference:
        raise no_reference(scan.path)


def no_reference(path: Path) -> MedganError:
    """The refusal to make DICOM of a file that nobody can be told from."""
    return MedganError(
        "a NIfTI file does not say whose scan it is, so no DICOM series can be derived from it alone",
        file=path,
        hint="Name the DICOM series that it was made from by --reference, or write NIfTI.",
    )


def require_folder_name(path: Path) -> None:
    """Refuse a file's name for a DICOM series.

    Raises:
        MedganError: it ends as files do.
    """
    if path.name.lower().endswith((".nii", ".nii.gz", ".dcm")):
        raise MedganError("a DICOM series is a folder, this is the name of a file", file=path, hint="Name a folder.")


def _folders(scans: Sequence[Scan], out: Path, single_input_file: bool) -> list[Path]:
    """A folder for each scan in the folder `out`."""
    require_folder_name(out)
    return [writable_folder(out / scan.name) for scan in scans]


def _write_nifti(volume: Volume, target: Path, origin: Origin) -> None:
    from medgan.io import write_volume

    write_volume(volume, target)


def _write_derived(volume: Volume, target: Path, origin: Origin, *, enhanced: bool = False) -> None:
    from medgan.io.dicom import derive

    derivation = derive.Derivation(
        label=origin.label,
        description="; ".join(volume.history) or f"{origin.label} without a change",
        codes=tuple(derive.STEPS[step] for step in origin.steps),
        model_sha256=origin.model_sha256,
        parameters=origin.parameters,
        keeps_contrast=origin.keeps_contrast,
    )
    derive.write_derived(volume, origin.sources, target, derivation=derivation, enhanced=enhanced)


def _write_enhanced(volume: Volume, target: Path, origin: Origin) -> None:
    _write_derived(volume, target, origin, enhanced=True)


def _files(scans: Sequence[Scan], out: Path, single_input_file: bool) -> list[Path]:
    return output_paths(scans, out, single_input_file=single_input_file)


FORMATS: Mapping[str, Format] = {
    NIFTI: Format(_files, _write_nifti),
    DICOM: Format(_folders, _write_derived, must_be_new=True, needs_sources=True),
    DICOM_ENHANCED: Format(_folders, _write_enhanced, must_be_new=True, needs_sources=True),
}
