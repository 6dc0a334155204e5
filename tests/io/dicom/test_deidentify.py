"""Identifiers planted in every representation, at every level, and looked for in the bytes of what is written."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.datadict import DicomDictionary, keyword_dict
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, UltrasoundImageStorage, generate_uid

from medgan.errors import MedganError
from medgan.io.dicom.burned_in import burned_in_problem
from medgan.io.dicom.deidentify import PrivateAttribute, deidentified
from medgan.io.dicom.profile import Action, action_for
from medgan.io.dicom.pseudonyms import Pseudonyms

KEY = b"a secret of more than sixteen bytes"
NAME, NUMBER, WORDS = "Quuxington", "MRN5550123", "zebrafish"

# One attribute of each representation that holds text, with a value in which something is planted.
_PLANTS = {
    "AE": f"AE{NUMBER}",
    "CS": NAME.upper(),
    "LO": f"{WORDS} {NAME}",
    "LT": f"dear {NAME}, {WORDS}",
    "PN": f"{NAME}^Wilma",
    "SH": NUMBER,
    "ST": f"{WORDS} of {NAME}",
    "UC": f"{NAME} {NUMBER}",
    "UR": f"http://{NUMBER}.example/{WORDS}",
    "UT": f"{WORDS} and {NAME}",
    "OB": f"{NAME} {WORDS} ".encode(),
    "OW": f"{NAME} {WORDS} ".encode(),
    "UN": f"{NAME} {WORDS} ".encode(),
    "DA": "19610213",
    "DT": "19610213070809",
    "AS": "063Y",
}
_PATTERNS = (NAME, NUMBER, WORDS, "Wilma", "19610213")
# Without these there is no image: what stands there wrongly is refused (see below), not taken out.
_LEFT_ALONE = (
    *("SpecificCharacterSet", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("FrameType", "PatientPosition", "ScanningSequence", "SequenceVariant", "ImageType"),
    *("Modality", "PhotometricInterpretation", "StackID"),
)


def _bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _found(content: bytes) -> list[str]:
    folded = content.lower()
    return [pattern for pattern in _PATTERNS if pattern.lower().encode() in folded]


def _full_of_identifiers(dataset: Dataset) -> Dataset:
    """Every attribute of the standard's dictionary that may hold text, planted, unless the image has it already."""
    for keyword, number in keyword_dict.items():
        representation = DicomDictionary[number][0].partition(" or ")[0]
        tag = Tag(number)
        if tag.group <= 2 or tag.group == 0xFFFE or tag in dataset or keyword in _LEFT_ALONE:
            continue
        if representation in _PLANTS:
            dataset.add_new(tag, representation, _PLANTS[representation])
    return dataset


@pytest.fixture
def pseudonyms() -> Pseudonyms:
    return Pseudonyms(KEY)


@pytest.fixture
def image(phantom: Any) -> Dataset:
    dataset = phantom.datasets()[0]
    dataset.PatientName, dataset.PatientID = f"{NAME}^Wilma", NUMBER
    dataset.StudyInstanceUID, dataset.StudyDate, dataset.StudyTime = generate_uid(), "20190203", "101112.5"
    return dataset


def test_no_planted_identifier_is_left_in_any_standard_attribute(image: Dataset, pseudonyms: Pseudonyms) -> None:
    source = _full_of_identifiers(image)
    assert len(source) > 1500, len(source)
    assert set(_found(_bytes(source))) == set(_PATTERNS)
    assert _found(_bytes(deidentified(source, pseudonyms))) == []


def test_no_planted_identifier_is_left_in_nested_items(image: Dataset, pseudonyms: Pseudonyms) -> None:
    inner = _full_of_identifiers(Dataset())
    middle = Dataset()
    middle.DerivationCodeSequence = Sequence([inner])
    middle.PatientName = f"{NAME}^Wilma"
    for keyword in ("SourceImageSequence", "ReferencedImageSequence", "SharedFunctionalGroupsSequence"):
        setattr(image, keyword, Sequence([middle]))
    image.RequestAttributesSequence = Sequence([inner])
    image.OriginalAttributesSequence = Sequence([middle])
    result = deidentified(image, pseudonyms)
    assert _found(_bytes(result)) == []
    assert "DerivationCodeSequence" in result.SourceImageSequence[0]


