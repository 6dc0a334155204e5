from __future__ import annotations

import numpy as np
import pytest
import torch

from medgan.networks.haar import haar, inverse_haar

VOLUMES = torch.randn(2, 3, 6, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_equals_the_kronecker_product_of_the_two_point_transform() -> None:
    two_point = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    matrix = np.kron(np.kron(two_point, two_point), two_point)
    block = VOLUMES[:1, :1, :2, :2, :2]
    np.testing.assert_allclose(haar(block).numpy().ravel(), matrix @ block.numpy().ravel(), atol=1e-12)


def test_inverse_restores_the_volume() -> None:
    torch.testing.assert_close(inverse_haar(haar(VOLUMES)), VOLUMES, rtol=0, atol=1e-12)


def test_inner_products_and_so_gradient_norms_are_kept() -> None:
    other = torch.randn_like(VOLUMES)
    torch.testing.assert_close((haar(VOLUMES) * haar(other)).sum(), (VOLUMES * other).sum())


def test_sub_bands_are_grouped_before_channels() -> None:
    bands = haar(torch.ones(1, 3, 2, 2, 2))
    assert bands.shape == (1, 24, 1, 1, 1)
    torch.testing.assert_close(bands.flatten()[:3], torch.full((3,), 8**0.5))
    torch.testing.assert_close(bands.flatten()[3:], torch.zeros(21), atol=1e-6, rtol=0)


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="even sizes"):
        haar(torch.zeros(1, 1, 4, 5, 4))
    with pytest.raises(ValueError, match="multiple of 8"):
        inverse_haar(torch.zeros(1, 7, 2, 2, 2))
