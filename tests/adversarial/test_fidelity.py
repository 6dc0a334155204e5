"""Distances between restored and true volumes, against analytic values."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from medgan.adversarial.fidelity import (
    DISTANCES,
    Distance,
    absolute_distance,
    band_energy_distance,
    charbonnier_distance,
    detail_energy_distance,
    gradient_distance,
    spectral_distance,
    squared_distance,
)

ALL = [*DISTANCES.values(), gradient_distance, spectral_distance]


def sinusoid(amplitude: float, cycles: tuple[int, int, int], shape: tuple[int, int, int] = (16, 12, 20)) -> Tensor:
    """A plane wave with whole numbers of cycles along each axis, float64, (1, 1, X, Y, Z)."""
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in shape), indexing="ij")
    return (amplitude * torch.cos(2 * pi * sum(k * x for k, x in zip(cycles, axes, strict=True)) + 0.4))[None, None]


@pytest.mark.parametrize("distance", ALL)
def test_zero_for_equal_volumes_and_its_gradient_checks(distance: Distance) -> None:
    torch.manual_seed(0)
    truth = torch.rand(2, 1, 3, 4, 5, dtype=torch.float64)
    assert distance(truth, truth) == 0
    restored = (truth + 0.1 * torch.randn_like(truth)).requires_grad_()
    assert distance(restored, truth) > 0
    assert torch.autograd.gradcheck(lambda x: distance(x, truth), (restored,))
    equal = truth.clone().requires_grad_()
    distance(equal, truth).backward()
    assert torch.isfinite(equal.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("distance", ALL)
def test_half_precision_and_autocast_do_not_coarsen_it(distance: Distance) -> None:
    torch.manual_seed(0)
    truth = torch.rand(1, 1, 6, 5, 4)
    restored = truth + 1e-3 * torch.randn_like(truth)
    expected = distance(restored.double(), truth.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distance(restored, truth)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)
    assert distance(restored.bfloat16(), truth).dtype == torch.float32


def test_pixel_distances_of_a_constant_offset() -> None:
    truth, restored = torch.zeros(1, 1, 3, 3, 3), torch.full((1, 1, 3, 3, 3), 0.2)
    assert absolute_distance(restored, truth) == pytest.approx(0.2)
    assert squared_distance(restored, truth) == pytest.approx(0.04)


def test_charbonnier_is_l1_far_away_and_quadratic_nearby() -> None:
    truth = torch.zeros(1, 1, 2, 2, 2, dtype=torch.float64)
    for difference in (0.1, 3.0):
        assert charbonnier_distance(truth + difference, truth) == pytest.approx(difference, abs=1.001e-3)
    near = 1e-5
    assert charbonnier_distance(truth + near, truth) == pytest.approx(near**2 / 2e-3, rel=1e-3)
    assert charbonnier_distance(truth + 0.3, truth, scale=1e-9) == pytest.approx(0.3)


def test_gradient_distance_ignores_an_offset_and_measures_a_ramp() -> None:
    torch.manual_seed(0)
    truth = torch.rand(1, 1, 5, 6, 7, dtype=torch.float64)
    assert gradient_distance(truth + 0.3, truth) == pytest.approx(0, abs=1e-12)
    ramp = 0.02 * torch.arange(7, dtype=torch.float64)
    assert gradient_distance(truth + ramp, truth) == pytest.approx(0.02 / 3)
    # An axis with one voxel is left out, not counted as flat.
    thin = truth[:, :, :1]
    assert gradient_distance(thin + ramp, thin) == pytest.approx(0.02 / 2)
    assert gradient_distance(truth[:, :, :1, :1, :1] + 1, truth[:, :, :1, :1, :1]) == 0


def test_spectral_distance_of_a_sinusoid() -> None:
    """Two peaks of half the amplitude times the square root of the voxels, everything else zero."""
    wave = sinusoid(0.3, (2, 1, 4))
    voxels = wave.numel()
    expected = 2 * (0.3 / 2) * sqrt(voxels) / voxels
    assert spectral_distance(wave, torch.zeros_like(wave)) == pytest.approx(expected, rel=1e-9)
    # Phase counts: the wave moved by half a period is twice as far from itself as from nothing.
    assert spectral_distance(-wave, wave) == pytest.approx(2 * expected, rel=1e-9)


def test_spectral_distance_agrees_with_numpy() -> None:
    generator = np.random.default_rng(0)
    restored, truth = (generator.random((1, 1, 4, 5, 6)) for _ in range(2))
    expected = np.abs(np.fft.fftn((restored - truth)[0, 0]) / sqrt(4 * 5 * 6)).mean()
    assert float(spectral_distance(torch.from_numpy(restored), torch.from_numpy(truth))) == pytest.approx(expected)


def test_other_shapes_are_no_broadcast() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        absolute_distance(torch.zeros(2, 1, 3, 3, 3), torch.zeros(1, 1, 3, 3, 3))


def test_detail_energy_asks_how_strong_and_not_where() -> None:
    wave = torch.cos(2 * pi * torch.arange(48) / 4).expand(1, 1, 48, 48, -1)
    assert detail_energy_distance(wave.roll(1, dims=-1), wave, window=4) < 1e-5
    assert detail_energy_distance(-wave, wave) < 1e-5
    # Along its own axis the wave lost half of its strength; along the others there was none to lose.
    assert float(detail_energy_distance(0.5 * wave, wave, window=4)) == pytest.approx(0.5 / 3, abs=1e-3)
    assert float(detail_energy_distance(wave + 3.0, wave)) == pytest.approx(0, abs=1e-4)


def test_detail_energy_is_differentiable_where_there_is_none() -> None:
    flat = torch.zeros(1, 1, 12, 12, 12, requires_grad=True)
    detail_energy_distance(flat, torch.rand(1, 1, 12, 12, 12)).backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def band_amplitudes(lines: np.ndarray, bands: int) -> np.ndarray:
    """Root mean square of each band along the last axis, by numpy and scipy's window."""
    from scipy.signal.windows import hann

    size = lines.shape[-1]
    power = (np.abs(np.fft.rfft(lines * hann(size, sym=True))) ** 2 / size).reshape(-1, size // 2 + 1).mean(0)[1:]
    band = np.arange(len(power)) * bands // len(power)
    return np.sqrt([power[band == number].sum() / size for number in range(bands)])


def test_band_energy_compares_the_spectra_of_all_bands_but_the_lowest() -> None:
    random = np.random.default_rng(0)
    truth, restored = random.normal(size=(2, 12, 14, 20)) * [[[[1.0]]], [[[0.7]]]]
    expected = []
    for axis in range(3):
        wanted, found = (band_amplitudes(np.moveaxis(one, axis, -1), 5)[1:] for one in (truth, restored))
        expected.append(np.mean(np.abs(found - wanted) / (wanted + 1e-3)))
    shown = band_energy_distance(torch.from_numpy(restored)[None, None], torch.from_numpy(truth)[None, None])
    assert float(shown) == pytest.approx(np.mean(expected), rel=1e-4)


def test_band_energy_asks_how_strong_and_not_where() -> None:
    torch.manual_seed(0)
    truth = torch.randn(1, 1, 16, 16, 16)
    assert band_energy_distance(truth.flip(-1), truth) < 1e-5
    assert float(band_energy_distance(0.5 * truth, truth)) == pytest.approx(0.5, abs=0.01)
    flat = torch.zeros_like(truth, requires_grad=True)
    band_energy_distance(flat, truth).backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
