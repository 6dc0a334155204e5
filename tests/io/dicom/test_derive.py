from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr._concepts_dict import concepts
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGBaseline8Bit, MRImageStorage, generate_uid

from medgan.errors import MedganError
from medgan.geometry import resampled_affine
from medgan.io import read_volume
from medgan.io.dicom import derive, image_series
from medgan.io.dicom.derive import Derivation, write_derived
from medgan.io.scans import survey
from medgan.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UPSCALED = Derivation(
    label="upscaled",
    description="upscaled to 1 mm by physics inverse",
    codes=(derive.SPATIAL_RESAMPLING,),
    parameters={"factor": [1, 1, 2]},
)
SHAPE = (6, 5, 4)
TURNS = {
    "axial": np.eye(3),
    "sagittal": np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}


def oblique() -> np.ndarray:
    """Turned by 20, -15 and 30 degrees about the three axes."""
    turn = np.eye(3)
    for (a, b), degrees in (((1, 2), 20), ((0, 2), -15), ((0, 1), 30)):
        one, angle = np.eye(3), np.radians(degrees)
        one[[a, b], [a, b]], one[a, b], one[b, a] = np.cos(angle), -np.sin(angle), np.sin(angle)
        turn = turn @ one
    return turn


TURNS["oblique"] = oblique()


def lps_affine(turn: str = "oblique", steps: tuple[float, float, float] = (0.8, 1.5, 4.2)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = TURNS[turn] @ np.diag(steps)
    affine[:3, 3] = (-30.25, 12.5, 41.75)
    return affine


@pytest.fixture
def sources(tmp_path: Path) -> Callable[..., list[Path]]:
    """Writes a source series of four slices; `change(dataset, k)` may alter each."""

    def written(
        modality: str = "MR", turn: str = "oblique", change: Callable[[Any, int], None] | None = None
    ) -> list[Path]:
        affine, series, folder = lps_affine(turn), generate_uid(), tmp_path / "source series"
        folder.mkdir()
        study, frame = generate_uid(), generate_uid()
        for k in range(SHAPE[2]):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
            meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = generate_uid(), ExplicitVRLittleEndian
            one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
            one.SpecificCharacterSet = "ISO_IR 100"
            one.PatientName, one.PatientID, one.PatientSex = "Müller^Jörg", "H-42", "M"
            one.PatientBirthDate, one.StudyDate, one.StudyTime = "19700101", "20240102", "101112"
            one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
            one.AccessionNumber, one.StudyID, one.StudyDescription = "A1", "7", "Kopf"
            one.ReferringPhysicianName, one.PatientPosition, one.BodyPartExamined = "Ärztin^Eva", "HFS", "BRAIN"
            one.Modality, one.SeriesNumber, one.InstanceNumber = modality, 3, k + 1
            one.SeriesDescription, one.ImageType = (
                "t2_tse",
                ["ORIGINAL", "PRIMARY", "M" if modality == "MR" else "AXIAL"],
            )
            one.Manufacturer, one.ManufacturerModelName, one.DeviceSerialNumber = "ACME", "Scan-O-Mat", "4711"
            one.Rows, one.Columns, one.PixelSpacing = SHAPE[1], SHAPE[0], [1.5, 0.8]
            one.SliceThickness, one.SpacingBetweenSlices = 3.5, 4.2
            one.ImageOrientationPatient = [f"{cosine:.14f}"[:16] for cosine in TURNS[turn][:, :2].T.ravel()]
            one.ImagePositionPatient = [f"{number:.11f}"[:16] for number in (affine @ [0, 0, k, 1])[:3]]
            one.SliceLocation = k
            if modality == "MR":
                one.ScanningSequence, one.SequenceVariant, one.EchoTime, one.RepetitionTime = "SE", "SK", 90, 4000
                one.MRAcquisitionType, one.ScanOptions, one.EchoTrainLength, one.InversionTime = "2D", "", 9, 100
            else:
                one.KVP, one.AcquisitionNumber, one.RescaleSlope, one.RescaleIntercept = 120, 1, 1, -1024
                one.WindowCenter, one.WindowWidth = 40, 80
            one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
            one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
            one.PixelData = np.full((SHAPE[1], SHAPE[0]), 100 + k, np.uint16).tobytes()
            one.add_new((0x0019, 0x0010), "LO", "ACME PRIVATE")
            one.add_new((0x0019, 0x1001), "LO", "secret of the maker")
            if change is not None:
                change(one, k)
            one.save_as(folder / f"{k}.dcm", enforce_file_format=True)
        return sorted(folder.iterdir())

    return written


def phantom(kind: str, turn: str = "oblique") -> Volume:
    """On a grid of half the slice distance over the sources' field of view."""
    shape = (SHAPE[0], SHAPE[1], 2 * SHAPE[2])
    affine = resampled_affine(LPS_TO_RAS @ lps_affine(turn), SHAPE, shape)
    i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
    smooth = np.sin(i / 2) + 0.3 * j + np.cos(k) * 1.7
    values = {
        "smooth": smooth * 211.3,
        "hounsfield": np.where(smooth < 0, -1024, smooth * 400 - 900.4),
        "whole": np.rint(smooth * 100 + 500),
        "negative whole": np.rint(smooth * 300) - 1024,
        "constant": np.full(shape, 37.5),
        "huge": smooth * 1e30,
        "tiny": smooth * 1e-6,
    }[kind]
    return Volume(values.astype(np.float32), affine, ("made",))


def half_step(paths: list[Path]) -> float:
    """Half a quantisation step, plus what float32 rounds."""
    first = pydicom.dcmread(paths[0])
    if "SharedFunctionalGroupsSequence" in first:
        first = first.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    slope = float(first.get("RescaleSlope", 1))
    return slope / 2 + 6e-8 * 65535 * slope


def same(volume: Volume, values: np.ndarray, ras: np.ndarray, paths: list[Path], tolerance: float = 1e-9) -> None:
    """Equal within half a quantisation step, and in mm; a reader may count slices from either end."""
    if np.dot(ras[:3, 2], volume.affine[:3, 2]) < 0:
        ras = ras @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, values.shape[2] - 1], [0, 0, 0, 1]])
        values = values[:, :, ::-1]
    np.testing.assert_allclose(ras, volume.affine, atol=tolerance)
    np.testing.assert_allclose(values, volume.data[0], atol=half_step(paths), rtol=1e-7)


