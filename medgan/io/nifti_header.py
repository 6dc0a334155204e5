"""The fields of a NIfTI header that a file written later keeps, as plain values, and how they are set again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medgan.geometry import world_corners

# A header without a unit is read as millimetres, as every tool does.
MILLIMETRES_PER_UNIT: Mapping[str, float] = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}

# Codes of the NIfTI-1 standard for what a qform's or sform's coordinates are.
UNKNOWN, SCANNER, ALIGNED = 0, 1, 2

# How far the corners of two grids may lie apart, in mm, and count as the same: well above the rounding of a float32
# header.
_SAME_PLACE = 1e-3


def units_of(header: Any) -> tuple[str, str]:
    """The spatial and the temporal unit by nibabel's names; codes that the standard does not have count as unknown."""
    try:
        spatial, temporal = header.get_xyzt_units()
    except (KeyError, HeaderDataError):
        return "unknown", "unknown"
    return (spatial if spatial in MILLIMETRES_PER_UNIT else "unknown"), temporal


def header_fields(
    header: Any, affine: NDArray[np.float64], dtype: np.dtype[Any], scaling: tuple[float, float]
) -> dict[str, Any]:
    """What to keep of a NIfTI header.

    Args:
        header: a nibabel NIfTI-1 or NIfTI-2 header.
        affine: the image's affine in the header's own unit.
        dtype: the stored data type.
        scaling: slope and intercept; (1, 0) if there are none.

    Returns:
        `version` (1 or 2), `dtype`, `slope`, `intercept`, `qform_code`, `sform_code`, `spatial_unit`, `temporal_unit`;
        `intent_code`, what the values mean, if the header says it; `temporal_step`, from volume to volume of a 4D
        image in the temporal unit; and `qform` with `affine` (4x4 lists in the header's unit) if the qform places the
        voxels elsewhere than the affine does.
    """
    spatial, temporal = units_of(header)
    fields: dict[str, Any] = {
        "version": 2 if isinstance(header, nib.Nifti2Header) else 1,
        "dtype": dtype.newbyteorder("=").name,
        "slope": scaling[0],
        "intercept": scaling[1],
        "qform_code": int(header["qform_code"]),
        "sform_code": int(header["sform_code"]),
        "spatial_unit": spatial,
        "temporal_unit": temporal,
    }
    if int(header["intent_code"]):
        fields["intent_code"] = int(header["intent_code"])
    if len(header.get_data_shape()) > 3 and float(header["pixdim"][4]) > 0:
        fields["temporal_step"] = float(header["pixdim"][4])
    if fields["qform_code"] and fields["sform_code"]:
        qform = header.get_qform()
        if not _same_place(qform, affine, header.get_data_shape()[:3], MILLIMETRES_PER_UNIT[spatial]):
            fields |= {"qform": qform.tolist(), "affine": affine.tolist()}
    return fields


def slice_direction(header: Any, affine: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """The direction in RAS, of length 1, along which the header says that slices follow each other (dim_info)."""
    axis = header.get_dim_info()[2]
    if axis is None:
        return None
    x, y, z = np.round(affine[:3, axis] / np.linalg.norm(affine[:3, axis]), 6)
    return float(x), float(y), float(z)


def set_forms(image: nib.Nifti1Image, kept: Mapping[str, Any], default_code: int) -> None:
    """Give `image` the qform and sform codes that `kept` holds, without moving any voxel.

    A form that cannot place the voxels where `image.affine` does gives way: a qform (a rotation and voxel sizes)
    cannot hold a shear, and no form at all means the position that readers then assume.
    """
    header, affine = image.header, np.array(image.affine)
    qform_code, sform_code = (int(kept.get(name, default_code)) for name in ("qform_code", "sform_code"))
    shape, millimetres = image.shape[:3], MILLIMETRES_PER_UNIT[units_of(header)[0]]
    header.set_sform(None, UNKNOWN)
    header.set_qform(affine, qform_code)
    qform_fits = _same_place(header.get_qform(), affine, shape, millimetres)
    if qform_code == sform_code == UNKNOWN:
        sform_code = UNKNOWN if _same_place(header.get_base_affine(), affine, shape, millimetres) else ALIGNED
    if "qform" in kept and qform_code:
        moved = np.linalg.inv(np.asarray(kept["affine"])) @ affine
        header.set_qform(np.asarray(kept["qform"]) @ moved, qform_code)
    elif not qform_fits:
        sform_code = sform_code or qform_code
        header.set_qform(affine, UNKNOWN)
    if sform_code:
        header.set_sform(affine, sform_code)
    else:
        # Nibabel would write another form if the image's affine were not exactly the one that the header can hold.
        image.set_sform(None, UNKNOWN, update_affine=True)


def _same_place(
    one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...], millimetres_per_unit: float
) -> bool:
    apart = np.abs(world_corners(one, shape) - world_corners(other, shape)).max()
    return bool(apart * millimetres_per_unit <= _SAME_PLACE)
