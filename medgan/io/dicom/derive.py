"""Derived image series: what medgan made of a patient's images, filed with them and never to be taken for them.

The attributes are those of DICOM PS3.3 for derived images (C.7.6.1.1.2, C.12.4), in words for readers and in codes for
machines.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from medgan import __version__
from medgan.errors import MedganError
from medgan.io.dicom import attributes
from medgan.io.dicom.encode import stored_pixels
from medgan.io.dicom.headers import pydicom_quiet
from medgan.io.dicom.image_series import (
    STORAGE,
    ImageSeries,
    code_item,
    describe_equipment,
    single_frames,
    window_of,
    write_instances,
)
from medgan.io.dicom.layout import SliceStack, slice_stack
from medgan.io.dicom.multi_frame import multi_frame
from medgan.io.dicom.sources import SourceImages, source_images, text_of
from medgan.io.dicom.uids import derived_uid
from medgan.volume import Volume

# PS3.16 CID 7203, Image Derivation; the second is from CID 7162, the last a code of our own (it may be extended).
SPATIAL_RESAMPLING: Code = codes.DCM.SpatialResampling
ARTIFICIAL_INTELLIGENCE: Code = codes.DCM.ArtificialIntelligence
FORMAT_CONVERSION = Code("conversion", "99MEDGAN", "Converted between file formats")

# The same by what was done, for those who have no reason to know of codes.
STEPS: Mapping[str, Code] = {
    "resampled": SPATIAL_RESAMPLING,
    "learned": ARTIFICIAL_INTELLIGENCE,
    "converted": FORMAT_CONVERSION,
}

# Relative difference between slice distances that counts as none.
_SAME_SPACING = 1e-3
# A derived volume's centre may lie this far outside the box of its sources, in mm: their outer half slices.
_BOX_MARGIN_MM = 10.0
_LONG_STRING, _SHORT_TEXT = 64, 1024
_LARGEST_SERIES_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Derivation:
    """What was done to the source images.

    Args:
        label: one word for the series' name, such as "upscaled".
        description: what was done, for the reader of the images; names no file and no person.
        codes: the steps, in their order; at least one.
        model_sha256: of the trained model's weights, if one took part.
        parameters: whatever else decides the voxels. Equal sources, model and parameters give equal UIDs.
        keeps_contrast: whether the acquisition facts (echo time and the like) still say how contrast came about; not so
            after translation to another contrast.
        series_number: of the new series; made from that of the sources if None.
    """

    label: str
    description: str
    codes: tuple[Code, ...]
    model_sha256: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    keeps_contrast: bool = True
    series_number: int | None = None


def write_derived(
    volume: Volume,
    sources: Iterable[str | Path],
    folder: str | Path,
    *,
    derivation: Derivation,
    enhanced: bool = False,
) -> list[Path]:
    """Write a volume as an MR or CT image series derived from other images.

    The new series stands in the sources' study and frame of reference, runs in their slice direction and says in each
    file that it is derived, by what, from which images and for research. Of the sources' attributes only those are
    taken over that all of them share and that still hold. UIDs depend on sources, model, parameters and grid alone; so
    does every byte of single-frame files, while a multi-frame file holds the moment of its making.

    Args:
        volume: one channel, at any obliquity; perpendicular axes.
        sources: the DICOM files that it was made from, all of one series or at least of one study.
        folder: a new folder; it appears whole or not at all.
        derivation: what was done.
        enhanced: one multi-frame file instead of one file for each slice.

    Returns:
        The files, in the order of the slices along their normal.

    Raises:
        MedganError: the sources are no MR or CT images of one patient, study and frame of reference, or the volume
            lies elsewhere or is synthetic, which they are not; it has several channels, sheared axes or values that
            are not finite; or the folder is not new.
    """
    images = source_images([Path(source) for source in sources], _frames(volume))
    modality = text_of(images.shared, "Modality")
    _require_fitting(volume, images, modality)
    stack = slice_stack(volume, images.orientation)
    _require_same_place(volume, images)
    series = ImageSeries(
        modality=modality,
        head=_head(images, stack, derivation, enhanced),
        facts=_facts(images.shared, modality, derivation),
        provenance=_provenance(derivation),
        sources=images.instances,
        flavour=_flavour(images.shared, modality) if derivation.keeps_contrast else "OTHER",
        resampled=SPATIAL_RESAMPLING in derivation.codes,
        stack=stack,
        pixels=stored_pixels(stack.voxels),
        window=_window(images.shared, stack, modality),
        thickness=_thickness(images, stack),
    )
    with pydicom_quiet():
        made = [multi_frame(series, datetime.datetime.now())] if enhanced else single_frames(series)
        return write_instances(made, Path(folder))


def _head(images: SourceImages, stack: SliceStack, derivation: Derivation, enhanced: bool) -> Dataset:
    """Patient, study, series and equipment."""
    head = _taken(images.shared, (*attributes.PATIENT, *attributes.STUDY, *attributes.SUBJECT, *attributes.ACQUISITION))
    shared = images.shared
    if "SpecificCharacterSet" in shared:
        head["SpecificCharacterSet"] = shared["SpecificCharacterSet"]
    elif images.any_of["SpecificCharacterSet"]:
        head.SpecificCharacterSet = "ISO_IR 192"
    head.Modality = shared.Modality
    if head.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethodCodeSequence" not in head:
        # One of the two must be there (C.7.1.1).
        head.setdefault("DeidentificationMethod", "not stated in the source images")
    head.SeriesInstanceUID = _series_uid(images, stack, derivation, enhanced)
    if "FrameOfReferenceUID" not in head:
        head.FrameOfReferenceUID = derived_uid("frame of reference", head.SeriesInstanceUID)
    head.SeriesNumber = _series_number(derivation, text_of(shared, "SeriesNumber"))
    name = f"{derivation.label.upper()} by medgan {text_of(shared, 'SeriesDescription')}"
    head.SeriesDescription = name[:_LONG_STRING].strip()
    head.ContentQualification = "RESEARCH"
    _add_flags(head, images)
    describe_equipment(head, derivation.model_sha256)
    head.ContributingEquipmentSequence = _contributions(shared, derivation)
    if any(code.scheme_designator == FORMAT_CONVERSION.scheme_designator for code in derivation.codes):
        head.CodingSchemeIdentificationSequence = [_own_coding_scheme()]
    return head


def _facts(shared: Dataset, modality: str, derivation: Derivation) -> Dataset:
    """How and when the sources were acquired, in the attributes of single-frame images."""
    facts = _taken(shared, (*attributes.ACQUISITION_DAY, "ApplicableSafetyStandardAgency"))
    if derivation.keeps_contrast:
        facts.update(_taken(shared, attributes.MR_CONTRAST if modality == "MR" else attributes.CT_CONTRAST))
        facts.update(_taken(shared, attributes.CONTRAST_AGENT))
        facts.update(_taken(shared, ("ComplexImageComponent", "AcquisitionContrast") if modality == "MR" else ()))
    if "IR" not in text_of(facts, "ScanningSequence").split():
        # Some scanners state it for other sequences too, where the standard has no place for it (C.8.3.1).
        facts.pop("InversionTime", None)
    return facts


def _taken(source: Dataset, keywords: Iterable[str]) -> Dataset:
    part = Dataset()
    for keyword in keywords:
        if keyword in source:
            part[keyword] = source[keyword]
    return part


def _series_uid(images: SourceImages, stack: SliceStack, derivation: Derivation, enhanced: bool) -> str:
    return derived_uid(
        "derived series",
        __version__,
        [[one.sop_instance, *one.frames] for one in images.instances],
        [derivation.label, derivation.description, [list(code[:2]) for code in derivation.codes]],
        derivation.model_sha256,
        dict(derivation.parameters),
        [list(stack.voxels.shape), np.round(stack.lps, 6).tolist()],
        enhanced,
    )


def _series_number(derivation: Derivation, source: str) -> int:
    """The sources' number with two digits behind it, so that the new series stands beside them in any list."""
    if derivation.series_number is not None:
        return derivation.series_number
    number = 100 * int(float(source or 0)) + 1
    return number if 0 < number <= _LARGEST_SERIES_NUMBER else 1


