"""Scans that cannot or must not be worked on: not finite, constant, or no images but labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.mask_names import LABEL_NAME
from medgan.errors import MedganError
from medgan.volume import Volume

# NIfTI-1's code for an image whose values are labels (nifti1.h, NIFTI_INTENT_LABEL).
_INTENT_LABEL = 1002
# An image of whole numbers with at most so many different ones, of whose neighbours outside the background at least
# this share are equal. Segmentations have shares of 0.99, parcellations of some hundred labels above 0.7; scans, even
# those of 8 bits, stay below 0.25.
_MOST_LABELS, _FLAT = 512, 0.7
_UPSCALED = (
    "Upscale the scan that it was drawn on, and bring labels onto the new grid by nearest neighbour. "
    "If it is a phantom of flat regions, use `medgan.inference.upscale.upscale` from Python."
)


def require_finite(volume: Volume) -> None:
    """Refuse not-a-number and infinity, which would spread over the whole result.

    Raises:
        MedganError: there are such voxels; the message counts them.
    """
    bad = 0 if volume.data.dtype.kind in "iu" else int(volume.data.size - np.count_nonzero(np.isfinite(volume.data)))
    if bad:
        raise MedganError(
            f"{bad} of {volume.data.size} voxels are not finite (NaN or infinite)",
            hint="Replace them, for instance by the background's value.",
        )


def require_image(volume: Volume, name: str = "", *, nothing: str = "make sharper", advice: str = _UPSCALED) -> None:
    """Refuse what holds no image.

    Args:
        volume: as it was read.
        name: of the file without ending; BIDS says by it that an image is a segmentation or a mask.
        nothing: what there is nothing of in a constant volume, as a verb.
        advice: what to do with a label map.

    Raises:
        MedganError: all voxels are equal, or the voxels are labels.
    """
    first = volume.data.flat[0]
    if (volume.data == first).all():
        raise MedganError(
            f"every voxel is {first:g}: there is nothing to {nothing}",
            hint="Look at the scan with `medgan inspect`; it may be empty or the wrong file.",
        )
    why = _why_labels(volume, name)
    if why is not None:
        raise MedganError(
            f"this is a label map ({why}), and values between two labels mean nothing",
            hint=advice,
        )


def _why_labels(volume: Volume, name: str) -> str | None:
    """What gives a label map away; None for an image."""
    found = LABEL_NAME.search(name)
    if found:
        return f"by its name, which ends in '{found.group().lstrip('_.-')}'"
    if volume.metadata.get("nifti", {}).get("intent_code") == _INTENT_LABEL:
        return "by its header's intent code"
    if "modality" in volume.metadata or not _is_whole(volume.data):
        return None
    count = len(np.unique(volume.data))
    if count <= _MOST_LABELS and _flatness(volume.data) >= _FLAT:
        return f"{count} different whole numbers in flat regions"
    return None


def _is_whole(data: NDArray[Any]) -> bool:
    """Whether all values are whole numbers, of whatever type: some programs store labels as floating-point numbers."""
    return data.dtype.kind in "iu" or all(bool((part == np.rint(part)).all()) for part in data.swapaxes(0, 1))


def _flatness(data: NDArray[Any]) -> float:
    """The share of neighbouring voxel pairs outside the background whose values are equal; 0 if there are none."""
    values, counts = np.unique(data, return_counts=True)
    background = values[np.argmax(counts)]
    equal = pairs = 0
    for axis in (1, 2, 3):
        one, other = (np.take(data, range(*ends), axis) for ends in ((0, data.shape[axis] - 1), (1, data.shape[axis])))
        inside = (one != background) & (other != background)
        pairs += int(np.count_nonzero(inside))
        equal += int(np.count_nonzero(inside & (one == other)))
    return equal / pairs if pairs else 0.0
