"""One scan: what is in it, and its voxels on the cohort's grid, kept under a key of all they depend on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.cohort import PERCENTILES, VOXELS
from medgan.data.lineage import is_marked_synthetic, voxels_sha256
from medgan.errors import MedganError
from medgan.files import atomic_path, read_json, sha256_of, write_json
from medgan.geometry import Shape, Spacing
from medgan.io import Scan
from medgan.resampling import cropped_or_padded, resampled
from medgan.volume import Volume

# Raise it whenever the same scan and specification would give other voxels than before.
_FORMAT = 2
# What stands outside the field of view. The minimum would follow one stray voxel or the ringing of the interpolation;
# this percentile is air in practically every scan and is also where a model's intensity range begins.
_BACKGROUND_PERCENTILE = 0.5


@dataclass(frozen=True)
class Specification:
    """How scans become prepared voxels.

    Args:
        spacing: mm wanted along R, A and S; None: every scan keeps its own grid.
        shape: voxels along R, A and S; None with the spacing.
        order: of the interpolating B-spline.
    """

    spacing: Spacing | None
    shape: Shape | None
    order: int = 3

    def as_dict(self) -> dict[str, Any]:
        """In words, for keys and fingerprints."""
        fill = f"percentile {_BACKGROUND_PERCENTILE}"
        return {"format": _FORMAT, "orientation": "RAS", **asdict(self), "antialias": True, "fill": fill}


@dataclass(frozen=True)
class Surveyed:
    """What a scan is before preparation; `ras_shape` and `ras_spacing` are along R, A and S, `affine` (4x4, to RAS mm)
    is along its array axes; `synthetic` says whether the file itself says that a model made it.
    """

    sha256: str
    shape: Shape
    spacing: Spacing
    orientation: str
    modality: str | None
    ras_shape: Shape
    ras_spacing: Spacing
    affine: tuple[tuple[float, ...], ...]
    voxels_sha256: str
    synthetic: bool


@dataclass(frozen=True)
class Gridded:
    """A scan's voxels on the cohort's grid; the fields are those of `medgan.data.cohort.ScanRecord`."""

    voxels: str
    percentiles: Mapping[str, float]
    background: float
    affine: tuple[tuple[float, ...], ...]
    prepared_shape: Shape
    prepared_spacing: Spacing


@dataclass(frozen=True)
class Refused:
    """Why a scan cannot be used."""

    reason: str


def surveyed(scan: Scan) -> Surveyed | Refused:
    """Read a scan and look whether it can be used: it has one channel and more than one value.

    The readers of `medgan.io` themselves refuse voxels that are not finite and grids that are not regular.
    """
    try:
        volume = _read(scan)
        digest = content_sha256(scan)
    except (MedganError, OSError) as error:
        return Refused(reason_of(error))
    turned = volume.reoriented("RAS")
    return Surveyed(
        sha256=digest,
        shape=volume.shape,
        spacing=volume.spacing,
        orientation=volume.orientation,
        modality=volume.metadata.get("modality"),
        ras_shape=turned.shape,
        ras_spacing=turned.spacing,
        affine=tuple(tuple(row) for row in volume.affine.tolist()),
        voxels_sha256=voxels_sha256(turned),
        synthetic=is_marked_synthetic(volume),
    )


def gridded(scan: Scan, sha256: str, specification: Specification, folder: Path) -> Gridded | Refused:
    """A scan's voxels under `folder`, made unless they are there already.

    Args:
        scan: where to read it.
        sha256: of its content, see `content_sha256`.
        specification: what to make of it.
        folder: the cohort's.

    Raises:
        MedganError: the voxels cannot be written. (A scan that cannot be read is a `Refused`.)
    """
    text = json.dumps(specification.as_dict(), sort_keys=True)
    key = hashlib.sha256(f"{sha256} {text}".encode()).hexdigest()[:32]
    array, description = folder / VOXELS / f"{key}.npy", folder / VOXELS / f"{key}.json"
    if array.is_file() and description.is_file():
        return _restored(read_json(description), f"{VOXELS}/{key}.npy")
    try:
        volume, background = on_grid(_read(scan), specification)
        percentiles = _percentiles(volume.data)
    except (MedganError, OSError) as error:
        return Refused(reason_of(error))
    content = {
        "percentiles": percentiles,
        "background": background,
        "affine": volume.affine.tolist(),
        "prepared_shape": volume.shape,
        "prepared_spacing": volume.spacing,
    }
    write_array(array, volume.as_float()[0].astype("<f4", copy=False))
    write_json(description, content)
    return _restored(content, f"{VOXELS}/{key}.npy")


def content_sha256(scan: Scan) -> str:
    """The SHA-256 of a scan's file, or over the sorted hashes of a DICOM volume's files, each with the numbers of the
    frames that are its slices; where files lie is ignored."""
    if scan.slices is None:
        return sha256_of(scan.path)
    frames: dict[Path, list[str]] = {header.path: [] for header in scan.slices.slices}
    for header in scan.slices.slices:
        frames[header.path] += [] if header.frame is None else [f" {header.frame}"]
    hashes = sorted(sha256_of(path) + "".join(numbers) for path, numbers in frames.items())
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _read(scan: Scan) -> Volume:
    volume = scan.read()
    if volume.channels != 1:
        raise MedganError(f"holds {volume.channels} channels", hint="A cohort takes scans of one channel.")
    if volume.data.min() == volume.data.max():
        raise MedganError(f"all its voxels are {volume.data.min()}", hint="Leave out the scan.")
    return volume


def on_grid(volume: Volume, specification: Specification) -> tuple[Volume, float]:
    """The scan as the specification wants it, and the value outside its field of view."""
    turned = volume.reoriented("RAS")
    if specification.spacing is None or specification.shape is None:
        return turned, float(np.percentile(turned.data, _BACKGROUND_PERCENTILE))
    sampled = resampled(turned, spacing=specification.spacing, order=specification.order)
    background = float(np.percentile(sampled.data, _BACKGROUND_PERCENTILE))
    return cropped_or_padded(sampled, specification.shape, fill=background), background


def _percentiles(data: NDArray[np.float32]) -> dict[str, float]:
    values = np.percentile(data, PERCENTILES)
    if values[0] == values[-1]:
        raise MedganError(
            f"99 % of its prepared voxels are {values[0]:g}: there is nothing to learn from", hint="Leave out the scan."
        )
    return {f"{percentile:g}": float(value) for percentile, value in zip(PERCENTILES, values, strict=True)}


def _restored(content: Mapping[str, Any], voxels: str) -> Gridded:
    affine = tuple(tuple(float(value) for value in row) for row in content["affine"])
    x, y, z = content["prepared_spacing"]
    a, b, c = content["prepared_shape"]
    return Gridded(voxels, dict(content["percentiles"]), float(content["background"]), affine, (a, b, c), (x, y, z))


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file whole or not at all; through memory, because numpy's own writer hides that the disk is full."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array))
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def reason_of(error: Exception) -> str:
    """The error's text without the file's name, which stands beside it anyway."""
    return str(MedganError(error.what, hint=error.hint)) if isinstance(error, MedganError) else str(error)
