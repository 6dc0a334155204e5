from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from medgan.errors import MedganError
from medgan.io import read_volume
from medgan.io.dicom.synthetic import PATIENT_ID_PREFIX, SyntheticIdentity, write_synthetic
from medgan.volume import Volume

IDENTITY = SyntheticIdentity("ab" * 32, seed=7, index=3)
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 4, -20], [0, 0, 0, 1]])


def sample() -> Volume:
    values = np.random.default_rng(0).gamma(2, 80, (6, 5, 7)).astype(np.float32)
    return Volume(values, AFFINE, ("synthesised",))


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_a_synthetic_series_comes_back_and_is_valid(
    tmp_path: Path, dicom_errors: Callable[[Path], list[str]], modality: str
) -> None:
    volume = sample()
    paths = write_synthetic(volume, tmp_path / "out", identity=IDENTITY, modality=modality)
    back = read_volume(tmp_path / "out").reoriented(volume.orientation)
    half_step = float(pydicom.dcmread(paths[0]).RescaleSlope) / 2
    np.testing.assert_allclose(back.data, volume.data, atol=half_step * 1.01)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-9)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "out")))
    assert image.GetSpacing() == pytest.approx((3, 3, 4))
    assert dicom_errors(paths[0]) == []


def test_nobody_can_take_it_for_a_patients(tmp_path: Path) -> None:
    image = pydicom.dcmread(write_synthetic(sample(), tmp_path / "out", identity=IDENTITY)[0])
    assert image.SyntheticData == "YES"
    assert image.PatientID.startswith(PATIENT_ID_PREFIX)
    for keyword in ("PatientName", "StudyDescription", "SeriesDescription", "DerivationDescription", "PatientComments"):
        assert "synthetic" in str(image[keyword].value).lower(), keyword
    assert list(image.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert (image.BurnedInAnnotation, image.ContentQualification) == ("NO", "RESEARCH")
    (equipment,) = image.ContributingEquipmentSequence
    purpose = equipment.PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodeMeaning) == ("109100", "Synthesizing Equipment")
    assert "ab" * 32 in equipment.ContributionDescription
    keywords = {element.keyword for element in image.iterall()}
    assert not keywords & {"SourceImageSequence", "ReferencedSOPInstanceUID", "ContentDate", "InstanceCreationDate"}
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        assert not image[keyword].value


def test_each_sample_is_a_patient_of_its_own(tmp_path: Path) -> None:
    variants = [
        IDENTITY,
        dataclasses.replace(IDENTITY, seed=8),
        dataclasses.replace(IDENTITY, index=4),
        dataclasses.replace(IDENTITY, truncation=0.5),
        dataclasses.replace(IDENTITY, model_sha256="cd" * 32),
    ]
    images = [
        pydicom.dcmread(path)
        for number, identity in enumerate(variants)
        for path in write_synthetic(sample(), tmp_path / str(number), identity=identity)
    ]
    for keyword in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({image[keyword].value for image in images}) == len(variants), keyword
    assert len({image.SOPInstanceUID for image in images}) == len(images)
    assert len({image.PatientID for image in images if len(image.PatientID) <= 64}) == len(variants)


def test_a_sample_is_the_same_bytes_whenever_it_is_drawn(tmp_path: Path) -> None:
    one, two = (write_synthetic(sample(), tmp_path / name, identity=IDENTITY) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_other_modalities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MedganError, match="'US'"):
        write_synthetic(sample(), tmp_path / "out", identity=IDENTITY, modality="US")
    assert list(tmp_path.iterdir()) == []
