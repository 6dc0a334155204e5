"""De-identified copies of DICOM data sets: basic application confidentiality profile of PS3.15 with modified dates.

What leaves: all that the profile's table names, at every level; private elements but those allowed by name; text and
bytes that are not known to describe the acquisition; curves and overlays; the preamble and the sender's name before the
data set. What stays in keyed form: UIDs, so that references hold among files and between runs; the patient, as one
stand-in for name and ID; dates of the examination, moved back by a number of days that is the patient's own. Times of
day stay as they are. Pixels stay as they are, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medgan import __version__
from medgan.errors import MedganError
from medgan.io.dicom.headers import HEADER_ERRORS
from medgan.io.dicom.identity import NEEDED, Identity, values_of
from medgan.io.dicom.profile import EDITION, Action, action_for
from medgan.io.dicom.pseudonyms import Pseudonyms, moved_back

METHODS = (
    codes.cid7050.BasicApplicationConfidentialityProfile,
    codes.cid7050.RetainLongitudinalTemporalInformationModifiedDatesOption,
)
PRIVATE_KEPT = codes.cid7050.RetainSafePrivateOption
FACE_REMOVED = codes.cid7050.CleanRecognizableVisualFeaturesOption

_REGISTERED = "1.2.840.10008."

# Values that do not fit these cannot be what their representation says, and might be anything.
_NUMERIC_TEXT = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *")
_CODE = re.compile(r"[A-Z0-9 _]{0,16}")
_TIME = re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)? *")

_DUMMIES: dict[str, Any] = {
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "DS": "0",
    "IS": "0",
    "PN": "ANONYMOUS",
    "UR": "http://anonymous.invalid",
}
_NUMBERS = frozenset(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"))


@dataclass(frozen=True)
class PrivateAttribute:
    """One private attribute that may stay.

    Args:
        creator: as in its private creator element, such as "SIEMENS MR HEADER".
        group: odd, such as 0x0019.
        offset: last two digits of the element number, such as 0x0C.
    """

    creator: str
    group: int
    offset: int

    @classmethod
    def parsed(cls, text: str) -> PrivateAttribute:
        """From "CREATOR:GGGG,EE" with hexadecimal digits, such as "SIEMENS MR HEADER:0019,0C".

        Raises:
            MedganError: it is written otherwise, or the group is even.
        """
        match = re.fullmatch(r"(.+):([0-9A-Fa-f]{4}),(?:xx)?([0-9A-Fa-f]{2})", text)
        if match is None or not int(match[2], 16) % 2:
            raise MedganError(
                f"'{text}' names no private attribute", hint="Write for example 'SIEMENS MR HEADER:0019,0C'."
            )
        return cls(match[1], int(match[2], 16), int(match[3], 16))


def deidentified(
    dataset: Dataset,
    pseudonyms: Pseudonyms,
    *,
    keep_private: frozenset[PrivateAttribute] = frozenset(),
    face_removed: str | None = None,
) -> Dataset:
    """A copy of an image's data set without what identifies the patient or anyone else; the source stays as it is.

    Whether the pixels show text is not asked here: see `medgan.io.dicom.burned_in`.

    Args:
        dataset: with its `file_meta`, as `pydicom.dcmread` returns it.
        pseudonyms: the key's stand-ins.
        keep_private: private attributes to keep.
        face_removed: if the pixels were changed to remove the face, how; it is recorded.

    Returns:
        The copy, with file meta information of its own and an empty preamble.

    Raises:
        MedganError: the object has no SOPInstanceUID, an identifier of the patient stands in an element that the image
            needs, or in the pixel data.
    """
    if not dataset.get("SOPInstanceUID") or not dataset.get("SOPClassUID"):
        raise MedganError(
            "the object says no SOPInstanceUID or no SOPClassUID", hint="Without them it cannot be de-identified."
        )
    identity = Identity.of(dataset)
    cleaner = _Cleaner(pseudonyms, identity, keep_private)
    result = cleaner.cleaned(dataset)
    result.PatientName = result.PatientID = pseudonyms.patient(identity.patient)
    _record(result, dataset, keep_private=bool(keep_private), face_removed=face_removed)
    identity.require_absent_from_pixels(result)
    result.file_meta = _file_meta(dataset, result)
    result.preamble = b"\0" * 128
    return result


class _Cleaner:
    """The rules for one patient's data sets."""

    def __init__(self, pseudonyms: Pseudonyms, identity: Identity, keep_private: frozenset[PrivateAttribute]) -> None:
        self.pseudonyms = pseudonyms
        self.identity = identity
        self.keep_private = keep_private
        self.days = pseudonyms.days(identity.patient)

    def cleaned(self, dataset: Dataset) -> Dataset:
        """What stays of a data set or of an item of a sequence."""
        result = Dataset()
        for element in _readable(dataset):
            if element.tag.is_private:
                self._keep_if_allowed(result, dataset, element)
                continue
            kept = self._cleaned_element(element)
            if kept is not None:
                result.add(kept)
        return result

    def _cleaned_element(self, element: DataElement) -> DataElement | None:
        action = action_for(element.tag, element.VR)
        if action is Action.REMOVE:
            return None
        if action is Action.RECURSE:
            return DataElement(element.tag, "SQ", Sequence([self.cleaned(item) for item in element.value or ()]))
        if action is Action.EMPTY or element.is_empty:
            return DataElement(element.tag, element.VR, Sequence() if element.VR == "SQ" else None)
        if action is Action.UID:
            return DataElement(element.tag, "UI", self._uids(element))
        if action is Action.DATE:
            return self._moved(element)
        if action in (Action.DUMMY, Action.PATIENT):
            return DataElement(element.tag, element.VR, _dummy(element.VR, self.pseudonyms))
        return element if _fits(element) and self.identity.allows(element) else None

    def _uids(self, element: DataElement) -> list[str]:
        """The values, replaced unless they name something of the standard or a class of objects."""
        values = [str(value) for value in values_of(element.value)]
        if element.keyword.endswith("SOPClassUID"):
            return values
        return [value if value.startswith(_REGISTERED) else self.pseudonyms.uid(value) for value in values]

    def _moved(self, element: DataElement) -> DataElement:
        """The dates moved back; empty if one of them is no full date."""
        try:
            moved: list[str] | None = [moved_back(str(value), self.days) for value in values_of(element.value)]
        except (ValueError, OverflowError):
            moved = None
        return DataElement(element.tag, element.VR, moved)

    def _keep_if_allowed(self, result: Dataset, source: Dataset, element: DataElement) -> None:
        if element.tag.is_private_creator or element.VR == "SQ":
            return
        creator = str(source.get(element.tag.group << 16 | element.tag.element >> 8, DataElement(0, "LO", "")).value)
        wanted = PrivateAttribute(creator.strip(), element.tag.group, element.tag.element & 0xFF)
        if wanted in self.keep_private and self.identity.allows(element):
            block = result.private_block(wanted.group, wanted.creator, create=True)
            block.add_new(wanted.offset, element.VR, element.value)