def by_medgan(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    volume = read_volume(paths[0].parent)
    return volume.as_float()[0], volume.affine


def by_highdicom(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    if len(paths) == 1:
        volume = highdicom.imread(paths[0]).get_volume(apply_real_world_transform=False, apply_modality_transform=True)
    else:
        volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in paths], dtype=np.float64)
    # Its array axes are slices, rows, columns.
    order = np.eye(4)[:, [2, 1, 0, 3]]
    return np.asarray(volume.array).transpose(2, 1, 0), LPS_TO_RAS @ volume.affine @ order


def by_simpleitk(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    if len(paths) == 1:
        image = sitk.ReadImage(str(paths[0]), sitk.sitkFloat64)
    else:
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(paths[0].parent))
        image = sitk.ReadImage(names, sitk.sitkFloat64)
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), LPS_TO_RAS @ lps


READERS = {"medgan": by_medgan, "highdicom": by_highdicom, "simpleitk": by_simpleitk}
CASES = [
    ("MR", "smooth", "oblique"),
    ("MR", "smooth", "sagittal"),
    ("MR", "whole", "coronal"),
    ("MR", "constant", "axial"),
    ("MR", "huge", "oblique"),
    ("MR", "tiny", "axial"),
    ("MR", "negative whole", "sagittal"),
    ("CT", "hounsfield", "axial"),
    ("CT", "negative whole", "oblique"),
]


