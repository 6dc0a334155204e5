"""The strict reader as a `monai.data.ImageReader`, for anyone's MONAI pipeline.

    LoadImage(reader=MedganReader)
    LoadImage(reader=MedganReader, series="1.2.840...")
    LoadImage(reader=MedganReader(index=3))
    LoadImage(reader="medgan.plugins.monai_reader.MedganReader")

and the same with `LoadImaged`. The last form needs no import and therefore suits the configuration files of bundles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from numpy.typing import NDArray

from medgan.errors import MedganError, nearest
from medgan.geometry import world_corners
from medgan.io import read_volume
from medgan.io.dicom.relaxations import Relaxations
from medgan.io.dicom.scan import is_dicom
from medgan.io.nifti import is_nifti_name
from medgan.volume import Volume

# How far apart, in mm, corresponding corners of scans may lie that are stacked as channels.
_SAME_PLACE_MM = 1e-3
_OPTIONS = ["series", "index", "relaxations"]


@dataclass(frozen=True)
class ReadRequest:
    """What `MedganReader.read` hands to `get_data`: files and folders, not read yet."""

    paths: tuple[Path, ...]


class MedganReader(ImageReader):
    """Reads NIfTI files and DICOM folders as `medgan.read_volume` does, and refuses what it refuses.

    `LoadImage` tries its own readers on whatever the reader it was given fails to *read*, and would so turn a refusal
    into the geometry that was refused. This reader therefore reads in `get_data`, where an error ends the pipeline:
    what it is asked for is read right, or not at all.

    Args:
        series: which SeriesInstanceUID of a DICOM folder that holds several.
        index: which volume, from 0, of a file or series that holds several.
        relaxations: by what to depart from strictness: `medgan.io.dicom.relaxations.Relaxations`, or names of its
            options such as ["allow_gap"].
        unknown: MONAI drops options that a reader does not know with no more than a warning; here they are errors.

    Raises:
        MedganError: an option is not known.
    """

    def __init__(
        self,
        *,
        series: str | None = None,
        index: int | None = None,
        relaxations: Relaxations | Iterable[str] | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            name = next(iter(unknown))
            raise MedganError(f"MedganReader has no option '{name}'", hint=nearest(name, _OPTIONS))
        self.series, self.index = series, index
        self.relaxations = _relaxations(relaxations)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether every file is a folder, NIfTI by its name, or DICOM by its content."""
        paths = [Path(name) for name in ensure_tuple(filename)]
        return all(path.is_dir() or is_nifti_name(path) or (path.is_file() and is_dicom(path)) for path in paths)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> ReadRequest:
        """Note what is to be read.

        Args:
            data: a NIfTI file, a DICOM folder, or several that become channels.
            kwargs: none is known.

        Raises:
            MedganError: an option is given.
        """
        if kwargs:
            name = next(iter(kwargs))
            raise MedganError(f"MedganReader.read has no option '{name}'", hint="Give it to MedganReader itself.")
        return ReadRequest(tuple(Path(name) for name in ensure_tuple(data)))

    def get_data(self, img: ReadRequest) -> tuple[NDArray[Any], dict[str, Any]]:
        """Read the voxels and say where they are.

        Returns:
            The voxels, shape (X, Y, Z), or (C, X, Y, Z) if several scans or one with channels are read; and the
            metadata: `affine` and `original_affine` (voxel index to RAS+ mm, float64), `spatial_shape`, `space`
            ("RAS"), `original_channel_dim` (0, or not-a-number without channels), `medgan_history` (a line for each
            thing that was done to the voxels) and the acquisition facts of `Volume.metadata` that are numbers or
            names. Nothing that could identify the patient is among them.

        Raises:
            MedganError: a scan is refused, or scans to be stacked do not lie on one grid.
        """
        volumes = [self._volume(path) for path in img.paths]
        first = volumes[0]
        _require_one_grid(volumes, img.paths)
        # A copy, because a volume cannot be written and PyTorch would share its memory.
        voxels = np.concatenate([volume.data for volume in volumes])
        return (voxels[0] if len(voxels) == 1 else voxels), _metadata(first, channels=len(voxels))

    def _volume(self, path: Path) -> Volume:
        return read_volume(path, series=self.series, index=self.index, relaxations=self.relaxations)


def _relaxations(wanted: Relaxations | Iterable[str] | None) -> Relaxations | None:
    if wanted is None or isinstance(wanted, Relaxations):
        return wanted
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    valid = [one.name for one in fields(Relaxations)]
    for name in names:
        if name not in valid:
            raise MedganError(f"'{name}' is no relaxation", hint=nearest(name, valid))
    return Relaxations(**dict.fromkeys(names, True))


def _require_one_grid(volumes: Sequence[Volume], paths: Sequence[Path]) -> None:
    first = volumes[0]
    corners = world_corners(first.affine, first.shape)
    for volume, path in zip(volumes, paths, strict=True):
        if volume.shape != first.shape:
            raise MedganError(
                f"{volume.shape} voxels cannot be a channel beside the {first.shape} of {paths[0].name}", file=path
            )
        apart = float(np.linalg.norm(world_corners(volume.affine, volume.shape) - corners, axis=1).max())
        if apart > _SAME_PLACE_MM:
            raise MedganError(
                f"lies up to {apart:.3g} mm beside {paths[0].name}, with which it was to share voxels",
                file=path,
                hint="Resample one onto the other first.",
            )


def _metadata(volume: Volume, *, channels: int) -> dict[str, Any]:
    facts = {name: value for name, value in volume.metadata.items() if isinstance(value, int | float | str)}
    return {
        **facts,
        MetaKeys.AFFINE: np.array(volume.affine),
        MetaKeys.ORIGINAL_AFFINE: np.array(volume.affine),
        MetaKeys.SPATIAL_SHAPE: np.array(volume.shape),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if channels == 1 else 0,
        # One text and not a list, because lists of different lengths cannot be collated into a batch.
        "medgan_history": "\n".join(volume.history),
    }
