"""Eight series that DICOM readers get wrong, each with a phantom whose value is known at every point in space.

The value at (x, y, z) mm (RAS+) is `value_at`; a reader is right when each of its voxels holds the value of the place
where its affine says that the voxel is, and the whole scan is there. The curvature makes every displacement change
values, whatever its direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

COLUMNS, ROWS, SLICES = 24, 20, 14
BETWEEN_COLUMNS, BETWEEN_ROWS, BETWEEN_SLICES = 0.9, 1.1, 3.0
TILT_DEGREES = 15.0
INTERCEPT = -1024.0
BACKGROUND = -1024.0

# Stored values are whole numbers; linear interpolation between slices misses the curvature by a little more.
TOLERANCE = 0.51
INTERPOLATED_TOLERANCE = 1.0

# By how much more the last seven slices of the uneven series lie apart, in mm.
_MORE = 0.9

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def value_at(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The phantom's value at points (..., 3) in RAS+ mm; 0 to about 3000 in the field of view."""
    x, y, z = np.moveaxis(points, -1, 0)
    return 1500 + 14 * x - 17 * y + 19 * z + 0.06 * (x * x - y * y) + 0.05 * x * z


def largest_error(voxels: NDArray[Any], affine: NDArray[np.float64], background: float | None = None) -> float:
    """The largest difference between voxels (X, Y, Z) and the phantom where `affine` (RAS+) says that they are.

    Args:
        voxels: shape (X, Y, Z).
        affine: 4x4, voxel index to RAS+ mm.
        background: a value that stands for no measurement; voxels that hold it are passed over.
    """
    index = np.stack(np.meshgrid(*map(np.arange, voxels.shape), indexing="ij"), axis=-1)
    truth = value_at(index @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3])
    error = np.abs(np.asarray(voxels, dtype=np.float64) - truth)
    return float(error[voxels != background].max() if background is not None else error.max())


@dataclass(frozen=True)
class Case:
    """One series.

    Args:
        name: as in the table.
        write: writes the files into an empty folder.
        extent: how far the last slice lies from the first along the normal, in mm.
        relaxation: the option under which medgan reads it, if it refuses it otherwise and such an option exists.
    """

    name: str
    write: Callable[[Path], None]
    extent: float = BETWEEN_SLICES * (SLICES - 1)
    relaxation: str | None = None


@dataclass
class _Slice:
    """Where a slice lies, in LPS mm, and how it is stored."""

    position: NDArray[np.float64]
    number: int
    slope: float = 1.0


def _rotation() -> NDArray[np.float64]:
    """Directions of a row, a column and the normal as columns, LPS: an axial stack turned by 25 and 15 degrees."""
    a, b = np.radians([25.0, 15.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x)


_TURN = _rotation()


def _regular() -> list[_Slice]:
    centre = np.array([COLUMNS * BETWEEN_COLUMNS, ROWS * BETWEEN_ROWS, SLICES * BETWEEN_SLICES]) / 2
    return [_Slice(_TURN @ ([0, 0, BETWEEN_SLICES * k] - centre), k + 1) for k in range(SLICES)]


def _pixels(one: _Slice) -> NDArray[np.uint16]:
    """Stored values, shape (rows, columns)."""
    rows, columns = np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), indexing="ij")
    along = columns[..., None] * BETWEEN_COLUMNS * _TURN[:, 0] + rows[..., None] * BETWEEN_ROWS * _TURN[:, 1]
    value = value_at((one.position + along) * _LPS_TO_RAS)
    return np.rint((value - INTERCEPT) / one.slope).astype(np.uint16)


def _text(values: Any) -> list[str]:
    return [f"{value:.12f}"[:16] for value in values]