@pytest.mark.parametrize("enhanced", [False, True], ids=["single-frame", "multi-frame"])
@pytest.mark.parametrize(("modality", "kind", "turn"), CASES)
def test_voxels_and_places_come_back_in_every_reader(
    sources: Callable[..., list[Path]], tmp_path: Path, modality: str, kind: str, turn: str, enhanced: bool
) -> None:
    volume = phantom(kind, turn)
    paths = write_derived(volume, sources(modality, turn), tmp_path / "out", derivation=UPSCALED, enhanced=enhanced)
    assert len(paths) == (1 if enhanced else volume.shape[2])
    for reader in READERS.values():
        same(volume, *reader(paths), paths)


@pytest.mark.parametrize("enhanced", [False, True], ids=["single-frame", "multi-frame"])
# Not "huge": the tool takes a window of 5e30 for a negative number.
@pytest.mark.parametrize(("modality", "kind", "turn"), [case for case in CASES if case[1] != "huge"])
@pytest.mark.parametrize("part", ["BRAIN", "KNEE", None])
def test_the_standards_validator_finds_no_error(
    sources: Callable[..., list[Path]],
    dicom_errors: Callable[[Path], list[str]],
    tmp_path: Path,
    modality: str,
    kind: str,
    turn: str,
    enhanced: bool,
    part: str | None,
) -> None:
    def change(one: Any, k: int) -> None:
        one.BodyPartExamined = part

    codes = (derive.SPATIAL_RESAMPLING, derive.ARTIFICIAL_INTELLIGENCE, derive.FORMAT_CONVERSION)
    derivation = dataclasses.replace(UPSCALED, codes=codes, model_sha256="c0ffee" * 10)
    files = sources(modality, turn, change)
    paths = write_derived(phantom(kind, turn), files, tmp_path / "out", derivation=derivation, enhanced=enhanced)
    assert [error for path in (paths[0], paths[-1]) for error in dicom_errors(path)] == []


def test_whatever_its_array_axes_a_volume_is_written_as_its_sources_lie(
    sources: Callable[..., list[Path]], tmp_path: Path
) -> None:
    volume = phantom("smooth")
    files = sources()
    first = write_derived(volume, files, tmp_path / "one", derivation=UPSCALED)
    for number, orientation in enumerate(("RAS", "SPL", "ASR")):
        turned = volume.reoriented(orientation)
        paths = write_derived(turned, files, tmp_path / str(number), derivation=UPSCALED)
        assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in first]


