"""Enhanced multi-frame objects: one header per frame, as if each frame were a file of its own.

An enhanced object states what all frames share once and what differs per frame, in functional groups (DICOM PS3.3
C.7.6.16). Each group is a sequence of one item, whose attributes mean what they mean at the top level of a single-frame
image, or nearly; laid flat, a frame reads like one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from medgan.io.dicom.coding import real_world_map
from medgan.io.dicom.headers import HEADER_TAGS, SliceHeader, header_of
from medgan.io.dicom.quick import PlainDataset
from medgan.io.dicom.values import several

TAGS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")

# The groups that say where a frame lies, what its values mean or which volume it belongs to; the two last hold what a
# conversion from single-frame images (legacy converted objects) found no group for.
_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "MREchoSequence",
    "MRTimingAndRelatedParametersSequence",
    "MRModifierSequence",
    "MRDiffusionSequence",
    "DiffusionGradientDirectionSequence",
    "TemporalPositionSequence",
    "CardiacSynchronizationSequence",
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
)
_WHOLE_GROUPS = ("RealWorldValueMappingSequence",)

# Attributes of frames, and those of single-frame images that mean the same.
_SINGLE_FRAME_NAMES = {
    "FrameType": "ImageType",
    "EffectiveEchoTime": "EchoTime",
    "InversionTimes": "InversionTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
}


# What is taken from a group: the attributes of headers, under either name.
_GROUP_TAGS = [BaseTag(tag_for_keyword(keyword) or 0) for keyword in _GROUPS]
_ASKED = frozenset(tag for tag in HEADER_TAGS if isinstance(tag, str)) | {"StackID"}
_TAKEN = {tag_for_keyword(keyword): keyword for keyword in (*_ASKED, *_SINGLE_FRAME_NAMES)}


def frames_of(dataset: pydicom.Dataset, path: Path) -> list[SliceHeader]:
    """The frames of an enhanced multi-frame object, in the order of the file.

    Args:
        dataset: the object, with its functional groups; pixels are not needed.
        path: its file.

    Returns:
        One header per frame, `frame` counted from 0 and `stack` set where a stack is stated. Several stacks, time
        points or echoes of one object are told apart by whoever groups the headers.

    Raises:
        ValueError: there are no functional groups, their number differs from NumberOfFrames, or an attribute that
            matters cannot be read.
    """
    shared, per_frame = (several(dataset.get(keyword)) for keyword in TAGS)
    if not per_frame:
        raise ValueError("an enhanced multi-frame image without functional groups for its frames")
    common = {keyword: dataset.get(keyword) for keyword in _ASKED - set(TAGS) if keyword in dataset}
    private: dict[BaseTag, pydicom.DataElement | RawDataElement] = {
        element.tag: element for element in dataset if element.tag.is_private
    }
    if shared:
        _lay_flat(common, shared[0])
    headers = []
    for number, groups in enumerate(per_frame):
        values = dict(common)
        _lay_flat(values, groups)
        headers.append(_header(values, private, path, number))
    if headers[0].frames != len(per_frame):
        raise ValueError(f"NumberOfFrames is {headers[0].frames}, but {len(per_frame)} frames are described")
    return headers


def _header(
    values: dict[str, Any], private: dict[BaseTag, pydicom.DataElement | RawDataElement], path: Path, number: int
) -> SliceHeader:
    flat = PlainDataset(private, values, _ASKED)
    header = header_of(flat, path)
    return replace(
        header,
        frame=number,
        plane=header.plane and replace(header.plane, name=f"{path.name} frame {number + 1}"),
        stack=str(values.get("StackID") or ""),
        real_world=real_world_map(flat, header.stored_range),
    )


def _lay_flat(values: dict[str, Any], groups: pydicom.Dataset) -> None:
    """Add the attributes in functional groups to those of the top level, under the names of single-frame images."""
    for item in _items(groups):
        for tag in item.keys():  # noqa: SIM118 - a data set yields elements, and converts each
            keyword = _TAKEN.get(tag)
            if keyword is None:
                continue
            value = item[tag].value
            name = _SINGLE_FRAME_NAMES.get(keyword, keyword)
            values[name] = next(iter(several(value)), None) if keyword == "InversionTimes" else value
    for keyword in _WHOLE_GROUPS:
        if keyword in groups:
            values[keyword] = groups[keyword].value


def _items(groups: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    present = groups.keys()
    for tag in _GROUP_TAGS:
        if tag not in present:
            continue
        for item in several(groups[tag].value)[:1]:
            yield item
            # The direction of the diffusion gradient is a group within a group.
            yield from _items(item)
