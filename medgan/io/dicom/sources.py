"""What the source images of a derived series have in common, by their headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import RAISE
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import validate_value

from medgan.errors import MedganError
from medgan.io.dicom import attributes
from medgan.io.dicom.headers import HEADER_ERRORS, pydicom_quiet
from medgan.io.dicom.image_series import SourceInstance
from medgan.io.dicom.layout import orientation_letters

_COPIED = (
    *attributes.PATIENT,
    *attributes.STUDY,
    *attributes.SUBJECT,
    *attributes.ACQUISITION,
    *attributes.ACQUISITION_DAY,
    *attributes.MR_CONTRAST,
    *attributes.CT_CONTRAST,
    *attributes.CONTRAST_AGENT,
    *attributes.EQUIPMENT,
    *attributes.JUDGED,
)
_GEOMETRY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_READ = [Tag(keyword) for keyword in (*_COPIED, *_GEOMETRY)]

# Whatever their form: whose images they are must never be lost.
_TAKEN_AS_THEY_ARE = [
    Tag(keyword)
    for keyword in (
        "SpecificCharacterSet",
        "PatientName",
        "PatientID",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "AccessionNumber",
        "StudyID",
        *_GEOMETRY,
    )
]

# What the images of one series must agree on before anything may be derived from them as a whole.
_ONE_OF_EACH = {
    "PatientID": "patients",
    "StudyInstanceUID": "studies",
    "FrameOfReferenceUID": "frames of reference",
    "Modality": "modalities",
}

# Where enhanced multi-frame images keep what single-frame ones have at the top (PS3.3 C.7.6.16.2, C.8.13.5).
_IN_GROUPS = {
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "AnatomicRegionSequence": ("FrameAnatomySequence", "AnatomicRegionSequence"),
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
    "ImageType": ("MRImageFrameTypeSequence", "FrameType"),
    "ComplexImageComponent": ("MRImageFrameTypeSequence", "ComplexImageComponent"),
    "AcquisitionContrast": ("MRImageFrameTypeSequence", "AcquisitionContrast"),
}

# Attributes that matter for a derived image as soon as one source has them.
_SOMEWHERE = (
    "SpecificCharacterSet",
    "LossyImageCompression",
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
    "SyntheticData",
)

# Coded with loss whatever the header says (PS3.5 section 8.2): JPEG baseline and extended, near-lossless JPEG-LS.
_ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)

# Row direction, column direction (both LPS) and corner pixels, shape (4, 3) in LPS mm, the first one first.
_Plane = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class SourceImages:
    """The images that a series is derived from.

    Args:
        shared: the attributes that hold for a derived image and have one value in all images; those of
            `medgan.io.dicom.attributes.JUDGED` among them.
        any_of: of some attributes, every value that occurs in an image.
        instances: the images, sorted by their UIDs.
        orientation: where columns, rows and slices of the first image run, such as "LPS".
        slice_spacing: usual mm between neighbouring slices; None if there is one slice only.
        box: least and greatest coordinates of the pixels, shape (2, 3), LPS mm; None if the headers do not say, as in
            mosaics.
    """

    shared: Dataset
    any_of: dict[str, set[str]]
    instances: tuple[SourceInstance, ...]
    orientation: str
    slice_spacing: float | None
    box: NDArray[np.float64] | None


def source_images(files: Iterable[Path], frames: Mapping[Path, Sequence[int]] | None = None) -> SourceImages:
    """Read the headers of the source images.

    Args:
        files: the images.
        frames: which frames of the multi-frame images among them count, from 0; all of those not mentioned.

    Raises:
        MedganError: there are none; one cannot be read or lacks its identifiers or its position; or they belong to
            several patients, studies, frames of reference or modalities.
    """
    paths = sorted({Path(file) for file in files})
    if not paths:
        raise MedganError("a derived series needs the images that it is derived from", hint="Name their series.")
    datasets = [_header(path, (frames or {}).get(path)) for path in paths]
    shared = _shared(datasets)
    for keyword, things in _ONE_OF_EACH.items():
        if keyword not in shared and any(keyword in one for one in datasets):
            raise MedganError(f"the source images belong to different {things}", file=paths[0].parent)
    if not shared.get("StudyInstanceUID"):
        raise MedganError(
            "the source image has no StudyInstanceUID, so a derived series could not be filed with it", file=paths[0]
        )
    planes = [plane for path, one in zip(paths, datasets, strict=True) for plane in _planes(one, path)]
    row, column, _ = planes[0]
    return SourceImages(
        shared=shared,
        any_of={keyword: {text_of(one, keyword) for one in datasets if keyword in one} for keyword in _SOMEWHERE},
        instances=tuple(sorted(_identifiers(one, path) for path, one in zip(paths, datasets, strict=True))),
        orientation=orientation_letters(row, column),
        slice_spacing=_slice_spacing([corners[0] for _, _, corners in planes], np.cross(row, column)),
        box=None if "MOSAIC" in text_of(shared, "ImageType").split() else _box(planes),
    )


def _header(path: Path, frames: Sequence[int] | None) -> Dataset:
    """The elements that matter here of one file; those of functional groups as if it were a single-frame image."""
    try:
        with pydicom_quiet():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_READ), force=True)
            header = Dataset()
            for tag in _READ:
                _copy(dataset, tag, header)
            if dataset.file_meta.get("TransferSyntaxUID") in _ALWAYS_LOSSY:
                header.LossyImageCompression = "01"
            _select_frames(header, frames)
            for keyword, (group, inner) in _IN_GROUPS.items():
                values = [item[inner].value for item in _group_items(header, group) if inner in item]
                if values and all(value == values[0] for value in values):
                    setattr(header, keyword, values[0])
                elif values:
                    header.pop(keyword, None)
    except HEADER_ERRORS as error:
        raise MedganError(f"the DICOM header cannot be read ({error})", file=path) from error
    return header


def _select_frames(header: Dataset, frames: Sequence[int] | None) -> None:
    """Leave out the functional groups of frames that do not count, and note the numbers of those that do."""
    items = header.get("PerFrameFunctionalGroupsSequence")
    chosen = sorted(set(frames or ()))
    if not items or not chosen or len(chosen) == len(items) or chosen[-1] >= len(items):
        return
    header.PerFrameFunctionalGroupsSequence = [items[index] for index in chosen]
    header.ReferencedFrameNumber = [index + 1 for index in chosen]


def _copy(source: Dataset, tag: BaseTag, target: Dataset) -> None:
    """Take over one element, unless its value is none that the standard allows: what is not understood is not passed
    on. Names and identifiers are what they are."""
    try:
        if tag not in source or source[tag].is_empty:
            return
        element = source[tag]
        if tag not in _TAKEN_AS_THEY_ARE and element.VR != "SQ":
            for value in element.value if element.VM > 1 else [element.value]:
                validate_value(element.VR, str(value) if element.VR in ("DS", "IS") else value, RAISE)
        target[tag] = element
    except HEADER_ERRORS:
        return


def _shared(datasets: Sequence[Dataset]) -> Dataset:
    """The copied elements that all have with the same value."""
    first, *others = datasets
    shared = Dataset()
    for keyword in _COPIED:
        if keyword in first and all(keyword in other and other[keyword] == first[keyword] for other in others):
            shared[keyword] = first[keyword]
    return shared


def _identifiers(dataset: Dataset, path: Path) -> SourceInstance:
    missing = [keyword for keyword in ("SOPClassUID", "SOPInstanceUID") if keyword not in dataset]
    if missing:
        raise MedganError(f"the source image has no {missing[0]}, so it cannot be referred to", file=path)
    series = str(dataset.get("SeriesInstanceUID", ""))
    numbers = dataset["ReferencedFrameNumber"].value if "ReferencedFrameNumber" in dataset else []
    frames = tuple(int(number) for number in (numbers if isinstance(numbers, Iterable) else [numbers]))
    return SourceInstance(series, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), frames)


def _planes(dataset: Dataset, path: Path) -> list[_Plane]:
    """Every frame: row direction, column direction, corners."""
    positions = _values(dataset, "PlanePositionSequence", "ImagePositionPatient")
    orientations = _values(dataset, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacings = _values(dataset, "PixelMeasuresSequence", "PixelSpacing")
    if not positions or not orientations or not spacings:
        raise MedganError("the source image says nowhere where its pixels lie", file=path)
    planes = []
    for index, position in enumerate(positions):
        cosines, spacing = orientations[index % len(orientations)], spacings[index % len(spacings)]
        row, column = cosines[:3], cosines[3:]
        across, down = row * spacing[1] * (dataset.Columns - 1), column * spacing[0] * (dataset.Rows - 1)
        planes.append((row, column, np.array([position, position + across, position + down, position + across + down])))
    return planes


def _values(dataset: Dataset, group: str, keyword: str) -> list[NDArray[np.float64]]:
    """An attribute of a single-frame image, or of every frame of a multi-frame one that has it."""
    holders = [dataset] if keyword in dataset else _group_items(dataset, group)
    return [np.array(holder[keyword].value, dtype=np.float64) for holder in holders if keyword in holder]


def _group_items(dataset: Dataset, group: str) -> list[Dataset]:
    """The items of a functional group: the shared one, or that of each frame."""
    return [item for parts in _functional_groups(dataset) for item in parts.get(group) or []]


def _functional_groups(dataset: Dataset) -> Iterator[Dataset]:
    yield from dataset.get("SharedFunctionalGroupsSequence") or []
    yield from dataset.get("PerFrameFunctionalGroupsSequence") or []


def _slice_spacing(positions: Sequence[NDArray[np.float64]], normal: NDArray[np.float64]) -> float | None:
    """The median distance of neighbouring slices that do not lie in one place."""
    steps = np.diff(np.sort(np.array(positions) @ normal))
    steps = steps[steps > 1e-2]
    return float(np.median(steps)) if len(steps) else None


def _box(planes: Sequence[_Plane]) -> NDArray[np.float64]:
    corners = np.concatenate([corners for _, _, corners in planes])
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def text_of(dataset: Dataset, keyword: str) -> str:
    """A text attribute in one line; "" if there is none."""
    value: Any = dataset.get(keyword)
    parts = list(value) if isinstance(value, MultiValue) else [value]
    return " ".join(str(part) for part in parts if part is not None).replace("\\", " ").strip()