def test_a_derived_image_says_what_it_is(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    files = sources()
    derivation = dataclasses.replace(
        UPSCALED, codes=(derive.SPATIAL_RESAMPLING, derive.ARTIFICIAL_INTELLIGENCE), model_sha256="ab" * 32
    )
    paths = write_derived(phantom("smooth"), files, tmp_path / "out", derivation=derivation)
    source, image = pydicom.dcmread(files[0]), pydicom.dcmread(paths[2])
    assert list(image.ImageType) == ["DERIVED", "SECONDARY", "M"]
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID", "EchoTime", "StudyDate"):
        assert image[keyword] == source[keyword]
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber", "SeriesDescription"):
        assert image[keyword] != source[keyword]
    assert image.SeriesDescription == "UPSCALED by medgan t2_tse"
    assert [str(item.ReferencedSOPInstanceUID) for item in image.SourceImageSequence] == sorted(
        str(pydicom.dcmread(file).SOPInstanceUID) for file in files
    )
    assert image.ContentQualification == "RESEARCH"
    assert "not for diagnosis" in image.DerivationDescription
    scanner, medgan = image.ContributingEquipmentSequence
    assert (scanner.Manufacturer, scanner.DeviceSerialNumber) == ("ACME", "4711")
    assert (image.Manufacturer, medgan.Manufacturer, medgan.DeviceSerialNumber) == ("medgan", "medgan", "ab" * 32)
    assert "ab" * 32 in medgan.ContributionDescription
    assert (float(image.SpacingBetweenSlices), float(image.SliceThickness)) == pytest.approx((2.1, 2.1))
    assert image.InstanceNumber == 3
    stored = np.frombuffer(image.PixelData, np.uint16)
    assert (image.SmallestImagePixelValue, image.LargestImagePixelValue) == (stored.min(), stored.max())
    assert float(image.WindowWidth) > 0
    assert not [element for element in image.iterall() if element.tag.is_private]


def test_codes_mean_in_the_dictionary_what_they_say(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    """Code, meaning and the context group (PS3.16) that each must come from, by pydicom's own tables."""
    codes = (derive.SPATIAL_RESAMPLING, derive.ARTIFICIAL_INTELLIGENCE)
    derivation = dataclasses.replace(UPSCALED, codes=codes)
    (path,) = write_derived(phantom("smooth"), sources(), tmp_path / "o", derivation=derivation, enhanced=True)
    image = pydicom.dcmread(path)
    groups = image.SharedFunctionalGroupsSequence[0]
    step = groups.DerivationImageSequence[0]
    known = {code: (meaning, cids) for entry in concepts["DCM"].values() for code, (meaning, cids) in entry.items()}
    wanted = [
        (step.DerivationCodeSequence[0], 7203),
        (step.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0], 7202),
        *((item.PurposeOfReferenceCodeSequence[0], 7005) for item in image.ContributingEquipmentSequence),
    ]
    for code, cid in wanted:
        meaning, cids = known[code.CodeValue]
        assert code.CodeMeaning == meaning
        assert cid in cids
    second = step.DerivationCodeSequence[1]
    assert known[second.CodeValue][0] == second.CodeMeaning == "Artificial Intelligence"
    region = groups.FrameAnatomySequence[0].AnatomicRegionSequence[0]
    assert (region.CodingSchemeDesignator, region.CodeValue, region.CodeMeaning) == ("SCT", "12738006", "Brain")


def test_a_multi_frame_image_says_it_too(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    files = sources()
    (path,) = write_derived(phantom("smooth"), files, tmp_path / "out", derivation=UPSCALED, enhanced=True)
    image = pydicom.dcmread(path)
    # The second value is PRIMARY in every enhanced image (PS3.3 C.8.16.1.2).
    assert list(image.ImageType) == ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    groups = image.SharedFunctionalGroupsSequence[0]
    assert groups.MRImageFrameTypeSequence[0].FrameType == image.ImageType
    assert groups.MREchoSequence[0].EffectiveEchoTime == 90
    assert (image.ContentQualification, image.NumberOfFrames) == ("RESEARCH", 8)
    evidence = image.SourceImageEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    referred = groups.DerivationImageSequence[0].SourceImageSequence
    assert {item.ReferencedSOPInstanceUID for item in evidence} == {item.ReferencedSOPInstanceUID for item in referred}
    assert len(evidence) == len(files)


def test_running_again_gives_the_same_bytes(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    files, volume = sources(), phantom("smooth")
    one = write_derived(volume, files, tmp_path / "one", derivation=UPSCALED)
    two = write_derived(volume, reversed(files), tmp_path / "two", derivation=UPSCALED)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_whatever_decides_the_voxels_decides_the_uids(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    files, volume = sources(), phantom("smooth")
    small = Volume(volume.data[:, :, :, :-1], volume.affine)
    variants = [
        (volume, files, UPSCALED, False),
        (volume, files, UPSCALED, True),
        (volume, files[:-1], UPSCALED, False),
        (small, files, UPSCALED, False),
        (volume, files, dataclasses.replace(UPSCALED, model_sha256="ab" * 32), False),
        (volume, files, dataclasses.replace(UPSCALED, parameters={"factor": [1, 1, 3]}), False),
        (volume, files, dataclasses.replace(UPSCALED, label="translated"), False),
    ]
    series, instances = set(), []
    for number, (scan, chosen, derivation, enhanced) in enumerate(variants):
        for path in write_derived(scan, chosen, tmp_path / str(number), derivation=derivation, enhanced=enhanced):
            image = pydicom.dcmread(path)
            series.add(image.SeriesInstanceUID)
            instances.append(image.SOPInstanceUID)
            assert len(image.SOPInstanceUID) <= 64
    assert len(series) == len(variants)
    assert len(set(instances)) == len(instances)


def test_only_what_all_sources_share_is_copied(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    def change(one: Any, k: int) -> None:
        one.EchoTime = 90 + k
        one.FlipAngle = 15
        one.AcquisitionTime = f"10{k:02d}00"
        one.TriggerTime = 12
        if k:
            one.MagneticFieldStrength = 3
        one.ReferencedImageSequence = []

    paths = write_derived(phantom("smooth"), sources(change=change), tmp_path / "out", derivation=UPSCALED)
    image = pydicom.dcmread(paths[0])
    assert image.EchoTime is None
    assert image.FlipAngle == 15
    absent = ("AcquisitionTime", "MagneticFieldStrength", "TriggerTime", "ReferencedImageSequence", "InversionTime")
    assert [keyword for keyword in absent if keyword in image] == []


def test_facts_of_an_acquisition_do_not_describe_a_translated_image(
    sources: Callable[..., list[Path]], tmp_path: Path
) -> None:
    derivation = dataclasses.replace(UPSCALED, label="translated", keeps_contrast=False)
    image = pydicom.dcmread(write_derived(phantom("smooth"), sources(), tmp_path / "o", derivation=derivation)[0])
    assert (image.EchoTime, image.RepetitionTime) == (None, None)
    assert (image.ScanningSequence, image.SequenceVariant, image.ImageType[2]) == ("RM", "NONE", "OTHER")
    assert image.PatientID == "H-42"


def test_what_holds_for_one_source_taints_the_derived(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    def change(one: Any, k: int) -> None:
        one.BurnedInAnnotation = "YES" if k == 2 else "NO"
        one.LossyImageCompression = "01" if k == 1 else "00"
        one.SyntheticData = "YES" if k == 3 else "NO"

    files = sources(change=change)
    image = pydicom.dcmread(write_derived(phantom("smooth"), files, tmp_path / "out", derivation=UPSCALED)[0])
    assert (image.BurnedInAnnotation, image.LossyImageCompression, image.SyntheticData) == ("YES", "01", "YES")
    with pytest.raises(MedganError, match="burned-in annotation"):
        write_derived(phantom("smooth"), files, tmp_path / "multi", derivation=UPSCALED, enhanced=True)


def test_a_lossy_coding_counts_though_the_header_is_silent(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    def change(one: Any, k: int) -> None:
        if k == 1:
            one.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
            one.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])

    paths = write_derived(phantom("smooth"), sources(change=change), tmp_path / "out", derivation=UPSCALED)
    assert pydicom.dcmread(paths[0]).LossyImageCompression == "01"


def test_names_keep_their_letters(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    def change(one: Any, k: int) -> None:
        one.SpecificCharacterSet = "ISO_IR 192" if k < 3 else ["", "ISO 2022 IR 87"]
        one.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
        one.SeriesDescription = "T2 山\\2"

    paths = write_derived(phantom("smooth"), sources(change=change), tmp_path / "out", derivation=UPSCALED)
    image = pydicom.dcmread(paths[0])
    assert image.PatientName.ideographic == "山田^太郎"
    assert image.SeriesDescription == "UPSCALED by medgan T2 山 2"
    latin = pydicom.dcmread(write_derived(phantom("smooth"), paths, tmp_path / "twice", derivation=UPSCALED)[0])
    assert latin.PatientName == image.PatientName


def test_what_is_derived_from_the_derived_names_every_equipment_once(
    sources: Callable[..., list[Path]], tmp_path: Path
) -> None:
    once = write_derived(phantom("smooth"), sources(), tmp_path / "once", derivation=UPSCALED)
    twice = write_derived(phantom("smooth"), once, tmp_path / "twice", derivation=UPSCALED)
    items = pydicom.dcmread(twice[0]).ContributingEquipmentSequence
    purposes = [item.PurposeOfReferenceCodeSequence[0].CodeMeaning for item in items]
    assert purposes == ["Acquisition Equipment", "Processing Equipment", "Processing Equipment"]
    assert [item.Manufacturer for item in items] == ["ACME", "medgan", "medgan"]


@pytest.mark.filterwarnings("ignore:The value length")
def test_values_that_break_the_standard_are_not_passed_on(
    sources: Callable[..., list[Path]], dicom_errors: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    def change(one: Any, k: int) -> None:
        one.PatientIdentityRemoved = "YES"
        for keyword, value in (("PatientAge", "0Y"), ("EchoTime", "about 90"), ("StudyID", "longer than sixteen")):
            one[keyword] = pydicom.DataElement(keyword, "SH", value)
            one[keyword].VR = {"PatientAge": "AS", "EchoTime": "DS", "StudyID": "SH"}[keyword]

    with pydicom.config.disable_value_validation():
        files = sources(change=change)
    image = pydicom.dcmread(write_derived(phantom("smooth"), files, tmp_path / "out", derivation=UPSCALED)[0])
    assert "PatientAge" not in image
    assert image.EchoTime is None
    # An identifier is what it is, whatever its form.
    assert image.StudyID == "longer than sixteen"
    assert image.DeidentificationMethod == "not stated in the source images"


@pytest.mark.data
def test_only_the_frames_that_were_read_count(test_data: Path, tmp_path: Path) -> None:
    """One file holds magnitudes and a field map in Hz; each derived series is about its own 32 frames."""
    folder = test_data / "dicom" / "enhanced_philips_fieldmap"
    components, referred = [], []
    for scan in survey(folder).scans:
        if scan.slices is None:
            continue
        volume = scan.read()
        place = tmp_path / scan.name
        (path,) = write_derived(volume, volume.metadata["dicom"]["files"], place, derivation=UPSCALED, enhanced=True)
        image = pydicom.dcmread(path)
        components.append(image.ComplexImageComponent)
        groups = image.SharedFunctionalGroupsSequence[0]
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        referred.append(set(map(int, source.ReferencedFrameNumber)))
    assert components == ["MAGNITUDE", "REAL"]
    assert [len(numbers) for numbers in referred] == [32, 32]
    assert referred[0] | referred[1] == set(range(1, 65))


def test_the_window_of_absolute_units_is_kept(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    paths = write_derived(phantom("hounsfield"), sources("CT"), tmp_path / "out", derivation=UPSCALED)
    image = pydicom.dcmread(paths[0])
    assert (image.WindowCenter, image.WindowWidth, image.RescaleType) == (40, 80, "HU")
    assert "SequenceName" not in image


def test_slices_that_stay_as_far_apart_stay_as_thick(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    volume = phantom("smooth")
    shape = (12, 10, 4)
    affine = resampled_affine(LPS_TO_RAS @ lps_affine(), SHAPE, shape)
    flat = Volume(np.zeros(shape, np.float32), affine)
    paths = write_derived(flat, sources(), tmp_path / "out", derivation=UPSCALED)
    assert pydicom.dcmread(paths[0]).SliceThickness == 3.5
    assert volume.shape[2] == 8


def refused(volume: Volume, files: list[Path], place: Path, *words: str) -> None:
    for enhanced in (False, True):
        with pytest.raises(MedganError) as caught:
            write_derived(volume, files, place / "out", derivation=UPSCALED, enhanced=enhanced)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert not (place / "out").exists()
        assert not list(place.glob(".tmp-*"))


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("PatientID", "different patients"),
        ("StudyInstanceUID", "different studies"),
        ("FrameOfReferenceUID", "different frames of reference"),
    ],
)
def test_sources_that_do_not_belong_together_are_refused(
    sources: Callable[..., list[Path]], tmp_path: Path, keyword: str, words: str
) -> None:
    def change(one: Any, k: int) -> None:
        if k == 2:
            setattr(one, keyword, "1.2.3")

    refused(phantom("smooth"), sources(change=change), tmp_path, words)


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("StudyInstanceUID", "no StudyInstanceUID"),
        ("SOPInstanceUID", "no SOPInstanceUID"),
        ("ImagePositionPatient", "where its pixels lie"),
    ],
)
def test_sources_that_cannot_be_referred_to_are_refused(
    sources: Callable[..., list[Path]], tmp_path: Path, keyword: str, words: str
) -> None:
    files = sources()
    for file in files:
        image = pydicom.dcmread(file)
        del image[keyword]
        image.save_as(file)
    refused(phantom("smooth"), files, tmp_path, words)


def test_volumes_that_no_series_can_hold_are_refused(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    files, volume = sources(), phantom("smooth")
    sheared = volume.affine.copy()
    sheared[:3, 2] += 0.2 * sheared[:3, 0]
    refused(Volume(volume.data, sheared), files, tmp_path, "right angle", "Resample")
    refused(Volume(np.concatenate([volume.data] * 2), volume.affine), files, tmp_path, "one channel", "2")
    refused(volume.with_data(np.where(volume.data > 0, volume.data, np.nan)), files, tmp_path, "not finite")
    elsewhere = volume.affine.copy()
    elsewhere[0, 3] += 200
    refused(Volume(volume.data, elsewhere), files, tmp_path, "outside the source images")
    refused(volume, [], tmp_path, "needs the images")


def test_a_synthetic_volume_is_filed_with_no_real_patient(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    synthetic = dataclasses.replace(phantom("smooth"), metadata={"synthetic": True})
    refused(synthetic, sources(), tmp_path, "shows nobody", "generate --format dicom")


def test_other_modalities_are_refused(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    def change(one: Any, k: int) -> None:
        one.Modality = "PT"

    refused(phantom("smooth"), sources(change=change), tmp_path, "'PT'", "MR and CT")


def test_nothing_that_stands_there_is_replaced(sources: Callable[..., list[Path]], tmp_path: Path) -> None:
    files = sources()
    before = [file.read_bytes() for file in files]
    with pytest.raises(MedganError, match="stands here already"):
        write_derived(phantom("smooth"), files, files[0].parent, derivation=UPSCALED)
    assert [file.read_bytes() for file in files] == before


def test_a_series_appears_whole_or_not_at_all(
    sources: Callable[..., list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, written = sources(), []

    def failing(path: Path, *args: Any, **options: Any) -> None:
        written.append(path)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        path.write_bytes(b"")

    monkeypatch.setattr(image_series, "dcmwrite", failing)
    with pytest.raises(MedganError, match="the disk is full"):
        write_derived(phantom("smooth"), files, tmp_path / "out", derivation=UPSCALED)
    assert [entry.name for entry in tmp_path.iterdir()] == ["source series"]


@pytest.mark.data
@pytest.mark.parametrize("enhanced", [False, True], ids=["single-frame", "multi-frame"])
@pytest.mark.parametrize("name", ["thick2d_t1_sag_HFDL/dicom", "fixtures_dicom2nifti/philips_enhanced_anatomical_001"])
def test_real_series(
    unzipped: Callable[[str], Path],
    dicom_errors: Callable[[Path], list[str]],
    tmp_path: Path,
    name: str,
    enhanced: bool,
) -> None:
    source = read_volume(unzipped(name))
    volume = source.with_data(source.as_float() * np.float32(1.037) - np.float32(2.5))
    files = [Path(file) for file in source.metadata["dicom"]["files"]]
    paths = write_derived(volume, files, tmp_path / "out", derivation=UPSCALED, enhanced=enhanced)
    for reader in READERS.values():
        same(volume, *reader(paths), paths, tolerance=1e-6)
    assert dicom_errors(paths[0]) == []
    shutil.rmtree(tmp_path / "out")
