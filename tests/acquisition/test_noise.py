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


@pytest.mark.parametrize("snr", [0.5, 1.0, 3.0, 20.0])
def test_mean_and_variance_at_a_signal_to_noise_ratio_are_rices(snr: float) -> None:
    """Half of the scan is tissue of signal 2, half is air: there the distribution is Rayleigh's."""
    scan = torch.zeros(80, 40, 40, dtype=torch.float64)
    scan[:40] = 2.0
    noisy = with_noise(scan, snr=snr, generator=seeded(3)).numpy()
    sigma = 2.0 / snr
    for half, signal in ((noisy[:40], 2.0), (noisy[40:], 0.0)):
        expected = stats.rice(signal / sigma, scale=sigma)
        assert half.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / 253)
        assert half.var() == pytest.approx(expected.var(), rel=0.03)
    assert noisy.min() >= 0
    # Rayleigh's closed form, as a check on the check.
    assert noisy[40:].mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)


def test_strength_may_differ_from_scan_to_scan() -> None:
    scan = torch.full((2, 1, 30, 30, 30), 50.0)
    sigma = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1, 1)
    spread = with_noise(scan, sigma=sigma, generator=seeded()).std(dim=(1, 2, 3, 4))
    np.testing.assert_allclose(spread, [1, 3], rtol=0.02)


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
