"""Voxels that are part one tissue and part another: signals follow analytic volume fractions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from medgan.acquisition import Acquisition


def slab(size: int, start: float, end: float) -> torch.Tensor:
    """A slab across Z from `start` to `end` mm in voxels of 1 mm, each filled by its exact share: (1, 1, size)."""
    edges = np.clip(np.arange(size + 1.0), start, end)
    return torch.from_numpy(np.diff(edges)).reshape(1, 1, size)


def ball(size: int, centre: tuple[float, float, float], radius: float, parts: int = 6) -> torch.Tensor:
    """A ball in `size`^3 voxels of 1 mm, each voxel filled by the share of its parts^3 sub-voxels inside."""
    fine = (np.arange(size * parts) + 0.5) / parts
    x, y, z = (((fine - c) ** 2).reshape(shape) for c, shape in zip(centre, ((-1, 1, 1), (-1, 1), (-1,)), strict=True))
    inside = (x + y + z < radius**2).astype(np.float64)
    return torch.from_numpy(inside.reshape(size, parts, size, parts, size, parts).mean(axis=(1, 3, 5)))


@pytest.mark.parametrize(("start", "end"), [(5.3, 6.1), (7.9, 8.2), (3.0, 3.5), (2.7, 17.2)])
@pytest.mark.parametrize("thickness", [4.0, 2.0])
def test_a_slab_fills_rectangular_slices_by_its_share(start: float, end: float, thickness: float) -> None:
    """Also slabs thinner than a slice, and with slices that leave a gap."""
    model = Acquisition.between(
        (1, 1, 24), (1, 1, 6), high_spacing=(1, 1, 1), thickness=(None, None, thickness), profile="rectangular"
    )
    seen = model.forward(slab(24, start, end))[0, 0].numpy()
    centres = np.arange(6) * 4 + 2.0
    first, last = centres - thickness / 2, centres + thickness / 2
    share = np.clip(np.minimum(last, end) - np.maximum(first, start), 0, None) / thickness
    np.testing.assert_allclose(seen, share, atol=1e-12)


def test_a_slab_fills_gaussian_slices_by_the_profile_over_it() -> None:
    model = Acquisition.between((1, 1, 60), (1, 1, 15), high_spacing=(1, 1, 1))
    seen = model.forward(slab(60, 25.4, 28.1))[0, 0].numpy()
    sigma = 4 / np.sqrt(8 * np.log(2))
    expected = [
        quad(lambda z, c=c: np.exp(-0.5 * ((z - c) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi)), 25.4, 28.1)[0]
        for c in np.arange(15) * 4 + 2.0
    ]
    np.testing.assert_allclose(seen, expected, atol=0.01)


@pytest.mark.parametrize("radius", [1.6, 3.1])
def test_a_ball_smaller_than_a_voxel_shows_its_volume(radius: float) -> None:
    """A lesion inside one 8 mm voxel: that voxel's signal is the ball's volume over its own."""
    model = Acquisition.between((24, 24, 24), (3, 3, 3), high_spacing=(1, 1, 1), profile="rectangular")
    seen = model.forward(ball(24, (12.3, 11.8, 12.1), radius))
    assert seen[1, 1, 1].item() == pytest.approx(4 / 3 * np.pi * radius**3 / 8**3, rel=0.01)
    assert seen.sum().item() == pytest.approx(seen[1, 1, 1].item(), abs=1e-12)


def test_slices_through_a_ball_show_spherical_segments() -> None:
    model = Acquisition.between((24, 24, 24), (1, 1, 6), high_spacing=(1, 1, 1), profile="rectangular")
    seen = model.forward(ball(24, (12, 12, 12.7), 9.5))[0, 0].numpy() * 24 * 24 * 4
    heights = np.clip(np.arange(7) * 4.0 - 12.7, -9.5, 9.5)
    segments = np.diff(np.pi * (9.5**2 * heights - heights**3 / 3))
    np.testing.assert_allclose(seen, segments, rtol=0.01)


@pytest.mark.parametrize(
    ("profile", "tolerance"), [("rectangular", 1e-12), ("gaussian", 0.02), ("shinnar_le_roux", 0.05)]
)
def test_the_amount_of_signal_hardly_changes(profile: str, tolerance: float) -> None:
    """A small lesion away from the borders: slices that touch miss little and count little twice."""
    model = Acquisition.between((24, 24, 40), (12, 8, 10), high_spacing=(1, 1, 1), profile=profile)
    lesion = ball(24, (11.2, 12.9, 12.4), 2.3)
    volume = torch.nn.functional.pad(lesion, (8, 8))
    assert model.forward(volume).mean().item() == pytest.approx(volume.mean().item(), rel=tolerance)
