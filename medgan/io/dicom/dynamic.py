"""All volumes of one series as the channels of one `Volume`: echoes, time points, diffusion weightings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.errors import MedganError
from medgan.files import require_existing
from medgan.geometry import world_corners
from medgan.io.dicom.choose import chosen_volumes, labels, require_found
from medgan.io.dicom.files import visible_files
from medgan.io.dicom.geometry import POSITION_TOLERANCE_MM
from medgan.io.dicom.read import read_series, volume_of
from medgan.io.dicom.relaxations import Relaxations
from medgan.io.dicom.scan import DicomSeries, find_series
from medgan.volume import Volume

_ONE_BY_ONE = "Convert them one by one, each by its index (--index)."


def read_volumes(path: str | Path, series: str | None = None, relaxations: Relaxations | None = None) -> Volume:
    """Read every volume of a series.

    Args:
        path: a folder, searched with its subfolders, or an enhanced multi-frame file.
        series: which SeriesInstanceUID, if there are several.
        relaxations: see `medgan.io.dicom.read.read_series`.

    Returns:
        One channel per volume (C, columns, rows, slices), in the order of echo, b-value or time; `history` says what
        each channel is. `metadata["dicom"]["files"]` holds the sources of all volumes, one volume after the other.

    Raises:
        MedganError: as `read_series`, for any of the volumes; or they are of different kinds (such as magnitude and
            phase) or do not share one grid.
    """
    path = require_existing(path)
    relaxations = relaxations or Relaxations()
    found, damaged = find_series(visible_files(path))
    require_found(found, damaged, path)
    volumes = chosen_volumes(found, path, series)
    if len(volumes) < 2:
        return read_series(path, series, relaxations=relaxations)
    _require_one_kind(volumes, path)
    return _joined(volumes, [volume_of(one, relaxations) for one in volumes], path)


def _require_one_kind(volumes: Sequence[DicomSeries], path: Path) -> None:
    kinds = dict.fromkeys(one.kind for one in volumes)
    if len(kinds) > 1:
        raise MedganError(
            f"this series holds {len(kinds)} kinds of image, which are no one 4D image: {labels(volumes)}",
            file=path,
            hint=_ONE_BY_ONE,
        )


def _joined(series: Sequence[DicomSeries], volumes: Sequence[Volume], path: Path) -> Volume:
    first = volumes[0]
    for one, volume in zip(series, volumes, strict=True):
        if volume.shape != first.shape or _apart(volume, first) > POSITION_TOLERANCE_MM:
            raise MedganError(
                f"the volumes of this series do not share one grid: '{series[0].label}' and '{one.label}' differ",
                file=path,
                hint=_ONE_BY_ONE,
            )
    meaning = f"{len(volumes)} volumes of one series along the fourth dimension: {', '.join(o.label for o in series)}"
    steps = dict.fromkeys(step for volume in volumes for step in volume.history)
    return Volume(
        np.concatenate([volume.data for volume in volumes]),
        first.affine,
        (*steps, meaning),
        _shared_metadata(volumes),
    )


def _apart(one: Volume, other: Volume) -> float:
    """How far the corners of two volumes of the same shape lie apart, in mm."""
    corners = (world_corners(volume.affine, volume.shape) for volume in (one, other))
    return float(np.abs(np.subtract(*corners)).max())


def _shared_metadata(volumes: Sequence[Volume]) -> dict[str, Any]:
    """What all volumes say alike, and the files of all of them."""
    first, *others = [volume.metadata for volume in volumes]
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    files = tuple(file for volume in volumes for file in volume.metadata["dicom"]["files"])
    return shared | {"dicom": {"series": first["dicom"]["series"], "files": files}}
