"""The Shinnar-Le Roux pulse against the Bloch equations, small-tip theory and its own specification."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from medgan.acquisition.pulse import excitation_pulse, excited_profile, transverse_magnetisation


@pytest.mark.parametrize("frequency", [0.0, 2.0, 3.6, 4.0, 4.5, 6.0])
def test_rotations_solve_the_bloch_equations(frequency: float) -> None:
    """The differential equation, with the pulse spread evenly over each of its samples instead of given at once."""
    angles = excitation_pulse(8.0)

    def bloch(time: float, m: np.ndarray) -> list[float]:
        rate = angles[min(int(time * len(angles)), len(angles) - 1)] * len(angles)
        turn = 2 * np.pi * frequency
        return [-turn * m[1], turn * m[0] - rate * m[2], rate * m[1]]

    end = solve_ivp(bloch, (0, 1), [0, 0, 1], rtol=1e-7, atol=1e-9, max_step=1 / 127).y[:, -1]
    assert np.linalg.norm(end) == pytest.approx(1, abs=1e-5)
    simulated = transverse_magnetisation(angles, np.array([frequency]))[0]
    assert simulated == pytest.approx(np.hypot(end[0], end[1]), abs=5e-3)


def test_small_angles_excite_the_fourier_transform_of_the_pulse() -> None:
    angles = 0.002 * np.sinc(np.linspace(-3, 3, 64))
    frequencies = np.linspace(-8, 8, 41)
    expected = np.abs(np.exp(2j * np.pi * frequencies[:, None] * np.arange(64) / 64) @ angles)
    np.testing.assert_allclose(transverse_magnetisation(angles, frequencies), expected, atol=1e-4)


def test_a_single_hard_pulse_tips_everything_alike() -> None:
    magnitude = transverse_magnetisation(np.array([np.pi / 6]), np.linspace(-3, 3, 7))
    np.testing.assert_allclose(magnitude, 0.5, atol=1e-12)


@pytest.mark.parametrize("time_bandwidth", [8.0, 12.0, 16.0])
def test_the_slice_keeps_its_specification(time_bandwidth: float) -> None:
    """Ripples of about one in a hundred, half the magnetisation near half the bandwidth, 90 degrees in the middle."""
    angles = excitation_pulse(time_bandwidth)
    assert angles.sum() == pytest.approx(np.pi / 2, abs=0.03)
    np.testing.assert_allclose(angles, angles[::-1], atol=2e-2 * angles.max())
    inside = transverse_magnetisation(angles, np.linspace(-0.5, 0.5, 101) * (time_bandwidth - 2))
    assert inside.min() > 0.97
    assert inside.max() <= 1 + 1e-12
    outside = transverse_magnetisation(angles, np.linspace(time_bandwidth / 2 + 1, 1.5 * time_bandwidth, 200))
    assert outside.max() < 0.03
    half = transverse_magnetisation(angles, np.array([time_bandwidth / 2 - 0.4, time_bandwidth / 2 + 0.4]))
    assert half[0] > 0.5 > half[1]


@pytest.mark.parametrize("time_bandwidth", [8.0, 16.0])
def test_the_tabulated_profile_has_a_width_of_one(time_bandwidth: float) -> None:
    profile, step = excited_profile(time_bandwidth)
    np.testing.assert_array_equal(profile, profile[::-1])
    assert profile[0] == 0 == profile[-1]
    above = (profile >= 0.5).sum() * step
    assert above == pytest.approx(1, abs=2 * step)
    edge = (profile >= 0.1).sum() * step - (profile >= 0.9).sum() * step
    assert edge / 2 == pytest.approx(1.0 / time_bandwidth, rel=0.25)
