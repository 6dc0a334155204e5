"""Faults that were put into a result on purpose are found, each by its own measurement; good results pass."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import ndimage

from medgan.acquisition import Acquisition
from medgan.errors import MedganError
from medgan.evaluation.output_check import OutputCheck, check_output, checkerboard

_SHAPE, _FACTOR = (48, 52, 48), 3
_NOISE = 0.01


def _phantom() -> np.ndarray:
    """A head of soft ellipsoids with folds on it and small bright spots, values of 0 to about 1000."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in _SHAPE), indexing="ij")
    head = 1 / (1 + np.exp(30 * (np.sqrt((x / 0.8) ** 2 + (y / 0.85) ** 2 + (z / 0.8) ** 2) - 1)))
    folds = 1 + 0.25 * np.sin(19 * x + 5 * y) * np.sin(17 * y - 4 * z) * np.sin(21 * z + 3 * x)
    spots = sum(
        np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 0.003)
        for a, b, c in ((0.1, 0.2, 0.3), (-0.4, 0.1, -0.2), (0.3, -0.4, 0.0), (0.0, 0.4, -0.3))
    )
    return (600 * head * folds + 700 * spots).astype(np.float32)


@pytest.fixture(scope="module")
def acquisition() -> Acquisition:
    return Acquisition.between(_SHAPE, (48, 52, 16), high_spacing=(1, 1, 1), thickness=(1, 1, 3))


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return _phantom()


@pytest.fixture(scope="module")
def measured(acquisition: Acquisition, truth: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(acquisition.low_shape) * _NOISE * truth.max()
    return (acquisition.forward(torch.from_numpy(truth)).numpy() + noise).astype(np.float32)


@pytest.fixture(scope="module")
def physics(acquisition: Acquisition, measured: np.ndarray) -> np.ndarray:
    return acquisition.inverse(torch.from_numpy(measured)).numpy()


def _failed(check: OutputCheck) -> set[str]:
    return {row.name for row in check.rows if not row.is_passed}


def test_the_inverse_passes(acquisition: Acquisition, measured: np.ndarray, physics: np.ndarray) -> None:
    check = check_output(physics, measured, acquisition)
    assert check.faults == ()
    assert check.is_passed
    assert json.loads(json.dumps(check.to_dict()))["passed"]
    assert max(map(abs, check.shift)) < 0.01
    assert check.unconfirmed < 0.01


def test_a_network_that_adds_what_was_truly_missing_passes(
    acquisition: Acquisition, truth: np.ndarray, measured: np.ndarray, physics: np.ndarray
) -> None:
    x = torch.from_numpy(truth)
    missing = (x - acquisition.inverse(acquisition.forward(x))).numpy()
    check = check_output(physics + missing, measured, acquisition)
    assert check.faults == ()
    assert check.unconfirmed == pytest.approx(np.sqrt(np.mean(missing**2)) / check.data_range, rel=0.3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shift_of_three_tenths_of_a_voxel_is_found(
    axis: int, acquisition: Acquisition, measured: np.ndarray, physics: np.ndarray
) -> None:
    steps = [0.0, 0.0, 0.0]
    steps[axis] = 0.3
    check = check_output(ndimage.shift(physics, steps, order=3, mode="nearest"), measured, acquisition)
    assert "Shift" in _failed(check)
    np.testing.assert_allclose(check.shift, steps, atol=0.06)


@pytest.mark.parametrize("axes", [(2,), (0, 1, 2)])
def test_a_checkerboard_of_half_a_per_cent_is_found(
    axes: tuple[int, ...], acquisition: Acquisition, measured: np.ndarray, physics: np.ndarray
) -> None:
    place = np.indices(_SHAPE)
    board = (-1.0) ** sum(place[axis] for axis in axes)
    amplitude = 0.005 * float(np.ptp(np.percentile(measured, (0.5, 99.5))))
    check = check_output(physics + amplitude * board, measured, acquisition)
    assert "Checkerboard" in _failed(check)
    assert check.checkerboard_amplitude == pytest.approx(0.005, rel=0.1)


def test_a_pattern_with_the_period_of_the_slices_is_found_whatever_the_scan_does_to_it(
    acquisition: Acquisition, measured: np.ndarray, physics: np.ndarray
) -> None:
    pattern = 1 + 0.03 * np.cos(2 * np.pi * np.indices(_SHAPE)[2] / _FACTOR)
    assert "Checkerboard" in _failed(check_output(physics * pattern, measured, acquisition))


def test_white_noise_is_no_checkerboard_and_a_wave_beside_the_lattice_is_none() -> None:
    noise = np.random.default_rng(1).standard_normal((40, 42, 44)).astype(np.float32)
    ratio, _ = checkerboard(noise, [(2.0,), (2.0,), (2.0, 3.0)])
    assert 0.7 < ratio < 1.4
    wave = np.broadcast_to(np.cos(2 * np.pi * (1 / 3 + 5 / 44) * np.arange(44)), noise.shape).astype(np.float32)
    assert checkerboard(wave, [(), (), (3.0,)])[0] < 1


def test_energy_in_the_measured_band_is_found(
    acquisition: Acquisition, measured: np.ndarray, physics: np.ndarray
) -> None:
    invented = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal(_SHAPE), 3)
    invented *= 0.03 * np.ptp(measured) / invented.std()
    check = check_output(physics + invented, measured, acquisition)
    assert "Contradiction" in _failed(check)
    assert check.residual == pytest.approx(0.03 * np.ptp(measured) / check.data_range, rel=0.3)


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (lambda x: 1.03 * x, "Contrast"),
        (lambda x: x + 12.0, "Change of the mean"),
        (lambda x: 600 * np.sign(x) * (np.abs(x) / 600) ** 0.8, "Change of the histogram"),
    ],
)
def test_another_contrast_is_found(
    broken: object, name: str, acquisition: Acquisition, measured: np.ndarray, physics: np.ndarray
) -> None:
    assert name in _failed(check_output(broken(physics), measured, acquisition))  # type: ignore[operator]


