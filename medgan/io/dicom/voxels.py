"""The real values of a series' slices, as one array.

Which values these are:

- RescaleSlope and RescaleIntercept of each slice are applied to that slice, computed in float64 and rounded once to
  float32. If no slice has any, the stored integers stay as they are.
- A linear real-world value map counts only where the rescale says nothing (slope 1, intercept 0 in all slices): the
  rescale is what every other program and the window settings go by. Lookup tables are refused by the reader.
- Philips' private scale to "precise" values is left alone: the rescale gives what the scanner displays.
- MONOCHROME1 images, which show the least value white, are turned about in their stored range.
- Padding pixels (PixelPaddingValue, PixelPaddingRangeLimit) hold no measurement; they become the background's value,
  -1024 in CT and 0 elsewhere. A padding value that lies among the values of the series is not believed.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.io.dicom.headers import SliceHeader
from medgan.io.dicom.pixels import decoded_frames, require_decodable, stored_dtype

Scale = tuple[float, float]

# Where the platform has such flags: memory that no other process sees.
_PRIVATE: dict[str, Any] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}

_UNCHANGED: Scale = (1.0, 0.0)
_AIR_HOUNSFIELD = -1024

# Whole numbers up to here are exact in float32.
_EXACT_IN_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class Stack:
    """Slices read.

    Args:
        values: shape (slices, rows, columns); float32, or the stored integer type if nothing is scaled.
        background: the value that stands for no measurement.
        steps: what was done to the stored values besides scaling, one phrase each.
        padding: shape of `values`, true where a pixel is padding; None if it was not asked for.
    """

    values: NDArray[Any]
    background: float
    steps: tuple[str, ...]
    padding: NDArray[np.bool_] | None = None


def stacked(slices: Sequence[SliceHeader], *, keep_padding: bool = False) -> Stack:
    """Read the slices, which must share one matrix, in the order given.

    Raises:
        MedganError: pixels are missing, damaged, or stored in a way that cannot be decoded.
    """
    require_decodable(slices)
    scales, unit = _scales(slices)
    is_scaled = any(scale != _UNCHANGED for scale in scales)
    dtypes = [stored_dtype(one.coding) for one in slices if one.coding is not None]
    dtype = np.dtype(np.float32) if is_scaled else np.result_type(*dtypes)
    values = _room(dtype, (len(slices), *slices[0].matrix), slices[0])
    outside = _Outside()
    for index, pixels in decoded_frames(slices):
        outside.look_at(pixels, slices[index])
        _write_values(values[index], pixels, slices[index], scales[index])
    steps = ["inverted from MONOCHROME1"] if any(one.photometric == "MONOCHROME1" for one in slices) else []
    if unit is not None:
        steps.append(f"stored values mapped to real-world values{f' in {unit}' if unit else ''}")
    background = _background(slices, dtype)
    padding = np.zeros(values.shape, np.bool_) if keep_padding else None
    if outside.is_credible():
        count = _fill_padding(values, slices, scales, background, padding)
        if count:
            steps.append(f"{count} padding voxels set to {background:g}")
    return Stack(values, background, tuple(steps), padding)


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """The array, sealed: neither it nor an array whose memory it shares can be written any more.

    A volume takes an array that nobody can write without a copy.
    """
    owner: Any = values
    while isinstance(owner, np.ndarray):
        owner.setflags(write=False)
        owner = owner.base
    return values


class _Outside:
    """Whether the pixels called padding lie outside the others' range, seen over all slices."""

    def __init__(self) -> None:
        self.has_padding = self.has_below = self.has_above = False

    def look_at(self, pixels: NDArray[Any], header: SliceHeader) -> None:
        limits = header.coding.padding if header.coding is not None else None
        if limits is None or (self.has_below and self.has_above):
            return
        low, high = limits
        self.has_below |= bool(pixels.min() < low)
        self.has_above |= bool(pixels.max() > high)
        self.has_padding |= bool(((pixels >= low) & (pixels <= high)).any())

    def is_credible(self) -> bool:
        return self.has_padding and not (self.has_below and self.has_above)


