"""Measured slice profiles: their width, their effect, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from medgan.acquisition import Acquisition, SliceProfile, profile_matrix
from medgan.acquisition.profiles import low_centres
from medgan.acquisition.shapes import GaussianShape, SampledShape
from medgan.errors import MedganError

SKEWED = SliceProfile((0.1, 0.5, 1.0, 0.9, 0.4, 0.3, 0.2, 0.05), 0.6)


@pytest.mark.parametrize(
    ("weights", "step", "width"),
    [((1.0,), 2.0, 2.0), ((1, 1, 1, 1), 1.0, 4.0), ((0, 1, 2, 1, 0), 0.5, 1.0), ((2, 4, 4, 1), 1.0, 2 + 2 / 3)],
)
def test_width_at_half_maximum(weights: tuple[float, ...], step: float, width: float) -> None:
    assert SliceProfile(weights, step).fwhm_mm == pytest.approx(width)


def test_moments_are_those_of_the_polygon() -> None:
    shape = SKEWED.shape
    x = np.linspace(-6, 6, 120001)
    width = np.ones_like(x)
    density = np.gradient(np.gradient(shape.second_antiderivative(x, width), x), x)
    step = x[1] - x[0]
    assert density.sum() * step == pytest.approx(1, abs=1e-6)
    assert (density * x).sum() * step == pytest.approx(0, abs=1e-6)
    assert (density * x**2).sum() * step == pytest.approx(shape.variance, rel=1e-5)
    assert np.abs(x[density > 1e-6]).max() == pytest.approx(shape.reach, abs=1e-3)


def test_a_sampled_gaussian_is_the_gaussian() -> None:
    x = np.arange(-3, 3.001, 0.01)
    sampled, exact = SampledShape(np.exp(-4 * np.log(2) * x**2), 0.01), GaussianShape()
    where, width = np.linspace(-9, 9, 301), np.full(301, 2.3)
    np.testing.assert_allclose(
        sampled.second_antiderivative(where, width), exact.second_antiderivative(where, width), atol=2e-4
    )
    given = SliceProfile(tuple(np.exp(-4 * np.log(2) * x**2)), 0.03)
    for low, high in ((15, 60), (24, 60)):
        np.testing.assert_allclose(
            profile_matrix(low, high, fwhm=2.6, profile="measured", measured=given),
            profile_matrix(low, high, fwhm=2.6),
            atol=1e-4,
        )


@pytest.mark.parametrize(("low", "high", "fwhm"), [(60, 240, 3.9), (41, 101, 2.2), (50, 100, 1.7)])
def test_a_skewed_profile_moves_nothing(low: int, high: int, fwhm: float) -> None:
    matrix = profile_matrix(low, high, fwhm=fwhm, profile="measured", measured=SKEWED)
    middle = slice(low // 3, 2 * low // 3)
    np.testing.assert_allclose((matrix @ np.arange(high))[middle], low_centres(low, high)[middle], atol=1e-10)
    mirrored = SliceProfile(SKEWED.weights[::-1], SKEWED.step_mm)
    reverse = profile_matrix(low, high, fwhm=fwhm, profile="measured", measured=mirrored)
    np.testing.assert_allclose(reverse[::-1, ::-1], matrix, atol=1e-10)


def test_a_skewed_profile_is_seen_the_right_way_round() -> None:
    """The long tail lies at higher positions, so a point is seen by the slices below it from farther away."""
    matrix = profile_matrix(11, 110, fwhm=10.0, profile="measured", measured=SKEWED)
    offsets = np.arange(110) - low_centres(11, 110)[5]
    assert (matrix[5] * offsets**3).sum() > 0


def test_without_a_thickness_the_profile_has_its_own_width() -> None:
    sizes = {"high_shape": (1, 1, 40), "low_shape": (1, 1, 10), "high_spacing": (1, 1, 1)}
    own = Acquisition.between(**sizes, profile="measured", measured=SKEWED)  # type: ignore[arg-type]
    assert own.thickness[2] == pytest.approx(SKEWED.fwhm_mm)
    wider = Acquisition.between(**sizes, profile="measured", measured=SKEWED, thickness=(None, None, 5))  # type: ignore[arg-type]
    positions = torch.arange(10) * 4 + 1.5

    def spread(model: Acquisition) -> float:
        row = model.forward(torch.arange(40, dtype=torch.float64).square().expand(1, 1, 40))[0, 0]
        return (row - positions**2)[5].item()

    assert spread(own) == pytest.approx(SKEWED.shape.variance * (SKEWED.fwhm_mm**2 - 1), rel=1e-6)
    assert spread(wider) == pytest.approx(SKEWED.shape.variance * 24, rel=1e-6)


def test_description_carries_the_measured_profile() -> None:
    model = Acquisition.between(
        (4, 4, 12),
        (4, 4, 3),
        high_spacing=(1, 1, 1),
        profile=("band_limit", "gaussian", "measured"),
        measured=SliceProfile(np.array([0.2, 1.0, 0.4]), 2),  # type: ignore[arg-type]
    )
    again = Acquisition.from_description(json.loads(json.dumps(model.describe())))
    assert again == model
    assert hash(again) == hash(model)
    x = torch.rand(4, 4, 12)
    torch.testing.assert_close(again.forward(x), model.forward(x), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("weights", "step", "words"),
    [
        ((), 1.0, "weights"),
        ((0.0, 0.0), 1.0, "not all zero"),
        ((1.0, -0.1), 1.0, "not negative"),
        ((1.0, float("nan")), 1.0, "weights"),
        (((1.0,), (2.0,)), 1.0, "row"),
        ((1.0, 2.0), 0.0, "step"),
        ((1.0, 2.0), float("inf"), "step"),
    ],
)
def test_impossible_profiles_are_refused(weights: tuple, step: float, words: str) -> None:
    with pytest.raises(MedganError, match=words):
        SliceProfile(weights, step)


def test_a_measured_profile_must_be_given() -> None:
    with pytest.raises(MedganError, match="measured"):
        Acquisition.between((4, 4, 8), (4, 4, 4), high_spacing=(1, 1, 1), profile="measured")
