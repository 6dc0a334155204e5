"""A scan's label map on the very grid of its prepared voxels, by nearest neighbour in patient space."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan import geometry
from medgan.data.cohort import VOXELS, MaskRecord
from medgan.data.gridding import Gridded, Refused, Surveyed, content_sha256, reason_of, write_array
from medgan.data.lineage import voxels_sha256
from medgan.errors import MedganError
from medgan.files import read_json, write_json
from medgan.geometry import Affine, Shape
from medgan.io import Scan
from medgan.volume import Volume

# Raise it whenever the same label map and grids would give other voxels than before.
_FORMAT = 2
# Grids with the same number of voxels are the same grid; a displacement above this share of a voxel's shortest side
# is a header's mistake. Other grids may end up to the longest side away, as many programs round their sizes.
_SAME_GRID, _OTHER_GRID = 0.1, 1.0
# Decides between two voxels at one distance alike everywhere, whatever the rounding of affines.
_TIE = 1e-6
_LARGEST = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class MaskJob:
    """One label map to prepare.

    Args:
        mask: where to read it.
        path: of it, as the manifest says it.
        scan: what its scan is.
        grid: the scan's prepared voxels.
    """

    mask: Scan
    path: str
    scan: Surveyed
    grid: Gridded


def gridded_mask(job: MaskJob, folder: Path) -> MaskRecord | Refused:
    """A label map on its scan's prepared grid under `folder`, made unless it is there already.

    Args:
        job: which.
        folder: the cohort's.

    Raises:
        MedganError: the voxels cannot be written. (A label map that cannot be used is a `Refused`.)
    """
    try:
        sha256 = content_sha256(job.mask)
        key = _key(job, sha256)
        array, description = folder / VOXELS / f"{key}.npy", folder / VOXELS / f"{key}.json"
        if not (array.is_file() and description.is_file()):
            volume = job.mask.read()
            prepared = _prepared(job, volume)
            write_array(array, prepared)
            about = {"labels": np.unique(prepared).tolist(), "dtype": prepared.dtype.name}
            write_json(description, {**about, "voxels_sha256": voxels_sha256(volume)})
    except (MedganError, OSError) as error:
        return Refused(f"its label map {job.path} cannot be used: {reason_of(error)}")
    content = read_json(description)
    labels, dtype = tuple(content["labels"]), content["dtype"]
    return MaskRecord(job.path, sha256, labels, f"{VOXELS}/{key}.npy", dtype, content["voxels_sha256"])


def label_values(volume: Volume) -> NDArray[np.uint16]:
    """The voxels (X, Y, Z) of a label map.

    Raises:
        MedganError: several channels, or values that are not whole numbers from 0 to 65535.
    """
    if volume.channels != 1:
        raise MedganError(
            f"holds {volume.channels} channels, a label map has one", hint="Save it with a number for each label."
        )
    data = volume.data[0]
    broken = data[(data != np.rint(data)) | (data < 0) | (data > _LARGEST)]
    if broken.size:
        raise MedganError(
            f"{broken.size} of {data.size} voxels are no labels, such as {broken.flat[0]:g}: labels are whole numbers "
            f"from 0 to {_LARGEST}",
            hint="Resample label maps by nearest neighbour, and save probabilities as labels.",
        )
    return data.astype(np.uint16)


def nearest_labels(
    labels: NDArray[np.uint16], affine: Affine, *, onto: Affine, shape: Shape, within: tuple[Affine, Shape]
) -> NDArray[np.uint16]:
    """The label at the centre of each voxel of another grid, wherever that lies in patient space.

    Args:
        labels: (X, Y, Z).
        affine: of the labels, to RAS mm.
        onto: of the wanted grid, to RAS mm.
        shape: of the wanted grid.
        within: affine and shape of the scan: voxels outside its field of view become 0.

    Returns:
        The wanted `shape`. Between two voxels at the same distance the earlier one counts.
    """
    inside = np.ones(shape, bool)
    for place, length in zip(_places(np.linalg.inv(within[0]) @ onto, shape), within[1], strict=True):
        inside &= (place > -0.5) & (place < length - 0.5)
    nearest = [
        np.clip(np.floor(place + 0.5 - _TIE), 0, length - 1).astype(np.intp)
        for place, length in zip(_places(np.linalg.inv(affine) @ onto, shape), labels.shape, strict=True)
    ]
    return np.where(inside, labels[tuple(nearest)], np.uint16(0))


def _prepared(job: MaskJob, volume: Volume) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The label map, read as `volume`, on the prepared grid in as few bytes as its labels take."""
    labels = label_values(volume)
    scan_affine = np.array(job.scan.affine)
    _require_same_place(volume, scan_affine, job.scan.shape)
    found = nearest_labels(
        labels,
        volume.affine,
        onto=np.array(job.grid.affine),
        shape=job.grid.prepared_shape,
        within=(scan_affine, job.scan.shape),
    )
    return found.astype(np.uint8) if found.max() <= np.iinfo(np.uint8).max else found


def _require_same_place(mask: Volume, affine: Affine, shape: Shape) -> None:
    """Refuse a label map whose field of view is not its scan's.

    Raises:
        MedganError: the corners lie apart.
    """
    grids = [(mask.affine, mask.shape), (affine, shape)]
    corners = [geometry.world_corners(*grid) for grid in grids]
    # Array axes may run differently in the two, so each corner is compared with the nearest one.
    apart = float(np.linalg.norm(corners[0][:, None] - corners[1][None], axis=2).min(axis=1).max())
    steps = (*mask.spacing, *geometry.spacing_of(affine))
    if apart <= (_SAME_GRID * min(steps) if sorted(mask.shape) == sorted(shape) else _OTHER_GRID * max(steps)):
        return
    sizes = " against ".join(
        f"{'x'.join(map(str, size))} voxels of {'x'.join(f'{side:.4g}' for side in geometry.spacing_of(place))} mm"
        for place, size in grids
    )
    raise MedganError(
        f"it does not lie where the scan does: their corners are up to {apart:.3g} mm apart (label map against "
        f"scan: {sizes})",
        hint="Check that both are of one visit, and that the program that drew the labels kept the scan's header.",
    )


def _places(index_map: Affine, shape: Shape) -> list[NDArray[np.float64]]:
    """For each axis of another grid, where the voxels of a grid of `shape` lie along it, in its voxels."""
    x, y, z = (np.arange(size, dtype=np.float64) for size in shape)
    return [
        row[0] * x[:, None, None] + row[1] * y[None, :, None] + row[2] * z[None, None, :] + row[3]
        for row in index_map[:3]
    ]


def _key(job: MaskJob, sha256: str) -> str:
    """A name for the prepared array: a hash of all that it depends on."""
    grids = [job.scan.affine, job.scan.shape, job.grid.affine, job.grid.prepared_shape]
    text = json.dumps([_FORMAT, sha256, grids])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