def _add_flags(head: Dataset, images: SourceImages) -> None:
    """What a derived image inherits as soon as one source has it, and what it is free of only if all are."""
    for keyword in ("BurnedInAnnotation", "RecognizableVisualFeatures"):
        if "YES" in images.any_of[keyword]:
            setattr(head, keyword, "YES")
        elif keyword in images.shared:
            head[keyword] = images.shared[keyword]
    if "YES" in images.any_of["SyntheticData"]:
        head.SyntheticData = "YES"
    if "01" in images.any_of["LossyImageCompression"]:
        head.LossyImageCompression = "01"
        head.update(_taken(images.shared, ("LossyImageCompressionRatio", "LossyImageCompressionMethod")))
    elif "LossyImageCompression" in images.shared:
        head.LossyImageCompression = "00"


def _contributions(shared: Dataset, derivation: Derivation) -> list[Dataset]:
    """The scanner, whatever else the sources name, and medgan (PS3.16 CID 7005)."""
    scanner = _taken(shared, attributes.EQUIPMENT)
    items = list(shared.get("ContributingEquipmentSequence", []))
    # What medgan derived before names its scanner in the items already.
    if scanner.get("Manufacturer") not in (None, "medgan"):
        scanner.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.AcquisitionEquipment)]
        scanner.ContributionDescription = "Equipment that made the source images"
        items.append(scanner)
    medgan = Dataset()
    describe_equipment(medgan, derivation.model_sha256)
    medgan.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    with_model = f", model weights SHA-256 {derivation.model_sha256}" if derivation.model_sha256 else ""
    medgan.ContributionDescription = f"{derivation.label} by medgan {__version__}{with_model}; for research only"
    return [*items, medgan]


