"""MR and CT image series as one enhanced multi-frame data set (DICOM PS3.3 A.36 and A.38)."""

from __future__ import annotations

import datetime

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage

from medgan.errors import MedganError
from medgan.io.dicom import attributes
from medgan.io.dicom.anatomy import region_of
from medgan.io.dicom.encode import decimal_string
from medgan.io.dicom.image_series import (
    ImageSeries,
    as_instance,
    code_item,
    pixel_description,
    pixel_measures,
    source_items,
    window_attributes,
)
from medgan.io.dicom.uids import derived_uid

_STORAGE = {"MR": EnhancedMRImageStorage, "CT": EnhancedCTImageStorage}

# The length of an element is a 32-bit number.
_LARGEST_PIXEL_DATA = 2**32 - 2

# ComplexImageComponent from the third value of a single-frame ImageType, as the makers of scanners write it.
_COMPONENTS = {
    "P": "PHASE",
    "PHASE": "PHASE",
    "PHASE MAP": "PHASE",
    "R": "REAL",
    "REAL": "REAL",
    "I": "IMAGINARY",
    "IMAGINARY": "IMAGINARY",
}


def multi_frame(series: ImageSeries, moment: datetime.datetime) -> Dataset:
    """All slices as one instance, with its file meta information.

    Args:
        series: what to write.
        moment: when the content was made; the standard demands ContentDate and ContentTime here.

    Raises:
        MedganError: the pixels are more than one instance can hold, or hold annotation.
    """
    if series.pixels.stored.nbytes > _LARGEST_PIXEL_DATA:
        raise MedganError(
            f"{series.pixels.stored.nbytes / 2**30:.1f} GiB of pixels are more than one multi-frame image can hold",
            hint="Write single-frame images: --format dicom.",
        )
    if series.head.get("BurnedInAnnotation") == "YES":
        raise MedganError(
            "the source images hold burned-in annotation, which enhanced multi-frame images may not (PS3.3 C.8.13.1)",
            hint="Write single-frame images: --format dicom.",
        )
    image = Dataset()
    image.update(series.head)
    for keyword in attributes.REQUIRED_EMPTY:
        if keyword not in image:
            setattr(image, keyword, None)
    for keyword in ("AnatomicRegionSequence", "Laterality", "BodyPartExamined"):
        image.pop(keyword, None)
    image.SOPInstanceUID = derived_uid("instance", str(image.SeriesInstanceUID), "multi-frame")
    image.InstanceNumber = 1
    image.ContentDate, image.ContentTime = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    image.update(pixel_description(series))
    image.update(_image_description(series))
    image.AcquisitionContextSequence = []
    image.BurnedInAnnotation = "NO"
    if series.modality == "MR":
        # Demanded of every MR image (C.8.13.2), and not known of the scanner behind single-frame sources.
        image.ApplicableSafetyStandardAgency = series.facts.get("ApplicableSafetyStandardAgency", "UNKNOWN")
    image.LossyImageCompression = series.head.get("LossyImageCompression", "00")
    image.PresentationLUTShape = "IDENTITY"
    _add_evidence(image, series)
    _add_dimensions(image)
    image.NumberOfFrames = len(series.pixels.stored)
    image.SharedFunctionalGroupsSequence = [_shared_groups(series)]
    image.PerFrameFunctionalGroupsSequence = [_frame_groups(series, k) for k in range(image.NumberOfFrames)]
    image.add_new("PixelData", "OW", series.pixels.stored.tobytes())
    return as_instance(image, _STORAGE[series.modality])


def _frame_type(series: ImageSeries) -> list[str]:
    """Four values; the second is PRIMARY in every enhanced image (PS3.3 C.8.16.1)."""
    return ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if series.resampled else "NONE"]


def _image_description(series: ImageSeries) -> Dataset:
    """Common CT/MR and MR image description macros (C.8.16.2 and C.8.13.3.1)."""
    part = Dataset()
    part.ImageType = _frame_type(series)
    part.PixelPresentation, part.VolumetricProperties = "MONOCHROME", "VOLUME"
    part.VolumeBasedCalculationTechnique = "NONE"
    if series.modality == "MR":
        known = series.facts.get("ComplexImageComponent")
        part.ComplexImageComponent = known or _COMPONENTS.get(series.flavour, "MAGNITUDE")
        part.AcquisitionContrast = series.facts.get("AcquisitionContrast", "UNKNOWN")
    return part


