"""Noise is told from anatomy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medgan.acquisition.noise_level import noise_level


def _anatomy(seed: int = 0) -> np.ndarray:
    """Smooth tissue of about 100 in air of 0, (96, 90, 12)."""
    rng = np.random.default_rng(seed)
    tissue = 100 + 40 * ndimage.gaussian_filter(rng.standard_normal((96, 90, 12)), 3) / 0.05
    tissue[:30] = 0
    return tissue


@pytest.mark.parametrize("sigma", [2.0, 5.0, 20.0])
def test_white_noise_is_found_beneath_anatomy(sigma: float) -> None:
    noisy = _anatomy() + sigma * np.random.default_rng(1).standard_normal((96, 90, 12))
    assert noise_level(noisy, (0, 1)) == pytest.approx(sigma, rel=0.1)
    # The same whatever the axes are called, and in the scan's own unit.
    assert noise_level(7 * noisy.transpose(2, 0, 1), (1, 2)) == pytest.approx(7 * noise_level(noisy, (0, 1)), rel=1e-5)


def test_masked_air_does_not_hide_the_noise() -> None:
    noisy = _anatomy() + 5 * np.random.default_rng(1).standard_normal((96, 90, 12))
    noisy[:30] = 0
    assert noise_level(noisy, (0, 1)) == pytest.approx(5, rel=0.1)


def test_without_noise_there_is_next_to_none() -> None:
    assert noise_level(_anatomy(), (0, 1)) < 0.2
    assert noise_level(np.zeros((20, 20, 4)), (0, 1)) == 0
    assert noise_level(np.random.default_rng(0).random((8, 8, 2)), (0, 1)) == 0