def _image(sop_class: str) -> FileDataset:
    """What all objects have."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.StudyDate, dataset.StudyTime = "Phantom", "1", "20200101", "120000"
    dataset.SeriesNumber, dataset.SpecificCharacterSet = 1, "ISO_IR 100"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    return dataset


def _write_slices(slices: list[_Slice], folder: Path) -> None:
    """One file per slice, in the order of a hash, as archives name them."""
    study, series, frame = (generate_uid() for _ in range(3))
    names = np.random.default_rng(7).permutation(len(slices))
    for one, name in zip(slices, names, strict=True):
        dataset = _image(CTImageStorage)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.Modality = "CT"
        dataset.ImageType, dataset.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], one.number
        dataset.PixelSpacing, dataset.SliceThickness = [BETWEEN_ROWS, BETWEEN_COLUMNS], BETWEEN_SLICES
        dataset.ImageOrientationPatient = _text(_TURN[:, :2].T.ravel())
        dataset.ImagePositionPatient = _text(one.position)
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{one.slope:.6g}", INTERCEPT
        dataset.PixelData = _pixels(one).tobytes()
        pydicom.dcmwrite(folder / f"IM{name:04d}.dcm", dataset)


def _interleaved(folder: Path) -> None:
    slices = _regular()
    for number, one in enumerate([*slices[::2], *slices[1::2]], start=1):
        one.number = number
    _write_slices(slices, folder)


def _equal(folder: Path) -> None:
    slices = _regular()
    for one in slices:
        one.number = 1
    _write_slices(slices, folder)


def _missing(folder: Path) -> None:
    slices = _regular()
    del slices[5]
    _write_slices(slices, folder)


def _duplicated(folder: Path) -> None:
    slices = _regular()
    again = slices[5]
    _write_slices([*slices, _Slice(again.position, SLICES + 1)], folder)


def _uneven(folder: Path) -> None:
    slices = _regular()
    for k, one in enumerate(slices[7:], start=1):
        one.position = one.position + _MORE * k * _TURN[:, 2]
    _write_slices(slices, folder)


def _tilted(folder: Path) -> None:
    slices = _regular()
    for k, one in enumerate(slices):
        one.position = one.position + k * BETWEEN_SLICES * np.tan(np.radians(TILT_DEGREES)) * _TURN[:, 1]
    _write_slices(slices, folder)


def _scaled(folder: Path) -> None:
    slices = _regular()
    for k, one in enumerate(slices):
        one.slope = round(1 / (1 + 0.37 * k), 4)
    _write_slices(slices, folder)


def _enhanced(folder: Path) -> None:
    slices = _regular()
    dataset = _image(EnhancedMRImageStorage)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (generate_uid() for _ in "abc")
    dataset.Modality, dataset.ImageType = "MR", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber, dataset.NumberOfFrames = 1, SLICES
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [BETWEEN_ROWS, BETWEEN_COLUMNS]
    shared.PixelMeasuresSequence[0].SliceThickness = BETWEEN_SLICES
    shared.PixelMeasuresSequence[0].SpacingBetweenSlices = BETWEEN_SLICES
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = _text(_TURN[:, :2].T.ravel())
    shared.PixelValueTransformationSequence = [Dataset()]
    transformation = shared.PixelValueTransformationSequence[0]
    transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = 1, INTERCEPT, "US"
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [_frame_groups(one, k) for k, one in enumerate(slices, start=1)]
    dataset.PixelData = b"".join(_pixels(one).tobytes() for one in slices)
    pydicom.dcmwrite(folder / "enhanced.dcm", dataset)


def _frame_groups(one: _Slice, number: int) -> Dataset:
    groups = Dataset()
    groups.FrameContentSequence = [Dataset()]
    groups.FrameContentSequence[0].StackID = "1"
    groups.FrameContentSequence[0].InStackPositionNumber = number
    groups.FrameContentSequence[0].DimensionIndexValues = [1, number]
    groups.PlanePositionSequence = [Dataset()]
    groups.PlanePositionSequence[0].ImagePositionPatient = _text(one.position)
    return groups


CASES = (
    Case("instance numbers interleaved", _interleaved),
    Case("instance numbers all equal", _equal),
    Case("one slice missing", _missing, relaxation="allow_gap"),
    Case("one slice duplicated", _duplicated),
    Case("slice distance changes", _uneven, BETWEEN_SLICES * (SLICES - 1) + 7 * _MORE, "resample_uneven"),
    Case("gantry tilt of 15 degrees", _tilted, relaxation="deshear"),
    Case("rescale slope per slice", _scaled),
    Case("oblique enhanced multi-frame", _enhanced),
)