def _add_evidence(image: Dataset, series: ImageSeries) -> None:
    """List the source instances by study and series, as whoever refers to source images must here (C.8.13.1)."""
    by_series: dict[str, list[Dataset]] = {}
    for source in series.sources:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.sop_class, source.sop_instance
        by_series.setdefault(source.series, []).append(reference)
    if not by_series:
        return
    study = Dataset()
    study.StudyInstanceUID = image.StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for uid, references in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedSOPSequence = uid, references
        study.ReferencedSeriesSequence.append(item)
    image.SourceImageEvidenceSequence = [study]


def _add_dimensions(image: Dataset) -> None:
    """Frames are ordered by their place in one stack (C.7.6.17)."""
    organization = Dataset()
    organization.DimensionOrganizationUID = derived_uid("dimensions", str(image.SeriesInstanceUID))
    image.DimensionOrganizationSequence = [organization]
    image.DimensionOrganizationType = "3D"
    image.DimensionIndexSequence = []
    for keyword, label in (("StackID", "Stack"), ("InStackPositionNumber", "Position in stack")):
        index = Dataset()
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionIndexPointer, index.FunctionalGroupPointer = Tag(keyword), Tag("FrameContentSequence")
        index.DimensionDescriptionLabel = label
        image.DimensionIndexSequence.append(index)


def _shared_groups(series: ImageSeries) -> Dataset:
    """Functional groups that hold for all frames."""
    groups = Dataset()
    measures = pixel_measures(series)
    if series.thickness is None:
        # It must have a value here (C.7.6.16.2.1); without gaps and overlaps it is this.
        measures.SliceThickness = measures.SpacingBetweenSlices
    groups.PixelMeasuresSequence = [measures]
    orientation = Dataset()
    orientation.ImageOrientationPatient = [decimal_string(cosine) for cosine in series.stack.orientation]
    groups.PlaneOrientationSequence = [orientation]
    groups.FrameAnatomySequence = [_anatomy(series.head)]
    groups.FrameVOILUTSequence = [window_attributes(series.window)]
    groups.DerivationImageSequence = [_derivation(series)]
    values = Dataset()
    values.RescaleSlope, values.RescaleIntercept = series.pixels.slope, series.pixels.intercept
    values.RescaleType = "HU" if series.modality == "CT" else "US"
    groups.PixelValueTransformationSequence = [values]
    frame_type = _image_description(series)
    frame_type.FrameType = frame_type.ImageType
    del frame_type.ImageType
    if series.modality == "CT":
        groups.CTImageFrameTypeSequence = [frame_type]
        groups.IrradiationEventIdentificationSequence = [_irradiation(series)]
        return groups
    groups.MRImageFrameTypeSequence = [frame_type]
    groups.update(_echo(series.facts))
    return groups


def _echo(facts: Dataset) -> Dataset:
    """The echo time in ms, if it is known (C.8.13.5.4).

    Repetition time and flip angle stand in a group that cannot be there without the absorption rates and the safety
    standard of an acquisition, so they are left to the source images.
    """
    groups = Dataset()
    if facts.get("EchoTime") is not None:
        echo = Dataset()
        echo.EffectiveEchoTime = float(facts.EchoTime)
        groups.MREchoSequence = [echo]
    return groups


def _irradiation(series: ImageSeries) -> Dataset:
    """The event in which the sources were acquired (C.8.22.3), by a UID made from theirs if they do not name it."""
    item = Dataset()
    known = series.facts.get("IrradiationEventUID")
    item.IrradiationEventUID = known or derived_uid("irradiation", sorted({source.series for source in series.sources}))
    return item


def _derivation(series: ImageSeries) -> Dataset:
    """Derivation Image macro (C.7.6.16.2.6)."""
    item = Dataset()
    item.update(series.provenance)
    item.SourceImageSequence = source_items(series.sources)
    return item


def _anatomy(head: Dataset) -> Dataset:
    """Frame Anatomy macro (C.7.6.16.2.8)."""
    item = Dataset()
    item.AnatomicRegionSequence = [code_item(region_of(head))]
    item.FrameLaterality = head.Laterality if head.get("Laterality") in ("R", "L") else "U"
    return item


def _frame_groups(series: ImageSeries, index: int) -> Dataset:
    """Functional groups of one frame."""
    groups, content, position = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", index + 1
    content.DimensionIndexValues = [1, index + 1]
    position.ImagePositionPatient = [decimal_string(number) for number in series.stack.position(index)]
    groups.FrameContentSequence, groups.PlanePositionSequence = [content], [position]
    return groups