def test_code_meanings_that_name_the_patient_are_taken_out(image: Dataset, pseudonyms: Pseudonyms) -> None:
    code, other = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "T1", "99LOCAL", f"brain of {NAME.upper()}"
    other.CodeValue, other.CodingSchemeDesignator, other.CodeMeaning = "12738006", "SCT", "Brain"
    image.AnatomicRegionSequence = Sequence([code, other])
    image.BodyPartExamined = NAME.upper()
    result = deidentified(image, pseudonyms)
    assert "CodeMeaning" not in result.AnatomicRegionSequence[0]
    assert result.AnatomicRegionSequence[1].CodeMeaning == "Brain"
    assert "BodyPartExamined" not in result


def test_private_elements_curves_overlays_preamble_and_sender_are_taken_out(
    image: Dataset, pseudonyms: Pseudonyms
) -> None:
    block = image.private_block(0x0029, f"ACME {WORDS}", create=True)
    block.add_new(0x01, "LO", NAME)
    block.add_new(0x02, "SQ", Sequence([_full_of_identifiers(Dataset())]))
    block.add_new(0x03, "UN", NAME.encode() * 2)
    image.add_new(0x60000010, "US", 1)
    image.add_new(0x60003000, "OW", f"{NAME} {WORDS} ".encode())
    image.add_new(0x60004000, "LT", NAME)
    image.add_new(0x50003000, "OW", f"{NAME} {WORDS} ".encode())
    image.preamble = NAME.encode().ljust(128, b"\0")
    image.file_meta.SourceApplicationEntityTitle = NUMBER
    image.file_meta.PrivateInformationCreatorUID = generate_uid()
    image.file_meta.PrivateInformation = f"{NAME} {WORDS} ".encode()
    result = deidentified(image, pseudonyms)
    assert _found(_bytes(result)) == []
    assert not [element for element in result if element.tag.is_private or element.tag.group in (0x5000, 0x6000)]


def test_allowed_private_attributes_stay_and_are_recorded(image: Dataset, pseudonyms: Pseudonyms) -> None:
    block = image.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", 1000)
    block.add_new(0x0E, "LO", f"for {NAME}")
    allowed = frozenset(map(PrivateAttribute.parsed, ("SIEMENS MR HEADER:0019,0C", "SIEMENS MR HEADER:0019,xx0e")))
    result = deidentified(image, pseudonyms, keep_private=allowed)
    kept = result.private_block(0x0019, "SIEMENS MR HEADER")
    assert kept[0x0C].value == 1000
    assert 0x0E not in kept
    assert "113111" in [code.CodeValue for code in result.DeidentificationMethodCodeSequence]
    assert _found(_bytes(result)) == []


@pytest.mark.parametrize("text", ["0019,0C", "ACME:0018,0C", "ACME:0019,0C0", "ACME 0019 0C"])
def test_private_attributes_are_named_in_one_way(text: str) -> None:
    with pytest.raises(MedganError, match="names no private attribute"):
        PrivateAttribute.parsed(text)