def _readable(dataset: Dataset) -> Iterator[DataElement]:
    """The elements whose values can be read; one that cannot be examined cannot stay."""
    for tag in sorted(dataset.keys()):
        try:
            element = dataset[tag]
        except HEADER_ERRORS:
            continue
        yield element


def _fits(element: DataElement) -> bool:
    """Whether all values are such as the value representation allows, as far as they could hide text; scanners write
    small letters and other signs into codes that an image needs."""
    pattern = {"DS": _NUMERIC_TEXT, "IS": _NUMERIC_TEXT, "CS": _CODE, "TM": _TIME}.get(element.VR)
    if pattern is None or element.keyword in NEEDED:
        return True
    values = [getattr(value, "original_string", value) for value in values_of(element.value)]
    return all(pattern.fullmatch(str(value)) for value in values)


def _dummy(representation: str, pseudonyms: Pseudonyms) -> Any:
    if representation in _NUMBERS:
        return 0
    if representation == "UI":
        return pseudonyms.uid("")
    return _DUMMIES.get(representation, "ANONYMOUS")


def _record(result: Dataset, source: Dataset, *, keep_private: bool, face_removed: str | None) -> None:
    """Say in the data set what was done (PS3.15 E.1.1, PS3.3 C.12.1)."""
    done = [*METHODS, *([PRIVATE_KEPT] if keep_private else []), *([FACE_REMOVED] if face_removed else [])]
    result.PatientIdentityRemoved = "YES"
    result.LongitudinalTemporalInformationModified = "MODIFIED"
    result.DeidentificationMethod = [
        f"medgan {__version__}"[:64],
        f"PS3.15 basic profile by table E.1-1 of {EDITION}, keyed UIDs",
        *([face_removed] if face_removed else []),
    ]
    before = [item for item in source.get("DeidentificationMethodCodeSequence") or () if item.get("CodeValue")]
    earlier = {str(item.CodeValue) for item in before if item.get("CodingSchemeDesignator") == "DCM"}
    known = [getattr(codes.cid7050, name) for name in codes.cid7050.dir()]
    done += [code for code in known if code.value in earlier and code not in done]
    result.DeidentificationMethodCodeSequence = Sequence([_code_item(code) for code in done])
    if face_removed:
        result.RecognizableVisualFeatures = "NO"


def _code_item(code: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _file_meta(source: Dataset, result: Dataset) -> FileMetaDataset:
    """File meta information with nothing of the source's but how it is encoded."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = result.SOPClassUID
    meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    meta.TransferSyntaxUID = UID(getattr(source, "file_meta", {}).get("TransferSyntaxUID") or _encoding(source))
    return meta


def _encoding(source: Dataset) -> str:
    """The transfer syntax of a file that does not name one, as it was read."""
    is_implicit, is_little = source.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