def _own_coding_scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = FORMAT_CONVERSION.scheme_designator
    item.CodingSchemeName = "Codes of medgan"
    item.CodingSchemeResponsibleOrganization = "The medgan authors"
    return item


def _provenance(derivation: Derivation) -> Dataset:
    part = Dataset()
    notice = "For research, not for diagnosis."
    part.DerivationDescription = f"{derivation.description[: _SHORT_TEXT - len(notice) - 2].rstrip('.')}. {notice}"
    part.DerivationCodeSequence = [code_item(code) for code in derivation.codes]
    return part


def _flavour(shared: Dataset, modality: str) -> str:
    """The third value of ImageType: that of the sources where it tells kinds of MR images apart; any cross-section is
    AXIAL in CT (C.8.2.1.1.1)."""
    if modality == "CT":
        return "AXIAL"
    values = shared.get("ImageType")
    return str(values[2]) if isinstance(values, MultiValue) and len(values) > 2 and values[2] else "OTHER"


def _window(shared: Dataset, stack: SliceStack, modality: str) -> tuple[float, float]:
    """The sources' own window where units are absolute, else one that fits the voxels."""
    centre, width = shared.get("WindowCenter"), shared.get("WindowWidth")
    if modality == "CT" and isinstance(centre, float) and isinstance(width, float) and width >= 1:
        return float(centre), float(width)
    return window_of(stack.voxels)


def _thickness(images: SourceImages, stack: SliceStack) -> float | None:
    """Of a slice in mm: the sources' while the slice distance is theirs, else the new distance."""
    step = stack.slice_spacing
    if images.slice_spacing is not None and abs(step - images.slice_spacing) <= _SAME_SPACING * step:
        stated = images.shared.get("SliceThickness")
        return None if stated is None else float(stated)
    return step


def _frames(volume: Volume) -> dict[Path, list[int]]:
    """Which frames of which files a volume was read from, as far as it knows."""
    known = volume.metadata.get("dicom", {})
    frames: dict[Path, list[int]] = {}
    for file, frame in zip(known.get("files", ()), known.get("frames", ()), strict=False):
        if frame is not None:
            frames.setdefault(Path(file), []).append(frame)
    return frames


def _require_fitting(volume: Volume, images: SourceImages, modality: str) -> None:
    """Refuse what has no storage class here, and images of nobody in a real patient's study."""
    if modality not in STORAGE:
        raise MedganError(
            f"the source images have the modality '{modality}'; medgan writes {' and '.join(STORAGE)} images",
            hint="Write a NIfTI file instead.",
        )
    if volume.metadata.get("synthetic") and images.any_of["SyntheticData"] != {"YES"}:
        raise MedganError(
            "this volume is synthetic and shows nobody, so it is not filed with a real patient",
            hint="Draw synthetic DICOM series by generate --format dicom.",
        )


def _require_same_place(volume: Volume, images: SourceImages) -> None:
    """Refuse a volume that does not lie where the sources do: it was made from others."""
    if images.box is None:
        return
    centre = np.append((np.array(volume.shape) - 1) / 2, 1.0)
    x, y, z = (volume.affine @ centre)[:3] * (-1, -1, 1)
    outside = np.maximum(images.box[0] - (x, y, z), (x, y, z) - images.box[1]).max()
    if outside > _BOX_MARGIN_MM:
        raise MedganError(
            f"the volume's centre lies {outside:.0f} mm outside the source images, so it was not made from them",
            hint="Name the series that it was made from.",
        )
