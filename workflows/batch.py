"""Work on many scans, in which one bad scan does not cost the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError

if TYPE_CHECKING:
    from medgan.io import Scan


@dataclass(frozen=True)
class BatchResult:
    """Outputs, and the inputs that failed with the reason."""

    written: tuple[Path, ...]
    failures: tuple[tuple[Path, str], ...]


def scans_in(inputs: Iterable[str | Path]) -> list[Scan]:
    """Every scan in the given files and folders.

    Raises:
        MedganError: an input does not exist, or there is no scan in any of them.
    """
    from medgan.files import require_existing
    from medgan.io import find_scans

    paths = [require_existing(path) for path in inputs]
    scans = [scan for path in paths for scan in find_scans(path)]
    if not scans:
        raise MedganError(
            f"no scans found in {', '.join(map(str, paths))}",
            hint="Give NIfTI files (.nii, .nii.gz) or folders with NIfTI files or DICOM series.",
        )
    return scans


def output_paths(scans: Sequence[Scan], out: Path, *, single_input_file: bool) -> list[Path]:
    """Where each result goes: `out` itself when it names a NIfTI file, else files in the folder `out`, named after
    the scans.

    Raises:
        MedganError: `out` names one file, and there are several scans.
    """
    is_file = out.name.endswith((".nii", ".nii.gz"))
    if is_file and len(scans) > 1:
        raise MedganError(f"{len(scans)} scans cannot go into one file", file=out, hint="Give a folder as --out.")
    if is_file:
        return [out]
    if single_input_file and out.suffix and not out.is_dir():
        raise MedganError(
            f"'{out.suffix}' is no format that medgan writes", file=out, hint="Use .nii.gz, .nii, or a folder."
        )
    names = [scan.name for scan in scans]
    unique = [name if names.count(name) == 1 else f"{name}_{index:03d}" for index, name in enumerate(names)]
    return [out / f"{name}.nii.gz" for name in unique]
