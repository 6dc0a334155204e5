"""Removing the face from the stored pixels of DICOM images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from medgan.defacing import Face
from medgan.errors import MedganError
from medgan.geometry import Affine
from medgan.io.dicom.geometry import SlicePlane
from medgan.io.dicom.headers import SliceHeader

_STALE = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
)


def remove_face(dataset: Dataset, frames: Sequence[tuple[SliceHeader, Face]]) -> None:
    """Set the face in an image's pixels to the darkest value of each frame, in place.

    All other stored values stay as they are; compressed pixels are stored uncompressed.

    Args:
        dataset: one grey image with its file meta information.
        frames: the header of the image, or one for each frame of it, with the face of the volume that it belongs to.

    Raises:
        MedganError: the pixels are stored in a way that cannot be changed, or a frame is not placed.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
    planes = {header.frame or 0: (header.plane, face) for header, face in frames if header.plane is not None}
    if set(planes) != set(range(count)):
        raise MedganError("not every image of it says where it lies, so the face cannot be found in all of them")
    if "PixelData" not in dataset or dataset.get("BitsAllocated") not in (8, 16, 32) or dataset.SamplesPerPixel != 1:
        raise MedganError("its pixels are not grey values of 8, 16 or 32 bits")
    pixels = _pixels(dataset, count)
    if len(frames) > count or any(plane.matrix != pixels.shape[1:] for plane, _ in planes.values()):
        raise MedganError("its images are tiles of larger ones, in which medgan does not remove faces")
    for number, (plane, face) in planes.items():
        rows, columns = plane.matrix
        mask = face.mask((columns, rows, 1), plane_affine(plane))[:, :, 0].T
        image = pixels[number]
        image[mask] = image.max() if dataset.PhotometricInterpretation == "MONOCHROME1" else image.min()
    stored = pixels.tobytes()
    dataset.PixelData = stored + b"\0" * (len(stored) % 2)
    dataset.ImageType = ["DERIVED", *list(dataset.get("ImageType") or ["", "PRIMARY"])[1:]]
    for keyword in _STALE:
        dataset.pop(keyword, None)


def plane_affine(plane: SlicePlane) -> Affine:
    """4x4, index (column, row, 0) of one slice to RAS mm."""
    right, down = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = right * plane.pixel_spacing[1], down * plane.pixel_spacing[0]
    affine[:3, 2], affine[:3, 3] = np.cross(right, down), plane.position
    affine[:2] *= -1
    return affine


def _pixels(dataset: Dataset, count: int) -> NDArray[np.integer]:
    """The stored integers (frames, rows, columns), decompressed and writable, bits beyond those in use included."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed and dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.decompress(generate_instance_uid=False)
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    kind = "i" if dataset.PixelRepresentation else "u"
    size = count * int(dataset.Rows) * int(dataset.Columns)
    stored = np.frombuffer(dataset.PixelData, f"{order}{kind}{dataset.BitsAllocated // 8}", count=size)
    return stored.reshape(count, int(dataset.Rows), int(dataset.Columns)).copy()
