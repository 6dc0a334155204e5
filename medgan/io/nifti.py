"""NIfTI files and nibabel images to `Volume` and back.

What a header says besides geometry (codes, units, stored data type, scaling) travels in `volume.metadata["nifti"]` as
plain values, so that a file written later can keep it. Free text of the header is dropped: it may identify the patient.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.files import atomic_path, require_existing
from medgan.geometry import checked_affine, orientation_of, spacing_of
from medgan.io.nifti_header import (
    ALIGNED,
    MILLIMETRES_PER_UNIT,
    SCANNER,
    header_fields,
    set_forms,
    slice_direction,
    units_of,
)
from medgan.volume import Volume

SUFFIXES = (".nii", ".nii.gz")

# Deflate cannot compress by more than this (zlib's documentation), so a header that claims more voxels lies.
_LARGEST_COMPRESSION = 1032

# In the header's description: a scan that shows no real person says so wherever the file goes.
SYNTHETIC_MARK = "SYNTHETIC: made by a generative model, shows no real person"
# The same of contrasts that a model made of a real person's scan.
MADE_CONTRAST_MARK = "DERIVED: this contrast was made by a model, not acquired"
# And of what a generative model made to look like a real person's scan.
PROJECTED_MARK = "PROJECTED: made by a generative model from a scan, may show its person"


def is_nifti_name(path: str | Path) -> bool:
    """Whether the file name ends as NIfTI files do, in any case of letters."""
    return Path(path).name.lower().endswith(SUFFIXES)


def read_nifti(path: str | Path, index: int | None = None) -> Volume:
    """Read one 3D volume from a NIfTI-1 or NIfTI-2 file, of any byte order.

    Args:
        path: a `.nii` or `.nii.gz` file.
        index: which volume of a 4D file, counted from 0.

    Returns:
        One channel (1, X, Y, Z), in the stored integer type, or float32 if the file holds floating-point numbers or
        scales its integers. The affine is in RAS+ mm whatever the header's unit.

    Raises:
        MedganError: the file is missing, empty, damaged, no NIfTI, not 3D (a 4D file without `index`), holds colours,
            complex numbers or values that are not finite, or has a singular affine.
    """
    path = require_existing(path)
    with _blamed_on(path):
        image = _opened(path)
        stored, slope, intercept = _stored(image)
        stored, step = _chosen(stored, index)
        values = _scaled(stored, slope, intercept)
        _require_finite(values)
        # Memory that only this function knows need not be copied to be safe; a file mapped into memory still is.
        values.setflags(write=False)
        return _volume(image, values, stored.dtype, (slope, intercept), () if step is None else (step,))


def read_nifti_volumes(path: str | Path) -> Volume:
    """Read every volume of a NIfTI file, one channel each (C, X, Y, Z); otherwise as `read_nifti`.

    Raises:
        MedganError: as for `read_nifti`, but for the number of volumes.
    """
    path = require_existing(path)
    with _blamed_on(path):
        volume = from_nibabel(_opened(path))
        _require_finite(volume.data)
        return volume


@dataclass(frozen=True)
class NiftiOutline:
    """What a NIfTI header says: dimensions, mm between voxels, orientation such as "RAS", and the stored data type."""

    shape: tuple[int, ...]
    spacing: tuple[float, float, float]
    orientation: str
    dtype: str


def outline_of(path: str | Path) -> NiftiOutline:
    """The header's account of a NIfTI file, for files too whose voxels `read_nifti` refuses.

    Raises:
        MedganError: the header cannot be read, or its affine is singular.
    """
    path = require_existing(path)
    with _blamed_on(path):
        image = _opened(path)
        affine = checked_affine(_affine_in_mm(image))
        dtype = image.get_data_dtype()
        name = dtype.name if dtype.names is None else "".join(dtype.names)
        return NiftiOutline(tuple(map(int, image.shape)), spacing_of(affine), orientation_of(affine), name)


def write_nifti(volume: Volume, path: str | Path) -> Path:
    """Write a volume as `.nii` or `.nii.gz`, whole or not at all; several channels become the fourth dimension.

    The header fields in `volume.metadata["nifti"]` are kept. The source's data type and scaling are kept as well if
    every voxel survives them exactly; otherwise the voxels are written in the type they have.

    Returns:
        The path written.

    Raises:
        MedganError: the suffix is neither `.nii` nor `.nii.gz`, or the place cannot be written.
    """
    path = Path(path)
    if not is_nifti_name(path):
        raise MedganError(f"'{path.name}' is no NIfTI file name", file=path, hint="End it in .nii or .nii.gz.")
    if path.is_dir():
        raise MedganError("a folder stands where the file is to be written", file=path, hint="Choose another name.")
    array, slope, intercept = _encoded(volume)
    image = _image(volume, array)
    if (slope, intercept) != (1.0, 0.0):
        # nibabel writes the array as it is and the factors into the header when they are set explicitly.
        image.header.set_slope_inter(slope, intercept)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
    return path


def to_nibabel(volume: Volume) -> nib.Nifti1Image:
    """As a nibabel image whose array holds the volume's values, shape (X, Y, Z) or (X, Y, Z, C); NIfTI-2 if its source
    was.

    Codes, units and (where no value changes) the source's data type are kept.
    """
    array, slope, intercept = _encoded(volume)
    return _image(volume, array if (slope, intercept) == (1.0, 0.0) else _channels_last(volume))


def from_nibabel(image: Any) -> Volume:
    """From any spatial nibabel image; scaling is applied, and the fourth dimension becomes the channels.

    Raises:
        MedganError: the image is not 3D or 4D, holds colours or complex numbers, or has a singular affine.
    """
    if not isinstance(image, SpatialImage):
        raise MedganError(f"a {type(image).__name__} is no spatial nibabel image")
    stored, slope, intercept = _stored(image)
    values = _scaled(stored, slope, intercept)
    channels = np.moveaxis(values, 3, 0) if values.ndim == 4 else values
    return _volume(image, channels, stored.dtype, (slope, intercept), ())


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """Turn what nibabel and gzip raise on bad files into one message that names the file."""
    again = "Copy or convert it again from its source."
    try:
        yield
    except MedganError as error:
        if error.file is not None:
            raise
        raise MedganError(error.what, file=path, hint=error.hint) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MedganError(f"the compressed data are cut short or damaged ({error})", file=path, hint=again) from error
    except ImageFileError as error:
        raise MedganError(_why_not_nifti(path), file=path, hint=again) from error
    except HeaderDataError as error:
        raise MedganError(f"the NIfTI header is damaged ({error})", file=path, hint=again) from error
    except PermissionError as error:
        raise MedganError("no permission to read this file", file=path) from error
    except (OSError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise MedganError(f"the voxels cannot be read ({reason})", file=path, hint=again) from error


def _why_not_nifti(path: Path) -> str:
    """What is known of a file that nibabel does not recognise."""
    with path.open("rb") as stream:
        is_compressed = stream.read(2) == b"\x1f\x8b"
    named_compressed = path.name.lower().endswith(".gz")
    if is_compressed and not named_compressed:
        return "not readable as NIfTI: the file is gzip-compressed, but its name does not end in .nii.gz"
    if named_compressed and not is_compressed:
        return "not readable as NIfTI: the file is not gzip-compressed, but its name ends in .gz"
    if is_compressed:
        with gzip.open(path) as stream:
            try:
                stream.read()
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                return f"the compressed data are cut short or damaged ({error})"
    return "not readable as NIfTI"


def _opened(path: Path) -> SpatialImage:
    """The image with its voxels still on disk."""
    if path.is_dir():
        raise MedganError("this is a folder, not a NIfTI file", hint="Name one file in it.")
    size = path.stat().st_size
    if size == 0:
        raise MedganError("the file is empty", hint="Copy it again from its source.")
    image = nib.load(path)
    if not isinstance(image, SpatialImage):
        raise MedganError(f"this is a {type(image).__name__}, not a volume of voxels")
    claimed = int(np.prod(image.shape, dtype=object)) * image.get_data_dtype().itemsize + int(
        getattr(image.dataobj, "offset", 0)
    )
    if claimed > size * (_LARGEST_COMPRESSION if path.name.lower().endswith(".gz") else 1):
        raise MedganError(
            f"the header claims {claimed} bytes, more than the {size} bytes of the file can hold",
            hint="The file is cut short or its header is damaged: copy it again from its source.",
        )
    return image


def _stored(image: SpatialImage) -> tuple[NDArray[Any], float, float]:
    """The stored array in native byte order, without trailing dimensions of one voxel, and its slope and intercept."""
    proxy: Any = image.dataobj
    if hasattr(proxy, "get_unscaled"):
        stored, slope, intercept = np.asarray(proxy.get_unscaled()), float(proxy.slope), float(proxy.inter)
    else:
        stored, slope, intercept = np.asanyarray(proxy), 1.0, 0.0
    if stored.dtype.names is not None:
        raise MedganError(
            f"the voxels are colours ({''.join(stored.dtype.names)})",
            hint="Convert the image to one grey value per voxel.",
        )
    if stored.dtype.kind == "c":
        raise MedganError(f"the voxels are complex numbers ({stored.dtype})", hint="Save the magnitude or the phase.")
    if stored.ndim < 3:
        raise MedganError(
            f"the image has {stored.ndim} dimensions, shape {stored.shape}: three are needed",
            hint="Stack the slices into one volume first; DICOM slices in one folder are read as one.",
        )
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim > 4:
        raise MedganError(
            f"the image has {stored.ndim} dimensions, shape {stored.shape}: three or four are needed",
            hint="Save one volume of it as a file of its own.",
        )
    return stored.astype(stored.dtype.newbyteorder("="), copy=False), slope, intercept


def _chosen(stored: NDArray[Any], index: int | None) -> tuple[NDArray[Any], str | None]:
    """The one volume that `index` names, shape (X, Y, Z), and the history phrase that says so."""
    count = stored.shape[3] if stored.ndim == 4 else 1
    if index is None and count > 1:
        raise MedganError(
            f"a 4D image of {count} volumes (shape {stored.shape}), and one is needed",
            hint=f"Take one out, from 0 to {count - 1}: medgan convert INPUT OUTPUT --index 0.",
        )
    if index is not None and not 0 <= index < count:
        raise MedganError(f"there is no volume {index}: the image has {count}", hint=f"Choose from 0 to {count - 1}.")
    if stored.ndim == 3:
        return stored, None
    return stored[..., index], f"volume {index} of {count}"


def _scaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """`stored` times `slope` plus `intercept` in float32, rounded once; integers as they are if unscaled."""
    with np.errstate(over="ignore"):
        if (slope, intercept) == (1.0, 0.0):
            return stored.astype(np.float32, copy=False) if stored.dtype.kind == "f" else stored
        values = np.empty(stored.shape, np.float32, order="F")
        for z in range(stored.shape[2]):
            values[:, :, z] = stored[:, :, z].astype(np.float64) * slope + intercept
    return values


def _require_finite(values: NDArray[Any]) -> None:
    if values.dtype.kind != "f":
        return
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise MedganError(
            f"{bad} of {values.size} voxels are not finite (NaN or infinite)",
            hint="Replace them, for instance by the background's value.",
        )


def _volume(
    image: SpatialImage,
    values: NDArray[Any],
    dtype: np.dtype[Any],
    scaling: tuple[float, float],
    history: tuple[str, ...],
) -> Volume:
    """The volume of `values` where `image` is, with the header fields to keep."""
    affine = _affine_in_mm(image)
    metadata: dict[str, Any] = {}
    if isinstance(image, nib.Nifti1Pair):
        metadata["nifti"] = header_fields(image.header, np.asarray(image.affine), dtype, scaling)
        if metadata["nifti"]["qform_code"] == metadata["nifti"]["sform_code"] == 0:
            history = (*history, "orientation unknown: the header has neither a qform nor an sform")
        direction = slice_direction(image.header, affine)
        if direction is not None:
            metadata["slice_direction"] = direction
        if bytes(image.header["descrip"]).startswith(SYNTHETIC_MARK.encode()):
            metadata["synthetic"] = True
        if bytes(image.header["descrip"]).startswith(PROJECTED_MARK.encode()):
            metadata["projected"] = True
        if bytes(image.header["descrip"]).startswith(MADE_CONTRAST_MARK.encode()):
            metadata["made_contrast"] = True
    return Volume(values, affine, history, metadata)


def _affine_in_mm(image: SpatialImage) -> NDArray[np.float64]:
    if image.affine is None:
        raise MedganError("the image has no affine: where its voxels are is unknown")
    affine = np.array(image.affine, dtype=np.float64)
    if isinstance(image, nib.Nifti1Pair):
        affine[:3] *= MILLIMETRES_PER_UNIT[units_of(image.header)[0]]
    return affine


def _channels_last(volume: Volume) -> NDArray[Any]:
    return volume.data[0] if volume.channels == 1 else np.moveaxis(volume.data, 0, -1)


def _encoded(volume: Volume) -> tuple[NDArray[Any], float, float]:
    """The array to store, channels last, and its slope and intercept: as the source stored it, if no voxel changes."""
    values = _channels_last(volume)
    kept: Mapping[str, Any] = volume.metadata.get("nifti", {})
    if "dtype" not in kept:
        return values, 1.0, 0.0
    dtype, slope, intercept = np.dtype(kept["dtype"]), float(kept["slope"]), float(kept["intercept"])
    if not np.isfinite([slope, intercept]).all() or slope == 0 or (values.dtype.kind in "iu" and dtype.kind == "f"):
        return values, 1.0, 0.0
    encoded = np.empty(values.shape, dtype, order="F")
    for z in range(values.shape[2]):
        slab = _encoded_exactly(values[:, :, z], dtype, slope, intercept)
        if slab is None:
            return values, 1.0, 0.0
        encoded[:, :, z] = slab
    return encoded, slope, intercept


def _encoded_exactly(values: NDArray[Any], dtype: np.dtype[Any], slope: float, intercept: float) -> NDArray[Any] | None:
    """The stored form of `values`; None if reading it back would change any of them."""
    if values.dtype == dtype and (slope, intercept) == (1.0, 0.0):
        return values
    stored = (values.astype(np.float64) - intercept) / slope
    if dtype.kind in "iu":
        stored = np.rint(stored)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    if not ((stored >= limits.min) & (stored <= limits.max)).all():
        return None
    encoded = stored.astype(dtype)
    decoded = (encoded.astype(np.float64) * slope + intercept).astype(values.dtype)
    return encoded if np.array_equal(decoded, values) else None


def _image(volume: Volume, array: NDArray[Any]) -> nib.Nifti1Image:
    """The image of `array` where `volume` is, with the header fields it keeps."""
    kept: Mapping[str, Any] = volume.metadata.get("nifti", {})
    longest = np.iinfo(np.int16).max
    kind = nib.Nifti2Image if kept.get("version") == 2 or max(array.shape) > longest else nib.Nifti1Image
    unit = str(kept.get("spatial_unit", "mm"))
    affine = np.array(volume.affine)
    affine[:3] /= MILLIMETRES_PER_UNIT[unit]
    image = kind(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units(unit, str(kept.get("temporal_unit", "unknown")))
    if array.ndim == 4 and "temporal_step" in kept:
        image.header["pixdim"][4] = kept["temporal_step"]
    # A scan that came from a scanner is in the scanner's coordinates; of others nothing is known but that they are
    # aligned.
    set_forms(image, kept, default_code=SCANNER if "modality" in volume.metadata else ALIGNED)
    if volume.metadata.get("projected"):
        image.header["descrip"] = PROJECTED_MARK
    elif volume.metadata.get("synthetic"):
        image.header["descrip"] = SYNTHETIC_MARK
    elif volume.metadata.get("made_contrast"):
        image.header["descrip"] = MADE_CONTRAST_MARK
    return image