def _room(dtype: np.dtype[Any], shape: tuple[int, ...], first: SliceHeader) -> NDArray[Any]:
    """Memory for the series, straight from the operating system: numpy would ask it for huge pages, and to find those
    in fragmented memory can take longer than reading the series."""
    size = math.prod(shape) * dtype.itemsize
    try:
        return np.frombuffer(mmap.mmap(-1, size, **_PRIVATE), dtype).reshape(shape)
    except (MemoryError, OSError, OverflowError) as error:
        raise MedganError(
            f"the series needs {size / 2**30:.1f} GiB of memory",
            file=first.path.parent,
            hint="Use a machine with more memory.",
        ) from error


def _scales(slices: Sequence[SliceHeader]) -> tuple[list[Scale], str | None]:
    """Slope and intercept of each slice, and the unit if they are those of the real-world maps."""
    scales = [(one.slope, one.intercept) for one in slices]
    maps = [one.real_world for one in slices if one.real_world is not None]
    units = {one.unit for one in maps}
    if any(scale != _UNCHANGED for scale in scales) or len(maps) < len(slices) or len(units) > 1:
        return scales, None
    mapped = [(one.slope, one.intercept) for one in maps]
    return (scales, None) if all(scale == _UNCHANGED for scale in mapped) else (mapped, units.pop())


def _background(slices: Sequence[SliceHeader], dtype: np.dtype[Any]) -> float:
    lowest = -np.inf if dtype.kind == "f" else float(np.iinfo(dtype).min)
    return max(_AIR_HOUNSFIELD, lowest) if slices[0].facts.get("modality") == "CT" else 0.0


def _write_values(out: NDArray[Any], pixels: NDArray[Any], header: SliceHeader, scale: Scale) -> None:
    """The real values of stored pixels, into `out`; both have the same shape."""
    if header.photometric == "MONOCHROME1":
        # Within the stored type, where the decoder may have chosen a smaller one.
        dtype = stored_dtype(header.coding) if header.coding is not None else pixels.dtype
        pixels = dtype.type(sum(header.stored_range)) - pixels.astype(dtype, copy=False)
    slope, intercept = scale
    if out.dtype.kind != "f":
        out[...] = pixels
        return
    largest = max(map(abs, header.stored_range)) * abs(slope) + abs(intercept)
    is_exact = slope == int(slope) and intercept == int(intercept) and largest <= _EXACT_IN_FLOAT32
    precision = np.float32 if is_exact else np.float64
    scaled = out if is_exact else np.empty(out.shape, np.float64)
    np.multiply(pixels, precision(slope), out=scaled, dtype=precision, casting="unsafe")
    np.add(scaled, precision(intercept), out=out, casting="unsafe")


def _fill_padding(
    values: NDArray[Any],
    slices: Sequence[SliceHeader],
    scales: Sequence[Scale],
    background: float,
    padding: NDArray[np.bool_] | None,
) -> int:
    """Set padding to the background's value; how many voxels that are."""
    count = 0
    for index, header in enumerate(slices):
        limits = _representable(header)
        if limits is None:
            continue
        ends = np.empty(limits.shape, values.dtype)
        _write_values(ends, limits, header, scales[index])
        is_padding = (values[index] >= ends.min()) & (values[index] <= ends.max())
        values[index][is_padding] = background
        count += int(np.count_nonzero(is_padding))
        if padding is not None:
            padding[index] = is_padding
    return count


def _representable(header: SliceHeader) -> NDArray[Any] | None:
    """The padding's limits in the stored type, cut to its range; None if no pixel can lie between them."""
    if header.coding is None or header.coding.padding is None:
        return None
    (low, high), (least, greatest) = header.coding.padding, header.stored_range
    if low > greatest or high < least:
        return None
    return np.array([max(low, least), min(high, greatest)], stored_dtype(header.coding))
