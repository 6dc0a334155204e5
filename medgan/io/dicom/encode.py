"""Real numbers as the 16-bit integers of a DICOM image, with the factors that bring them back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

# A decimal string (DS) has at most this many characters (DICOM PS3.5 section 6.2).
DECIMAL_STRING_LENGTH = 16

_LARGEST_STORED = 65_535
# Steps that the data range is divided into. The 35 that are left take up the rounding of slope and intercept.
_STEPS = 65_500
# With so many digits a slope times any 16-bit integer still fits into a decimal string, with sign and exponent.
_SLOPE_DIGITS = 5
# Whole numbers up to here are exact in float32 and short in decimal.
_LARGEST_WHOLE = 2**24


@dataclass(frozen=True)
class StoredPixels:
    """Voxels as they go into a file: value = stored * slope + intercept.

    Args:
        stored: unsigned 16-bit integers in the shape of the voxels.
        slope: RescaleSlope as a decimal string.
        intercept: RescaleIntercept as a decimal string.
    """

    stored: NDArray[np.uint16]
    slope: str
    intercept: str

    @property
    def is_identity(self) -> bool:
        """Whether the stored integers are the values themselves."""
        return (Decimal(self.slope), Decimal(self.intercept)) == (1, 0)


def stored_pixels(voxels: NDArray[np.generic]) -> StoredPixels:
    """Voxels as unsigned 16-bit integers that keep all the precision that 16 bits can.

    Whole numbers whose range fits are stored exactly, with the slope 1. Otherwise the range of the data is divided into
    65 500 steps, so that a value that is read back is off by half a step at most. The intercept is a whole number of
    steps: zero stays exactly zero.

    Args:
        voxels: real numbers of any shape, the first axis being the one along which they are worked off.

    Raises:
        MedganError: a voxel is not a finite number.
    """
    low, high = float(voxels.min()), float(voxels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise MedganError("there are voxels that are not finite numbers, which no DICOM pixel can hold")
    if _fits_as_whole_numbers(voxels, low, high):
        offset = 0 if low >= 0 and high <= _LARGEST_STORED else int(low)
        return StoredPixels(_rounded(voxels, 1.0, offset), "1", str(offset))
    if low == high:
        return StoredPixels(np.zeros(voxels.shape, np.uint16), "1", decimal_string(low))
    slope = _slope(low, high)
    steps = math.floor(Decimal(low) / slope)
    intercept = steps * slope
    if len(decimal_string(intercept)) <= DECIMAL_STRING_LENGTH and abs(steps) <= _LARGEST_STORED:
        return StoredPixels(_rounded(voxels, float(slope), steps), decimal_string(slope), decimal_string(intercept))
    # Far from zero with a small range: zero is no value of this scan, so the intercept need not hit it.
    intercept = _shortened(Decimal(low))
    slope = _slope(float(intercept), high)
    stored = _rounded(voxels, float(slope), 0, origin=float(intercept))
    return StoredPixels(stored, decimal_string(slope), decimal_string(intercept))


def decimal_string(number: Decimal | float) -> str:
    """A number in as many digits as a decimal string (DS) holds, 16 characters, and no more than float64 has."""
    exact = number if isinstance(number, Decimal) else Decimal(repr(float(number)))
    if exact == 0:
        return "0"
    for digits in range(17, 0, -1):
        rounded = Context(prec=digits).plus(exact).normalize()
        for text in (f"{rounded:f}", str(rounded)):
            if len(text) <= DECIMAL_STRING_LENGTH:
                return text
    raise MedganError(f"{number} cannot be written in {DECIMAL_STRING_LENGTH} characters")


def _fits_as_whole_numbers(voxels: NDArray[np.generic], low: float, high: float) -> bool:
    """Whether every voxel is a whole number and their range is that of 16 bits."""
    if high - low > _LARGEST_STORED or max(abs(low), abs(high)) > _LARGEST_WHOLE:
        return False
    return voxels.dtype.kind in "iu" or all(np.array_equal(part, np.rint(part)) for part in voxels)


def _rounded(voxels: NDArray[np.generic], slope: float, offset: int, origin: float = 0.0) -> NDArray[np.uint16]:
    """The nearest integer to (voxel - origin) / slope - offset, part by part to spare memory."""
    stored = np.empty(voxels.shape, np.uint16)
    for part, target in zip(voxels, stored, strict=True):
        target[...] = np.rint((part.astype(np.float64) - origin) / slope) - offset
    return stored


def _slope(low: float, high: float) -> Decimal:
    """The step that divides the range, rounded up to few digits."""
    span = Decimal(high) - Decimal(low)
    return Context(prec=_SLOPE_DIGITS, rounding=ROUND_CEILING).divide(span, Decimal(_STEPS))


def _shortened(number: Decimal) -> Decimal:
    """The next number below that fits into a decimal string."""
    for digits in range(15, 0, -1):
        rounded = Context(prec=digits, rounding=ROUND_FLOOR).plus(number)
        if len(decimal_string(rounded)) <= DECIMAL_STRING_LENGTH and Decimal(decimal_string(rounded)) == rounded:
            return rounded
    raise MedganError(f"{number} cannot be written in {DECIMAL_STRING_LENGTH} characters")
