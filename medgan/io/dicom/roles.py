"""What kind of DICOM object a file is: an image to read, or one that is left out and by what name.

Storage classes are listed in DICOM PS3.4 B.5, the third value of ImageType in PS3.3 C.8.2.1.1.1 (CT) and C.8.3.1.1.1
(MR).
"""

from __future__ import annotations

import re

import pydicom

from medgan.io.dicom.values import several

IMAGE = "image"

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_DIRECTORY = "1.2.840.10008.1.3.10"

# By the ending of the storage class after the common root; the longest match counts.
_ROLES = {
    "7": "screen capture",
    "9": "waveform",
    "11": "presentation state",
    "66": "raw data",
    "66.1": "registration",
    "66.2": "fiducials",
    "66.3": "registration",
    "66.4": "segmentation",
    "66.5": "surface segmentation",
    "66.7": "segmentation",
    "67": "real world value mapping",
    "88": "structured report",
    "88.59": "key object selection",
    "88.67": "dose report",
    "88.68": "dose report",
    "88.73": "dose report",
    "88.74": "dose report",
    "88.75": "dose report",
    "88.76": "dose report",
    "104": "encapsulated document",
    "4.2": "spectroscopy",
    "1": "projection image",
    "1.1": "projection image",
    "1.2": "projection image",
    "1.3": "projection image",
    "12": "projection image",
    "3": "ultrasound image",
    "3.1": "ultrasound image",
    "6": "ultrasound image",
    "6.1": "ultrasound image",
    "6.2": IMAGE,
    "77": "photograph",
    "481.1": "radiotherapy image",
    "481.2": "radiotherapy dose",
    "481.3": "radiotherapy structures",
    "481": "radiotherapy object",
}
_IMAGE_MODALITIES = ("CT", "MR", "PT")
_IMAGE_CLASSES = frozenset(
    f"{_STORAGE}{ending}" for ending in ("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "20", "128", "128.1", "130")
)
_LOCALISER_WORDS = frozenset(
    ("localizer", "localiser", "localizers", "scout", "survey", "surview", "topogram", "scanogram", "3plane")
)
_DOSE_WORDS = re.compile(r"\bdose (report|info|summary|page)|\bpatient protocol\b")


def role_of(dataset: pydicom.Dataset) -> str | None:
    """What the object is: `IMAGE`, or a word such as "localiser" or "dose report"; None for a DICOMDIR.

    Raises:
        ValueError: it should be an image, but has no rows or columns.
    """
    meta = getattr(dataset, "file_meta", {})
    classes = [str(one) for one in (dataset.get("SOPClassUID"), meta.get("MediaStorageSOPClassUID")) if one]
    if _DIRECTORY in classes:
        return None
    role = _by_class(classes[0]) if classes else IMAGE
    if not (dataset.get("Rows") and dataset.get("Columns")):
        return _without_pixels(dataset, classes, role)
    if dataset.get("ImagePositionPatient") and dataset.get("Modality") in _IMAGE_MODALITIES:
        # Whatever the storage class says: a slice that has its place is never left out for a class of its own.
        role = IMAGE
    if role in (IMAGE, "screen capture") and _is_coloured(dataset):
        return "dose report" if _says_dose(dataset) else "colour capture"
    if role == "screen capture" and _says_dose(dataset):
        return "dose report"
    return (_localiser_of(dataset) or IMAGE) if role == IMAGE else role


def _by_class(sop_class: str) -> str:
    """The role of a storage class; anything unknown may be an image."""
    if not sop_class.startswith(_STORAGE):
        return IMAGE
    ending = sop_class.removeprefix(_STORAGE)
    while ending:
        if ending in _ROLES:
            return _ROLES[ending]
        ending = ending.rpartition(".")[0]
    return IMAGE


def _without_pixels(dataset: pydicom.Dataset, classes: list[str], role: str) -> str:
    if role != IMAGE:
        return role
    is_placed = any(keyword in dataset for keyword in ("ImagePositionPatient", "PixelSpacing", "Rows", "Columns"))
    is_image = any(one in _IMAGE_CLASSES for one in classes) or dataset.get("Modality") in _IMAGE_MODALITIES
    if is_placed or is_image:
        raise ValueError("an image without rows or columns")
    if not dataset.get("SeriesInstanceUID"):
        raise ValueError("neither an image nor any other object that says what it is")
    return "object without pixels"


def _is_coloured(dataset: pydicom.Dataset) -> bool:
    """Whether it is beyond doubt a colour image; one attribute out of step with the others is damage instead."""
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    in_three = dataset.get("SamplesPerPixel") == 3 and photometric.startswith(("RGB", "YBR_"))
    return in_three or photometric == "PALETTE COLOR"


def _says_dose(dataset: pydicom.Dataset) -> bool:
    return bool(_DOSE_WORDS.search(str(dataset.get("SeriesDescription") or "").lower()))


def _localiser_of(dataset: pydicom.Dataset) -> str | None:
    """ "localiser", or "scout" as its CT kind is called, if the image type or the series description says so."""
    kinds = {str(value).strip().upper() for value in several(dataset.get("ImageType"))}
    words = set(re.split(r"[^a-z0-9]+", str(dataset.get("SeriesDescription") or "").lower()))
    if "LOCALIZER" in kinds or words & _LOCALISER_WORDS:
        return "scout" if dataset.get("Modality") == "CT" else "localiser"
    if "SCREEN SAVE" in kinds and not dataset.get("ImagePositionPatient"):
        return "dose report" if _says_dose(dataset) else "screen capture"
    return None
