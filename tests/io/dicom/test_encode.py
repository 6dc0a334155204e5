from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medgan.errors import MedganError
from medgan.io.dicom.encode import DECIMAL_STRING_LENGTH, decimal_string, stored_pixels

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def decoded(pixels) -> np.ndarray:
    """As any reader does it, in float64."""
    return pixels.stored.astype(np.float64) * float(pixels.slope) + float(pixels.intercept)


def is_within_half_a_step(voxels: np.ndarray) -> bool:
    pixels = stored_pixels(voxels)
    assert pixels.stored.dtype == np.uint16
    assert len(pixels.slope) <= DECIMAL_STRING_LENGTH
    assert len(pixels.intercept) <= DECIMAL_STRING_LENGTH
    wide = voxels.astype(np.float64)
    # A constant is held by the intercept alone, in at least nine digits: more than float32 has.
    rounding = (1e-9 if wide.min() == wide.max() else 1e-14) * np.abs(wide).max()
    return bool((np.abs(decoded(pixels) - wide) <= 0.5 * float(pixels.slope) + rounding).all())


@settings(max_examples=300, deadline=None)
@given(arrays.arrays(np.float32, (3, 4), elements=FLOATS))
def test_any_values_come_back_within_half_a_step(voxels: np.ndarray) -> None:
    assert is_within_half_a_step(voxels)


@settings(max_examples=200, deadline=None)
@given(arrays.arrays(np.float32, (2, 50), elements=FLOATS), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_a_step_is_a_sixty_five_thousandth_of_the_range(voxels: np.ndarray, offset: float, scale: float) -> None:
    values = (voxels / max(float(np.abs(voxels).max()), 1e-30) * scale + offset).astype(np.float32)
    pixels = stored_pixels(values)
    span = float(values.max()) - float(values.min())
    assert span == 0 or float(pixels.slope) <= max(1.0, 1.001 * span / 65_500) or pixels.slope == "1"
    assert is_within_half_a_step(values)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32])
def test_whole_numbers_are_exact(dtype: type) -> None:
    low = 0 if dtype is np.uint16 else -1024
    voxels = np.rint(np.linspace(low, 32767, 60)).astype(dtype).reshape(3, 20)
    pixels = stored_pixels(voxels)
    assert (pixels.slope, pixels.intercept) == ("1", str(low))
    np.testing.assert_array_equal(decoded(pixels), voxels)


def test_unsigned_whole_numbers_are_stored_as_they_are() -> None:
    voxels = np.array([[0, 7], [4095, 65535]], np.uint16)
    pixels = stored_pixels(voxels)
    assert pixels.is_identity
    np.testing.assert_array_equal(pixels.stored, voxels)


@pytest.mark.parametrize("low", [-0.3, -1000.7, -1e-20, -3e30])
def test_zero_stays_exactly_zero(low: float) -> None:
    voxels = np.array([[low, 0.0, 0.123 * -low, -1.7 * low]], np.float32)
    pixels = stored_pixels(voxels)
    stored = Decimal(int(pixels.stored[0, 1]))
    assert stored * Decimal(pixels.slope) + Decimal(pixels.intercept) == 0


@pytest.mark.parametrize("value", [0.0, 3.7, -1e-30, 1e30, 16777217.0, 65536.0, -5.0])
def test_a_constant_volume_keeps_its_value(value: float) -> None:
    voxels = np.full((2, 3), value, np.float32)
    np.testing.assert_allclose(decoded(stored_pixels(voxels)), voxels, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "voxels", [[-3.4e38, 3.4e38, 1.0], [1e-45, 0.0, 3e-45], [1e6, 1e6 + 0.0625], [-(2**31), 2**31 - 1]]
)
def test_extreme_ranges(voxels: list[float]) -> None:
    dtype = np.int64 if isinstance(voxels[0], int) else np.float32
    assert is_within_half_a_step(np.array([voxels], dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(MedganError, match="not finite"):
        stored_pixels(np.array([[1.0, value]], np.float32))


@settings(max_examples=500, deadline=None)
@given(st.floats(-1e300, 1e300))
def test_decimal_strings_are_short_and_as_close_as_they_can_be(number: float) -> None:
    text = decimal_string(number)
    assert len(text) <= DECIMAL_STRING_LENGTH
    assert set(text) <= set("0123456789+-.Ee")
    # A sign, a point and an exponent such as E-308 leave nine digits.
    assert abs(float(text) - number) <= 1e-8 * abs(number)
