"""What becomes of each attribute by the basic application confidentiality profile (DICOM PS3.15 annex E).

The table (E.1-1) comes from dicom-anonymizer, which generates it from the standard. That package's own functions act on
the top level of a data set only, keep nothing consistent between runs, and leave alone whatever the table does not
name; here the table holds at every level, and text that it does not name stays only where it is known to describe the
acquisition.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

from pydicom.datadict import dictionary_keyword
from pydicom.tag import BaseTag

EDITION = "2026c"


class Action(Enum):
    """What becomes of an attribute's value."""

    KEEP = "stays, if it passes the checks of its value representation"
    RECURSE = "a sequence: the same rules for its items"
    REMOVE = "is taken out"
    EMPTY = "becomes empty"
    DUMMY = "becomes a value that says nothing"
    UID = "becomes a keyed stand-in"
    DATE = "moves back by the patient's days"
    PATIENT = "becomes the patient's keyed stand-in"


# Codes of the table to actions. Where it leaves a choice that depends on the object's definition, the one that is valid
# for every object: a dummy value where an attribute may be of type 1, an empty one where it may be of type 2.
_BY_LIST = {
    "X_TAGS": Action.REMOVE,
    "Z_TAGS": Action.EMPTY,
    "X_Z_TAGS": Action.EMPTY,
    "D_TAGS": Action.DUMMY,
    "Z_D_TAGS": Action.DUMMY,
    "X_D_TAGS": Action.DUMMY,
    "X_Z_D_TAGS": Action.DUMMY,
    "U_TAGS": Action.UID,
    "X_Z_U_STAR_TAGS": Action.RECURSE,
}

_PATIENT = ("PatientName", "PatientID")

# Dates of the examination, which keep their distances (option Retain Longitudinal Temporal Information with Modified
# Dates). Dates of scanners, code tables and protocols are the same for many patients and known to many people: moved,
# they would give the patient's days away, so they go as the table says.
_MOVED = frozenset(
    (
        "StudyDate",
        "SeriesDate",
        "AcquisitionDate",
        "ContentDate",
        "InstanceCreationDate",
        "DateOfSecondaryCapture",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepEndDate",
        "AcquisitionDateTime",
        "StartAcquisitionDateTime",
        "EndAcquisitionDateTime",
        "FrameAcquisitionDateTime",
        "FrameReferenceDateTime",
        "RadiopharmaceuticalStartDateTime",
        "RadiopharmaceuticalStopDateTime",
        "DecayCorrectionDateTime",
    )
)
# Times of day of the same: they stay, so that times between scans, and the decay of tracers, can be computed.
_KEPT_TIMES = frozenset(
    (
        "StudyTime",
        "SeriesTime",
        "AcquisitionTime",
        "ContentTime",
        "InstanceCreationTime",
        "TimeOfSecondaryCapture",
        "PerformedProcedureStepStartTime",
        "PerformedProcedureStepEndTime",
        "RadiopharmaceuticalStartTime",
        "RadiopharmaceuticalStopTime",
        "ContrastBolusStartTime",
        "ContrastBolusStopTime",
    )
)

# Text that describes scanner and acquisition in words of the manufacturer, and codes.
_KEPT_TEXT = frozenset(
    (
        "SpecificCharacterSet",
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "SequenceName",
        "PulseSequenceName",
        "ReceiveCoilName",
        "ReceiveCoilManufacturerName",
        "TransmitCoilName",
        "TransmitCoilManufacturerName",
        "MultiCoilElementName",
        "ImagedNucleus",
        "ResonantNucleus",
        "DecoupledNucleus",
        "ConvolutionKernel",
        "FilterType",
        "FilterMaterial",
        "ReconstructionMethod",
        "AttenuationCorrectionMethod",
        "ScatterCorrectionMethod",
        "ContrastBolusRoute",
        "Radiopharmaceutical",
        "CodeValue",
        "LongCodeValue",
        "URNCodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "CodeMeaning",
        "StackID",
        "DimensionDescriptionLabel",
        "RescaleType",
        "LUTLabel",
        "LUTExplanation",
        "ModalityLUTType",
        "WindowCenterWidthExplanation",
    )
)
# Free text that enhanced MR images must not leave empty (PS3.3 C.8.13.5.12).
_REQUIRED_TEXT = "MetaboliteMapDescription"
_TEXT = frozenset(("AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_MOMENTS = frozenset(("DA", "DT", "TM"))

_KEPT_BYTES = frozenset(
    (
        "PixelData",
        "FloatPixelData",
        "DoubleFloatPixelData",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "LUTData",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
        "BluePaletteColorLookupTableData",
        "SegmentedRedPaletteColorLookupTableData",
        "SegmentedGreenPaletteColorLookupTableData",
        "SegmentedBluePaletteColorLookupTableData",
    )
)
# Curves and overlays: graphics over the image, in which anything may be written.
_GRAPHICS = (*range(0x5000, 0x5020, 2), *range(0x6000, 0x6020, 2))
_BYTES = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))


def action_for(tag: BaseTag, representation: str) -> Action:
    """What becomes of a standard attribute, wherever in the data set it stands.

    Args:
        tag: of the attribute; private ones are not for this function.
        representation: the value representation, such as "LO".
    """
    if tag.group in _GRAPHICS:
        return Action.REMOVE
    try:
        keyword = dictionary_keyword(tag)
    except KeyError:
        return Action.REMOVE
    if keyword in _PATIENT:
        return Action.PATIENT
    if keyword in _MOVED:
        return Action.DATE
    if keyword in _KEPT_TIMES:
        return Action.KEEP
    named = _table().get((tag.group, tag.element))
    if named is not None:
        return _fitting(named, representation)
    return _unnamed(keyword, representation)


def _fitting(action: Action, representation: str) -> Action:
    """The table's action, where it is possible: nobody can tell what a sequence or bytes that say nothing would be."""
    if action is Action.DUMMY and (representation == "SQ" or representation in _BYTES):
        return Action.REMOVE
    if action is Action.RECURSE and representation != "SQ":
        return Action.REMOVE
    return action


def _unnamed(keyword: str, representation: str) -> Action:
    """The action for an attribute that the table does not name."""
    if representation == "SQ":
        return Action.RECURSE
    if representation == "UI":
        return Action.UID
    if representation in _MOMENTS:
        return Action.REMOVE
    if representation in _BYTES:
        return Action.KEEP if keyword in _KEPT_BYTES else Action.REMOVE
    if keyword == _REQUIRED_TEXT:
        return Action.DUMMY
    if representation in _TEXT:
        return Action.KEEP if keyword in _KEPT_TEXT else Action.EMPTY
    return Action.KEEP


@lru_cache(maxsize=1)
def _table() -> dict[tuple[int, int], Action]:
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    lists = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    return {tag: action for name, action in _BY_LIST.items() for tag in lists[name] if len(tag) == 2}
