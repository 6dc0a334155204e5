"""The receiver's noise against its known distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from medgan.acquisition import tissue_signal, with_noise
from medgan.errors import MedganError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rician_noise_has_the_rician_distribution() -> None:
    noisy = with_noise(torch.full((40, 40, 40), 3.0), sigma=2.0, generator=seeded())
    assert stats.kstest(noisy.flatten().numpy(), stats.rice(3.0 / 2.0, scale=2.0).cdf).pvalue > 1e-3


def test_gaussian_noise_has_the_gaussian_distribution() -> None:
    noisy = with_noise(torch.full((40, 40, 40), 3.0), sigma=2.0, kind="gaussian", generator=seeded())
    assert stats.kstest(noisy.flatten().numpy(), stats.norm(3.0, 2.0).cdf).pvalue > 1e-3


def test_signal_to_noise_refers_to_each_scans_tissue() -> None:
    scan = torch.zeros(2, 1, 30, 30, 30)
    scan[0, :, 10:20, 10:20, 10:20] = 100.0
    scan[1, :, 10:20, 10:20, 10:20] = 10.0
    np.testing.assert_allclose(tissue_signal(scan).flatten(), [100, 10])
    noise = with_noise(scan, snr=20.0, kind="gaussian", generator=seeded()) - scan
    np.testing.assert_allclose(noise.std(dim=(1, 2, 3, 4)), [5, 0.5], rtol=0.02)


def test_the_generator_decides() -> None:
    scan = torch.rand(5, 5, 5)
    first = with_noise(scan, sigma=0.1, generator=seeded(1))
    torch.testing.assert_close(with_noise(scan, sigma=0.1, generator=seeded(1)), first, atol=0, rtol=0)
    assert not torch.equal(with_noise(scan, sigma=0.1, generator=seeded(2)), first)


def test_contradictions_are_refused() -> None:
    with pytest.raises(MedganError, match="not both"):
        with_noise(torch.rand(2, 2, 2), generator=seeded())
    with pytest.raises(MedganError, match="not both"):
        with_noise(torch.rand(2, 2, 2), sigma=1.0, snr=1.0, generator=seeded())
    with pytest.raises(MedganError, match="rician"):
        with_noise(torch.rand(2, 2, 2), sigma=1.0, kind="rice", generator=seeded())  # type: ignore[arg-type]