def test_the_profile_is_recorded_with_its_codes(image: Dataset, pseudonyms: Pseudonyms) -> None:
    result = deidentified(image, pseudonyms)
    assert result.PatientIdentityRemoved == "YES"
    assert result.LongitudinalTemporalInformationModified == "MODIFIED"
    # CID 7050, DICOM PS3.16.
    assert [
        (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)
        for code in result.DeidentificationMethodCodeSequence
    ] == [
        ("113100", "DCM", "Basic Application Confidentiality Profile"),
        ("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ]
    assert all(len(value) <= 64 for value in result.DeidentificationMethod)


def test_earlier_methods_stay_recorded_by_known_codes_only(image: Dataset, pseudonyms: Pseudonyms) -> None:
    earlier, foreign = Dataset(), Dataset()
    earlier.CodeValue, earlier.CodingSchemeDesignator, earlier.CodeMeaning = "113101", "DCM", NAME
    foreign.CodeValue, foreign.CodingSchemeDesignator, foreign.CodeMeaning = "1", "99X", WORDS
    image.DeidentificationMethodCodeSequence = Sequence([earlier, foreign])
    image.DeidentificationMethod = f"by {NAME}"
    result = deidentified(image, pseudonyms)
    codes = {code.CodeValue: code.CodeMeaning for code in result.DeidentificationMethodCodeSequence}
    assert codes["113101"] == "Clean Pixel Data Option"
    assert set(codes) == {"113100", "113107", "113101"}
    assert _found(_bytes(result)) == []


def test_the_source_stays_as_it_is(image: Dataset, pseudonyms: Pseudonyms) -> None:
    before = _bytes(image)
    deidentified(_full_of_identifiers(pydicom.dcmread(io.BytesIO(before))), pseudonyms)
    deidentified(image, pseudonyms)
    assert _bytes(image) == before


def test_what_geometry_and_values_need_stays(image: Dataset, pseudonyms: Pseudonyms) -> None:
    image.RescaleSlope, image.RescaleIntercept, image.BodyPartExamined = "1.5", "-7", "BRAIN"
    result = deidentified(image, pseudonyms)
    for keyword in (
        "PixelData",
        "Rows",
        "Columns",
        "PixelSpacing",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "RescaleSlope",
        "RescaleIntercept",
        "ImageType",
        "SliceThickness",
        "EchoTime",
        "Modality",
        "SOPClassUID",
        "InstanceNumber",
        "SeriesNumber",
        "BodyPartExamined",
    ):
        assert result[keyword] == image[keyword], keyword
    assert "SeriesDescription" not in result
    assert "PatientBirthDate" in result
    assert not result.PatientBirthDate


def test_values_that_cannot_be_numbers_or_codes_are_taken_out(image: Dataset, pseudonyms: Pseudonyms) -> None:
    raw = _bytes(image).replace(b"DS\x04\x0090.0", b"DS\x04\x00Quux")
    damaged = pydicom.dcmread(io.BytesIO(raw))
    damaged.add_new("ScanOptions", "CS", "PFP")
    damaged["ScanOptions"]._value = "for Wilma"
    result = deidentified(damaged, pseudonyms)
    assert "EchoTime" not in result
    assert "ScanOptions" not in result


def test_a_name_in_an_attribute_that_the_image_needs_is_refused(image: Dataset, pseudonyms: Pseudonyms) -> None:
    image.ImageType = ["ORIGINAL", "PRIMARY", NAME.upper()]
    with pytest.raises(MedganError, match="ImageType") as refusal:
        deidentified(image, pseudonyms)
    assert NAME.lower() not in str(refusal.value).lower()


def test_a_patient_called_axial_does_not_cost_the_image_type(image: Dataset, pseudonyms: Pseudonyms) -> None:
    image.PatientName, image.ImageType = "Axial^Primary", ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert list(deidentified(image, pseudonyms).ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]


def test_codes_that_scanners_write_wrongly_stay_where_they_are_needed(image: Dataset, pseudonyms: Pseudonyms) -> None:
    image["ImageType"]._value = pydicom.multival.MultiValue(str, ["ORIGINAL", "PRIMARY", "Mean-b0/1.5"])
    assert list(deidentified(image, pseudonyms).ImageType)[2] == "Mean-b0/1.5"


def test_a_patient_called_like_a_position_does_not_cost_it(image: Dataset, pseudonyms: Pseudonyms) -> None:
    image.PatientName, image.PatientPosition = "HFS", "HFS"
    assert deidentified(image, pseudonyms).PatientPosition == "HFS"


def test_what_is_written_is_valid(
    image: Dataset, pseudonyms: Pseudonyms, dicom_errors: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    """No error that the source does not have."""
    for name, dataset in (("before.dcm", image), ("after.dcm", deidentified(image, pseudonyms))):
        pydicom.dcmwrite(tmp_path / name, dataset, enforce_file_format=True)
    before, after = (dicom_errors(tmp_path / name) for name in ("before.dcm", "after.dcm"))
    assert set(after) <= set(before)


def test_a_comment_in_compressed_pixels_is_found(image: Dataset, pseudonyms: Pseudonyms) -> None:
    comment = f"\xff\xfe\0\x20{NUMBER}".encode("latin-1")
    image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    image.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8" + comment + b"\xff\xd9"])
    with pytest.raises(MedganError, match="the pixel data hold an identifier"):
        deidentified(image, pseudonyms)


def test_an_object_without_instance_uid_is_refused(image: Dataset, pseudonyms: Pseudonyms) -> None:
    del image.SOPInstanceUID
    with pytest.raises(MedganError, match="SOPInstanceUID"):
        deidentified(image, pseudonyms)


class TestUids:
    def test_references_hold_among_files_and_runs(self, phantom: Any) -> None:
        first, second = phantom.datasets()[:2]
        for one in (first, second):
            one.StudyInstanceUID = "1.2.3.4.5"
        reference = Dataset()
        reference.ReferencedSOPClassUID = second.SOPClassUID
        reference.ReferencedSOPInstanceUID = second.SOPInstanceUID
        first.ReferencedImageSequence = Sequence([reference])
        a, b = (deidentified(one, Pseudonyms(KEY)) for one in (first, second))
        assert a.ReferencedImageSequence[0].ReferencedSOPInstanceUID == b.SOPInstanceUID == b.file_meta[0x20003].value
        assert a.ReferencedImageSequence[0].ReferencedSOPClassUID == first.SOPClassUID
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            assert a[keyword] == b[keyword]
            assert a[keyword].value != first[keyword].value
        assert a.SOPInstanceUID != b.SOPInstanceUID

    def test_none_of_the_source_is_left(self, image: Dataset, pseudonyms: Pseudonyms) -> None:
        own = [image[keyword].value for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        image.IrradiationEventUID = [own[0] + ".1", own[0] + ".2"]
        content = _bytes(deidentified(image, pseudonyms))
        assert not [uid for uid in own if uid.encode() in content]

    def test_they_are_valid_and_depend_on_the_key(self, pseudonyms: Pseudonyms) -> None:
        made = pseudonyms.uid("1.2.840.113619.2.5")
        assert pydicom.uid.UID(made).is_valid
        assert made != Pseudonyms(KEY + b".").uid("1.2.840.113619.2.5")
        assert made != pseudonyms.uid("1.2.840.113619.2.6")
        number = int(made.removeprefix("2.25."))
        assert number >> 76 & 0xF == 8, "version of RFC 9562"
        assert number >> 62 & 0b11 == 0b10, "variant of RFC 9562"

    def test_those_of_the_standard_stay(self, image: Dataset, pseudonyms: Pseudonyms) -> None:
        image.FrameOfReferenceUID = "1.2.840.10008.1.4.1.1"
        assert deidentified(image, pseudonyms).FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"


class TestDates:
    def test_intervals_of_a_patient_are_kept(self, phantom: Any, pseudonyms: Pseudonyms) -> None:
        first, second = phantom.datasets()[:2]
        first.StudyDate, second.StudyDate = "20160228", "20160301"
        second.AcquisitionDateTime = "20160301235959.5+0100"
        a, b = (deidentified(one, pseudonyms) for one in (first, second))
        days = (np.datetime64(f"{b.StudyDate[:4]}-{b.StudyDate[4:6]}-{b.StudyDate[6:]}")) - np.datetime64(
            f"{a.StudyDate[:4]}-{a.StudyDate[4:6]}-{a.StudyDate[6:]}"
        )
        assert days == np.timedelta64(2, "D")
        assert a.StudyDate < first.StudyDate
        assert str(b.AcquisitionDateTime) == b.StudyDate + "235959.5+0100"

    def test_another_patient_moves_otherwise(self, pseudonyms: Pseudonyms) -> None:
        assert len({pseudonyms.days(f"patient {n}") for n in range(50)}) > 40
        assert all(1 <= pseudonyms.days(f"patient {n}") <= 3652 for n in range(50))

    def test_dates_that_many_patients_share_do_not_move(self, image: Dataset, pseudonyms: Pseudonyms) -> None:
        image.DateOfLastCalibration, image.DateOfManufacture = "20190101", "20100101"
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "DCM", "x"
        code.ContextGroupVersion = "20020904"
        image.AnatomicRegionSequence = Sequence([code])
        result = deidentified(image, pseudonyms)
        assert "DateOfLastCalibration" not in result
        assert "DateOfManufacture" not in result
        assert str(result.AnatomicRegionSequence[0].ContextGroupVersion) == "19000101000000"

    @pytest.mark.parametrize("text", ["2019", "20191301", "00000000", "today", "201902"])
    def test_a_date_that_is_none_becomes_empty(self, image: Dataset, pseudonyms: Pseudonyms, text: str) -> None:
        image["StudyDate"]._value = text
        assert not deidentified(image, pseudonyms).StudyDate

    def test_a_date_with_points_moves(self, image: Dataset, pseudonyms: Pseudonyms) -> None:
        image.StudyDate, image.SeriesDate = "20190203", "20190203"
        image["SeriesDate"]._value = "2019.02.03"
        result = deidentified(image, pseudonyms)
        assert result.SeriesDate == result.StudyDate


def test_one_patient_has_one_stand_in_and_no_other(phantom: Any, pseudonyms: Pseudonyms) -> None:
    first, second, third = phantom.datasets()[:3]
    third.PatientID = "SECRET-43"
    a, b, c = (deidentified(one, pseudonyms) for one in (first, second, third))
    assert a.PatientID == b.PatientID == str(a.PatientName) != c.PatientID


class TestBurnedIn:
    def test_a_slice_of_a_scanner_is_trusted(self, image: Dataset) -> None:
        assert burned_in_problem(image) is None

    def test_yes_is_refused_whoever_looked(self, image: Dataset) -> None:
        image.BurnedInAnnotation = "YES"
        assert "BurnedInAnnotation is YES" in str(burned_in_problem(image, pixels_checked=True))

    @pytest.mark.parametrize("storage", [SecondaryCaptureImageStorage, UltrasoundImageStorage])
    def test_captures_must_say_no(self, image: Dataset, storage: str) -> None:
        image.SOPClassUID = storage
        assert burned_in_problem(image)
        assert burned_in_problem(image, pixels_checked=True) is None
        image.BurnedInAnnotation = "NO"
        assert burned_in_problem(image) is None

    def test_colours_captures_and_pages_are_refused(self, image: Dataset) -> None:
        image.SamplesPerPixel = 3
        assert burned_in_problem(image)
        image.SamplesPerPixel, image.ConversionType = 1, "WSD"
        assert burned_in_problem(image)
        del image.ConversionType
        image.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
        assert burned_in_problem(image)

    def test_an_overlay_in_unused_bits_is_refused(self, image: Dataset) -> None:
        image.add_new(0x60000102, "US", 12)
        image.BurnedInAnnotation = "NO"
        assert "overlay" in str(burned_in_problem(image))


def test_the_table_is_applied_where_dicom_anonymizer_is_asked(write: Callable[..., Path]) -> None:
    """Identifying attributes by our reading of PS3.15 table E.1-1, against the package's table."""
    expected = {
        "PatientBirthDate": Action.EMPTY,
        "AccessionNumber": Action.EMPTY,
        "InstitutionName": Action.DUMMY,
        "StationName": Action.DUMMY,
        "StudyDescription": Action.REMOVE,
        "DeviceSerialNumber": Action.DUMMY,
        "IconImageSequence": Action.REMOVE,
        "PatientWeight": Action.REMOVE,
        "SourceImageSequence": Action.RECURSE,
        "FrameOfReferenceUID": Action.UID,
        "StudyDate": Action.DATE,
        "Manufacturer": Action.KEEP,
        "PatientID": Action.PATIENT,
        "PositionReferenceIndicator": Action.EMPTY,
    }
    for keyword, action in expected.items():
        tag = Tag(keyword)
        assert action_for(tag, DicomDictionary[int(tag)][0]) is action, keyword
