"""A small DICOM series for tests that only need one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


@pytest.fixture
def phantom_series() -> Callable[..., str]:
    """Writes `count` slices of 5 rows and 6 columns without suffix to a folder; gives the SeriesInstanceUID."""

    def written(folder: Path, count: int, number: int = 1) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        uid = generate_uid()
        for k in range(count):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.Modality = uid, number, "MR"
            dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
            dataset.Rows, dataset.Columns, dataset.PixelSpacing = 5, 6, [1, 1]
            dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2 * k]
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
            dataset.PixelRepresentation, dataset.PixelData = 0, np.full((5, 6), k, np.uint16).tobytes()
            dataset.save_as(folder / f"{number}-{k}", enforce_file_format=True)
        return uid

    return written
