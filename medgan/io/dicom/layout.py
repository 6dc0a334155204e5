"""A volume laid out as the slices of a DICOM image series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.geometry import Affine, spacing_of
from medgan.volume import Volume

# Largest sine of the angle by which two voxel axes may miss the right angle: that of 0.1 degrees, as for reading.
SHEAR_TOLERANCE = 1.75e-3

# Digits behind the point, in mm: far finer than any scanner, and coarser than what turning axes rounds.
_LENGTH_DIGITS = 10
_COSINE_DIGITS = 12
_LARGEST_MATRIX = 65_535
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class SliceStack:
    """Slices in the order of their positions along the normal, row direction times column direction.

    Args:
        voxels: shape (slices, rows, columns).
        lps: 4x4, (column index, row index, slice index) to DICOM's millimetres (Left, Posterior, Superior).
    """

    voxels: NDArray[Any]
    lps: Affine

    @property
    def orientation(self) -> list[float]:
        """ImageOrientationPatient: directions along a row and along a column, six cosines."""
        directions = self.lps[:3, :2] / np.linalg.norm(self.lps[:3, :2], axis=0)
        return [round(float(cosine), _COSINE_DIGITS) for cosine in directions.T.ravel()]

    @property
    def pixel_spacing(self) -> list[float]:
        """PixelSpacing: mm between rows, and between columns."""
        between_columns, between_rows, _ = spacing_of(self.lps)
        return [round(between_rows, _LENGTH_DIGITS), round(between_columns, _LENGTH_DIGITS)]

    @property
    def slice_spacing(self) -> float:
        """Mm between the centres of neighbouring slices."""
        return round(spacing_of(self.lps)[2], _LENGTH_DIGITS)

    def position(self, index: int) -> list[float]:
        """ImagePositionPatient of a slice: the centre of its first pixel, in mm."""
        return [round(float(number), _LENGTH_DIGITS) for number in self.lps[:3, 3] + index * self.lps[:3, 2]]

    def location(self, index: int) -> float:
        """SliceLocation: how far along the normal a slice lies, in mm."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return round(float(np.dot(normal / np.linalg.norm(normal), self.position(index))), _LENGTH_DIGITS)


def slice_stack(volume: Volume, orientation: str) -> SliceStack:
    """The slices of a volume whose array axes are turned as closely as flips allow to `orientation`.

    Args:
        volume: one channel; oblique is welcome.
        orientation: where columns, rows and slices shall run, as three letters such as "LPS" for transverse slices.

    Raises:
        MedganError: the volume has several channels, voxel axes that are not perpendicular, or more rows or columns
            than an image can have.
    """
    if volume.channels != 1:
        raise MedganError(
            f"a DICOM image series holds one channel, this volume has {volume.channels}", hint="Write one at a time."
        )
    _require_right_angles(volume)
    turned = volume.reoriented(orientation)
    data, lps = turned.data[0], _LPS_TO_RAS @ turned.affine
    if np.linalg.det(lps[:3, :3]) < 0:
        # Slices are counted along the normal, which rows and columns define.
        last = np.eye(4)
        last[2, 2], last[2, 3] = -1, data.shape[2] - 1
        data, lps = data[:, :, ::-1], lps @ last
    if max(data.shape[:2]) > _LARGEST_MATRIX:
        raise MedganError(f"slices of {data.shape[1]} x {data.shape[0]} pixels are more than a DICOM image can hold")
    return SliceStack(np.ascontiguousarray(data.transpose(2, 1, 0)), lps)


def orientation_letters(row: NDArray[np.float64], column: NDArray[np.float64]) -> str:
    """The orientation, such as "LPS", of an image whose rows and columns run along these directions (LPS)."""
    from medgan.geometry import orientation_of

    lps = np.eye(4)
    lps[:3, :3] = np.column_stack([row, column, np.cross(row, column)])
    return orientation_of(_LPS_TO_RAS @ lps)


def _require_right_angles(volume: Volume) -> None:
    directions = volume.affine[:3, :3] / np.asarray(volume.spacing)
    sines = np.abs(directions.T @ directions - np.eye(3))
    if sines.max() > SHEAR_TOLERANCE:
        degrees = float(np.degrees(np.arcsin(min(1.0, sines.max()))))
        raise MedganError(
            f"the voxel axes miss the right angle by {degrees:.2f} degrees, and DICOM slices cannot be sheared",
            hint="Resample the scan onto a grid with perpendicular axes first.",
        )
