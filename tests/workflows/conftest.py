"""A patient's DICOM series for workflows that derive others from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


@pytest.fixture
def patient_series(tmp_path: Path) -> Path:
    """The folder `scans/first` with six slices of 5 rows and 6 columns, 2 mm apart; PatientID SECRET-42."""
    folder, uid = tmp_path / "scans" / "first", generate_uid()
    folder.mkdir(parents=True)
    for k in range(6):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        image.PatientID, image.StudyInstanceUID, image.FrameOfReferenceUID = "SECRET-42", "1.2.3", "1.2.4"
        image.SeriesInstanceUID, image.SeriesNumber, image.Modality = uid, 3, "MR"
        image.Rows, image.Columns, image.PixelSpacing = 5, 6, [1, 1]
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2 * k]
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelData = np.random.default_rng(k).integers(0, 900, (5, 6)).astype(np.uint16).tobytes()
        image.save_as(folder / f"{k}", enforce_file_format=True)
    return folder
