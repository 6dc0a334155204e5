"""Who a data set is about, and whether anything that stays says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue

from medgan.errors import MedganError
from medgan.io.dicom.headers import HEADER_ERRORS

_NAMES = (
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
    "ResponsiblePerson",
)
_NUMBERS = (
    "PatientID",
    "OtherPatientIDs",
    "AccessionNumber",
    "AdmissionID",
    "PatientBirthDate",
    "PatientTelephoneNumbers",
    "PatientAddress",
    "MedicalRecordLocator",
    "InstitutionName",
    "InstitutionAddress",
    "DeviceSerialNumber",
)

_SHORTEST_NAME, _SHORTEST_NUMBER = 3, 4
# Shorter or more uniform strings occur among pixels by chance.
_SHORTEST_IN_PIXELS, _FEWEST_DIFFERENT = 7, 5

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_SEARCHED = frozenset(("AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "OB", "OW", "UN"))

# What an image cannot do without. A word of a name may stand there by chance, but that is for the user to see.
NEEDED = frozenset(
    (
        "ImageType",
        "FrameType",
        "Modality",
        "PhotometricInterpretation",
        "PatientPosition",
        "SpecificCharacterSet",
        "ScanningSequence",
        "SequenceVariant",
        "StackID",
    )
)
# Defined terms of those (PS3.3 C.7.6.1.1.2, C.7.3.1.1.2): they say nothing of anybody who happens to be called so.
_IMAGE_TYPES = ("ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "LOCALIZER", "OTHER", "NONE", "VOLUME", "NORM")
_POSITIONS = (
    *("HFP", "HFS", "HFDR", "HFDL", "FFP", "FFS", "FFDR", "FFDL"),
    *("LFP", "LFS", "RFP", "RFS", "AFDR", "AFDL", "PFDR", "PFDL"),
)
_TERMS = frozenset((*_IMAGE_TYPES, *_POSITIONS))


@dataclass(frozen=True)
class Identity:
    """The words by which a data set's people are known.

    Args:
        patient: what stands for the patient when stand-ins are made: ID and issuer; without an ID name and date of
            birth; without either the study.
        words: lower-case words of names, and whole numbers and addresses.
    """

    patient: str
    words: frozenset[str]

    @classmethod
    def of(cls, dataset: Dataset) -> Identity:
        """By the top level of the data set."""
        names = {word for text in _texts(dataset, _NAMES) for word in re.split(r"[\^=,\s]+", text)}
        numbers = set(_texts(dataset, _NUMBERS))
        words = {word.lower() for word in names if len(word) >= _SHORTEST_NAME}
        words |= {number.lower() for number in numbers if len(number) >= _SHORTEST_NUMBER}
        return cls(_patient(dataset), frozenset(words))

    def allows(self, element: DataElement) -> bool:
        """Whether an element that is to stay says nothing of these people.

        Raises:
            MedganError: it does, and the image needs the element.
        """
        if element.VR not in _SEARCHED or element.keyword in _PIXELS:
            return True
        values = [value for value in values_of(element.value) if str(value) not in _TERMS]
        if not any(self._stands_in(value) for value in values):
            return True
        if element.keyword in NEEDED:
            raise MedganError(
                f"{element.keyword} holds a word that also names the patient or someone else in the header",
                hint="Correct it in a copy of the files first: the image needs it, so it cannot be emptied.",
            )
        return False

    def require_absent_from_pixels(self, dataset: Dataset) -> None:
        """Search the stored pixel data, which may carry comments when they are compressed.

        Raises:
            MedganError: a name or number stands there.
        """
        suspects = [
            word.encode()
            for word in self.words
            if len(word) >= _SHORTEST_IN_PIXELS and len(set(word)) >= _FEWEST_DIFFERENT
        ]
        for keyword in _PIXELS:
            content = dataset.get(keyword)
            if isinstance(content, bytes) and suspects:
                folded = content.lower()
                if any(word in folded for word in suspects):
                    raise MedganError(
                        "the pixel data hold an identifier of the patient as text, as compressed images may",
                        hint="Export the series uncompressed, or look at what the pixels show.",
                    )

    def _stands_in(self, value: object) -> bool:
        text = (value.decode("latin-1") if isinstance(value, bytes) else str(value)).lower()
        return any(re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text) for word in self.words if word in text)


def values_of(value: Any) -> list[Any]:
    """An attribute's values: none, one (a person's name too, which is a sequence of letters) or several."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (MultiValue, list)) else [value]


def _patient(dataset: Dataset) -> str:
    found = {keyword: next(_texts(dataset, (keyword,)), "") for keyword in ("PatientID", "IssuerOfPatientID")}
    if found["PatientID"]:
        return f"{found['PatientID']}\0{found['IssuerOfPatientID']}"
    name, born, study = (
        next(_texts(dataset, (keyword,)), "") for keyword in ("PatientName", "PatientBirthDate", "StudyInstanceUID")
    )
    return f"{name}\0{born}\0" if name and born else f"{name}\0{study}"


def _texts(dataset: Dataset, keywords: tuple[str, ...]) -> Iterator[str]:
    """The values of these attributes that are not empty, as text without white space around it."""
    for keyword in keywords:
        try:
            values = values_of(dataset.get(keyword))
        except HEADER_ERRORS:
            continue
        yield from (text for value in values if (text := str(value).strip()))