def test_peaks_that_were_cut_at_the_range_of_the_input_are_found(
    acquisition: Acquisition, measured: np.ndarray, physics: np.ndarray
) -> None:
    assert (physics > measured.max()).sum() >= 8
    check = check_output(np.clip(physics, measured.min(), measured.max()), measured, acquisition)
    assert "Clipped peaks" in _failed(check)
    assert check.clipped > 0.9


def test_what_is_not_finite_is_found(acquisition: Acquisition, measured: np.ndarray, physics: np.ndarray) -> None:
    broken = physics.copy()
    broken[3, 3, 3] = np.nan
    check = check_output(broken, measured, acquisition)
    assert check.faults == ("voxels are not finite",)
    json.dumps(check.to_dict(), allow_nan=False)


def test_offset_and_size_of_the_units_do_not_matter(
    acquisition: Acquisition, measured: np.ndarray, physics: np.ndarray
) -> None:
    usual = check_output(physics, measured, acquisition)
    other = check_output(1e-3 * physics - 5, 1e-3 * measured - 5, acquisition)
    assert other.faults == ()
    assert other.residual == pytest.approx(usual.residual, rel=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 5, 2), (9, 3, 17)])
def test_small_and_flat_scans_are_looked_at_without_complaint(shape: tuple[int, int, int]) -> None:
    doubled = (shape[0], shape[1], shape[2] * 2)
    acquisition = Acquisition.between(doubled, shape, high_spacing=(1, 1, 1))
    flat = np.full(shape, 7.0, np.float32)
    assert check_output(acquisition.inverse(torch.from_numpy(flat)).numpy(), flat, acquisition).faults == ()


def test_scans_of_other_grids_are_refused(acquisition: Acquisition, measured: np.ndarray) -> None:
    with pytest.raises(MedganError, match="are compared"):
        check_output(measured, measured, acquisition)
