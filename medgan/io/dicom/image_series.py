"""MR and CT image series as one pydicom data set for each slice (DICOM PS3.3 A.3 and A.4).

This is what derived and synthetic series have in common: pixels, planes and what every image must carry.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from medgan import __version__
from medgan.errors import MedganError
from medgan.files import atomic_path
from medgan.io.dicom import attributes
from medgan.io.dicom.anatomy import is_unpaired
from medgan.io.dicom.encode import StoredPixels, decimal_string
from medgan.io.dicom.layout import SliceStack
from medgan.io.dicom.uids import derived_uid

# Modalities that can be written, and the single-frame storage class of each.
STORAGE = {"MR": MRImageStorage, "CT": CTImageStorage}
_REQUIRED_EMPTY = {"MR": attributes.REQUIRED_EMPTY_MR, "CT": attributes.REQUIRED_EMPTY_CT}

# Facts that single-frame images say by ImageType, if at all.
_MULTI_FRAME_ONLY = ("ComplexImageComponent", "AcquisitionContrast", "ApplicableSafetyStandardAgency")

# The darkest and brightest half percent may be outliers; the window leaves them out.
_WINDOW_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, order=True)
class SourceInstance:
    """What a reference to a source image needs.

    Args:
        series: SeriesInstanceUID.
        sop_class: SOPClassUID.
        sop_instance: SOPInstanceUID.
        frames: which frames of a multi-frame image, counted from 1; all if there are none.
    """

    series: str
    sop_class: str
    sop_instance: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class ImageSeries:
    """Everything that goes into the files of a series.

    Args:
        modality: "MR" or "CT".
        head: attributes of patient, study, series and equipment that all instances carry; StudyInstanceUID,
            SeriesInstanceUID and FrameOfReferenceUID among them.
        facts: how and when the sources were acquired, as single-frame images hold it.
        provenance: DerivationDescription and DerivationCodeSequence.
        sources: the instances that the series is derived from; none if it is synthetic.
        flavour: third value of ImageType.
        resampled: whether the voxels lie on another grid than those that they come from.
        stack: where the slices lie.
        pixels: what is stored of `stack.voxels`, in the same shape.
        window: centre and width, in the units of the values.
        thickness: of a slice in mm; None if it is unknown.
    """

    modality: str
    head: Dataset
    facts: Dataset
    provenance: Dataset
    sources: tuple[SourceInstance, ...]
    flavour: str
    resampled: bool
    stack: SliceStack
    pixels: StoredPixels
    window: tuple[float, float]
    thickness: float | None


def single_frames(series: ImageSeries) -> Iterator[Dataset]:
    """One data set for each slice, with its file meta information."""
    common = Dataset()
    for part in (series.head, series.facts, series.provenance):
        common.update(part)
    if series.sources:
        common.SourceImageSequence = source_items(series.sources)
    common.ImageType = ["DERIVED", "SECONDARY", series.flavour]
    common.update(pixel_description(series))
    common.update(window_attributes(series.window))
    common.update(rescale_attributes(series))
    common.update(pixel_measures(series))
    common.ImageOrientationPatient = [decimal_string(cosine) for cosine in series.stack.orientation]
    if series.modality == "MR":
        common.setdefault("ScanningSequence", "RM")
        common.setdefault("SequenceVariant", "NONE")
    if is_unpaired(common):
        common.pop("Laterality", None)
    else:
        common.setdefault("Laterality", None)
    for keyword in _MULTI_FRAME_ONLY:
        common.pop(keyword, None)
    for keyword in (*attributes.REQUIRED_EMPTY, *_REQUIRED_EMPTY[series.modality]):
        if keyword not in common:
            setattr(common, keyword, None)
    encoded = _encoded(common)
    for index, pixels in enumerate(series.pixels.stored):
        image = Dataset()
        image.update(encoded)
        image.set_original_encoding(False, True, encoded.original_character_set)
        image.SOPInstanceUID = derived_uid("instance", str(common.SeriesInstanceUID), index)
        image.InstanceNumber = index + 1
        image.ImagePositionPatient = [decimal_string(number) for number in series.stack.position(index)]
        image.SliceLocation = decimal_string(series.stack.location(index))
        image.add_new("SmallestImagePixelValue", "US", int(pixels.min()))
        image.add_new("LargestImagePixelValue", "US", int(pixels.max()))
        image.add_new("PixelData", "OW", pixels.tobytes())
        yield as_instance(image, STORAGE[series.modality])


def _encoded(common: Dataset) -> Dataset:
    """The data set with its elements as the bytes that are written, so that a series of hundreds of slices that each
    refer to hundreds of sources is not encoded anew for every slice."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, common)
    return read_dataset(io.BytesIO(buffer.getvalue()), is_implicit_VR=False, is_little_endian=True)


