from __future__ import annotations

import numpy as np
import pytest

from medgan.data.warps import exponential, gradient_of_smoothed, jacobian_determinant, sampled, smooth_noise


def grid(shape: tuple[int, int, int]) -> np.ndarray:
    return np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij"))


def test_the_flow_of_a_rotation_is_a_rotation() -> None:
    """The velocity angle * (-y, x, 0) about the middle moves every point along a circle by that angle."""
    angle = 0.3
    positions = grid((33, 33, 5))
    x, y = positions[0] - 16, positions[1] - 16
    flow = exponential(np.stack([-angle * y, angle * x, np.zeros_like(x)]), squarings=7)
    expected = np.stack([np.cos(angle) * x - np.sin(angle) * y - x, np.sin(angle) * x + np.cos(angle) * y - y, 0 * x])
    inside = (slice(None), slice(10, 23), slice(10, 23), slice(None))
    np.testing.assert_allclose(flow[inside], expected[inside], atol=6e-3)


def test_the_flow_of_the_negative_velocity_is_the_inverse() -> None:
    rng = np.random.default_rng(0)
    velocity = np.stack([2.0 * smooth_noise(rng, (30, 30, 30), 5.0) for _ in range(3)])
    there, back = exponential(velocity), exponential(-velocity)
    both = there + sampled(back, grid((30, 30, 30)) + there)
    inside = (slice(None), *[slice(6, -6)] * 3)
    assert np.abs(both[inside]).max() < 0.1 * np.abs(there[inside]).max()
    assert jacobian_determinant(there).min() > 0


def test_a_fold_is_seen() -> None:
    positions = grid((8, 8, 8))
    folded = np.zeros_like(positions)
    folded[0] = -2.0 * positions[0]
    assert jacobian_determinant(folded).max() == pytest.approx(-1)
    assert jacobian_determinant(0.1 * positions).min() == pytest.approx(1.1**3)


def test_the_gradient_of_a_ball_points_to_its_middle() -> None:
    positions = grid((25, 25, 25)) - 12
    inwards = gradient_of_smoothed((positions**2).sum(axis=0) < 36, 2.0)
    lengths = np.sqrt((inwards**2).sum(axis=0))
    assert lengths.max() == pytest.approx(1)
    assert ((inwards * positions).sum(axis=0)[lengths > 0.1] < 0).all()
    assert lengths[12, 12, 12] < 1e-6
