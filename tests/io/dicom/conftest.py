"""DICOM series to test with: phantoms of known geometry, and the real ones unzipped."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass
class Phantom:
    """A stack of slices on an oblique grid whose every voxel differs from its neighbours.

    `voxels` has the shape (columns, rows, slices); `lps` takes its index to DICOM's millimetres.
    """

    columns: int = 7
    rows: int = 5
    slices: int = 6
    row_spacing: float = 1.5
    column_spacing: float = 0.8
    slice_spacing: float = 4.2
    rotation: np.ndarray = field(default_factory=lambda: rotation(0.3, -0.2, 0.5))
    origin: tuple[float, float, float] = (-30.25, 12.5, 41.75)

    @property
    def voxels(self) -> np.ndarray:
        i, j, k = np.ogrid[: self.columns, : self.rows, : self.slices]
        return (100 + 3 * i + 31 * j + 307 * k).astype(np.uint16)

    @property
    def lps(self) -> np.ndarray:
        affine = np.eye(4)
        affine[:3, :3] = self.rotation @ np.diag([self.column_spacing, self.row_spacing, self.slice_spacing])
        affine[:3, 3] = self.origin
        return affine

    @property
    def ras(self) -> np.ndarray:
        return LPS_TO_RAS @ self.lps

    def datasets(self) -> list[FileDataset]:
        """One data set per slice, first slice first."""
        series, frame = generate_uid(), generate_uid()
        return [self._dataset(k, series, frame) for k in range(self.slices)]

    def _dataset(self, k: int, series: str, frame: str) -> FileDataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "SECRET-42", "19700101"
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
        dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 3, k + 1
        dataset.SeriesDescription = "t2_tse for Dr Who"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        dataset.Rows, dataset.Columns = self.rows, self.columns
        dataset.PixelSpacing = [self.row_spacing, self.column_spacing]
        dataset.SliceThickness, dataset.EchoTime = 3.5, 90
        dataset.ImageOrientationPatient = [f"{v:.14f}"[:16] for v in self.rotation[:, :2].T.ravel()]
        dataset.ImagePositionPatient = [f"{v:.11f}"[:16] for v in (self.lps @ [0, 0, k, 1])[:3]]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.PixelData = np.ascontiguousarray(self.voxels[:, :, k].T).tobytes()
        return dataset


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation matrix of three angles in radians."""
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


@pytest.fixture
def phantom() -> Phantom:
    return Phantom()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes data sets to a folder, named by `names` or slice_000.dcm and so on."""

    def written(datasets: list[Any], names: list[str] | None = None, folder: str = "series") -> Path:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        for number, dataset in enumerate(datasets):
            pydicom.dcmwrite(place / (names[number] if names else f"slice_{number:03d}.dcm"), dataset)
        return place

    return written


@pytest.fixture(scope="session")
def unzipped(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unzips `dicom/NAME.zip` of the real scans, once."""
    done: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in done:
            done[name] = tmp_path_factory.mktemp("series")
            with zipfile.ZipFile(test_data / "dicom" / f"{name}.zip") as archive:
                archive.extractall(done[name])
        return done[name]

    return folder