def write_instances(instances: Iterable[Dataset], folder: Path) -> list[Path]:
    """Write one file for each instance into a folder, which appears whole or not at all.

    Raises:
        MedganError: something stands at `folder` already, or the place cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MedganError("something stands here already", file=folder, hint="Name a new folder for the series.")
    names = []
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for number, instance in enumerate(instances, start=1):
            names.append(f"IM{number:05d}.dcm")
            dcmwrite(temporary / names[-1], instance, enforce_file_format=True)
    return [folder / name for name in names]


def as_instance(dataset: Dataset, storage: UID) -> Dataset:
    """The data set with its class and the file meta information that belongs to it."""
    dataset.SOPClassUID = storage
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = storage, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationVersionName = f"MEDGAN {__version__}"[:16]
    dataset.file_meta = meta
    return dataset


def pixel_description(series: ImageSeries) -> Dataset:
    """What the stored integers are (Image Pixel module, PS3.3 C.7.6.3)."""
    part = Dataset()
    _, part.Rows, part.Columns = series.pixels.stored.shape
    part.SamplesPerPixel, part.PhotometricInterpretation = 1, "MONOCHROME2"
    part.BitsAllocated, part.BitsStored, part.HighBit, part.PixelRepresentation = 16, 16, 15, 0
    return part


def pixel_measures(series: ImageSeries) -> Dataset:
    """Distances in mm: PixelSpacing, SliceThickness, SpacingBetweenSlices."""
    part = Dataset()
    part.PixelSpacing = [decimal_string(step) for step in series.stack.pixel_spacing]
    part.SliceThickness = None if series.thickness is None else decimal_string(series.thickness)
    part.SpacingBetweenSlices = decimal_string(series.stack.slice_spacing)
    return part


def rescale_attributes(series: ImageSeries) -> Dataset:
    """Slope and intercept; none for an MR image whose stored integers are its values.

    The MR Image IOD knows no Modality LUT. Its attributes are added all the same where they are needed, which makes the
    file a standard extended SOP class (PS3.2 section 7.3), as scanners of several makers write it.
    """
    part = Dataset()
    if series.modality == "MR" and series.pixels.is_identity:
        return part
    part.RescaleSlope, part.RescaleIntercept = series.pixels.slope, series.pixels.intercept
    part.RescaleType = "HU" if series.modality == "CT" else "US"
    return part


def window_attributes(window: tuple[float, float]) -> Dataset:
    """WindowCenter and WindowWidth; widths below 1 are defined for the exact linear function only (C.11.2.1.3.2)."""
    part = Dataset()
    part.WindowCenter, part.WindowWidth = (decimal_string(number) for number in window)
    if window[1] < 1:
        part.VOILUTFunction = "LINEAR_EXACT"
    return part


def window_of(voxels: np.ndarray) -> tuple[float, float]:
    """Centre and width of a window that shows all but the darkest and the brightest half percent of the voxels."""
    # A few million voxels say as much as all of them.
    sample = voxels.reshape(-1)[:: max(1, voxels.size // 4_000_000)]
    low, high = (float(value) for value in np.percentile(sample, _WINDOW_PERCENTILES))
    if not high > low:
        low, high = float(voxels.min()), float(voxels.max())
    return (low + high) / 2, (high - low) or 1.0


def source_items(sources: Iterable[SourceInstance]) -> list[Dataset]:
    """Items of SourceImageSequence, each with the purpose of the reference (PS3.3 C.12.4, PS3.16 CID 7202)."""
    purpose = code_item(codes.DCM.SourceImageForImageProcessingOperation)
    items = []
    for source in sources:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.sop_class, source.sop_instance
        item.PurposeOfReferenceCodeSequence = [purpose]
        if source.frames:
            item.ReferencedFrameNumber = list(source.frames)
        items.append(item)
    return items


def code_item(code: Code) -> Dataset:
    """A code sequence item (PS3.3 section 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def describe_equipment(dataset: Dataset, model_sha256: str | None) -> None:
    """Name medgan, its version and the model in the attributes of the General Equipment module (C.7.5.1)."""
    dataset.Manufacturer, dataset.ManufacturerModelName = "medgan", "medgan"
    dataset.DeviceSerialNumber = model_sha256 or "no trained model"
    dataset.SoftwareVersions = __version__
