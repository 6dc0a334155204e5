"""What holds for every acquisition, on two hundred random geometries with all profiles mixed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from medgan.acquisition import PROFILES, Acquisition, SliceProfile

SYMMETRIC = SliceProfile((0.2, 0.9, 1.0, 0.9, 0.2), 0.8)
SKEWED = SliceProfile((0.1, 0.5, 1.0, 0.9, 0.4, 0.3), 0.7)


def geometries(count: int, measured: SliceProfile = SYMMETRIC) -> Iterator[tuple[Acquisition, torch.Generator]]:
    """Sizes from 1 to 30, any ratio of them, anisotropic voxels, gaps and overlaps; and a generator for each."""
    rng = np.random.default_rng(0)
    for index in range(count):
        high = rng.integers(1, 31, 3)
        low = np.maximum(1, np.round(high / rng.uniform(1, 7, 3) ** rng.integers(0, 2, 3))).astype(int)
        spacing = rng.uniform(0.3, 3, 3)
        thickness = spacing * high / low * rng.uniform(0.2, 2.0, 3)
        yield (
            Acquisition.between(
                high,
                low,
                high_spacing=spacing,
                thickness=[None if rng.random() < 0.3 else float(value) for value in thickness],
                profile=[str(name) for name in rng.choice(PROFILES, 3)],
                taper=float(rng.choice([0, 0.3])),
                measured=measured,
            ),
            torch.Generator().manual_seed(index),
        )


def permuted(model: Acquisition, order: tuple[int, int, int]) -> Acquisition:
    """The same acquisition of the volume with its axes in another order."""
    description = model.describe()
    for name in ("high_shape", "low_shape", "high_spacing", "thickness", "profile"):
        description[name] = [description[name][axis] for axis in order]
    return Acquisition.from_description(description)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_adjoint_passes_the_dot_product_test(dtype: torch.dtype, tolerance: float) -> None:
    for model, generator in geometries(200, SKEWED):
        x = torch.randn(2, *model.high_shape, dtype=dtype, generator=generator)
        y = torch.randn(2, *model.low_shape, dtype=dtype, generator=generator)
        forward, adjoint = model.forward(x), model.adjoint(y)
        difference = (forward * y).sum() - (x * adjoint).sum()
        assert abs(difference.item()) <= tolerance * (forward.norm() * y.norm()).item(), model


def test_every_flip_commutes() -> None:
    for model, generator in geometries(200):
        x = torch.randn(model.high_shape, dtype=torch.float64, generator=generator)
        y = model.forward(x)
        for axis in (-3, -2, -1):
            torch.testing.assert_close(model.forward(x.flip(axis)), y.flip(axis), atol=1e-10, rtol=0)
            torch.testing.assert_close(model.adjoint(y.flip(axis)), model.adjoint(y).flip(axis), atol=1e-10, rtol=0)


def test_every_order_of_the_axes_commutes() -> None:
    for model, generator in geometries(200, SKEWED):
        x = torch.randn(model.high_shape, dtype=torch.float64, generator=generator)
        y = model.forward(x)
        for order in ((1, 0, 2), (2, 1, 0), (1, 2, 0)):
            turned = permuted(model, order).forward(x.permute(order))
            torch.testing.assert_close(turned, y.permute(order), atol=1e-12, rtol=0)


def test_constants_survive_there_and_back() -> None:
    for model, _ in geometries(200, SKEWED):
        ones = torch.ones(model.high_shape, dtype=torch.float64)
        low = model.forward(ones)
        torch.testing.assert_close(low, torch.ones_like(low), atol=1e-10, rtol=0)
        torch.testing.assert_close(model.inverse(low), ones, atol=1e-6, rtol=0)


def test_items_of_a_batch_are_treated_alone() -> None:
    for model, generator in geometries(30, SKEWED):
        x = torch.randn(3, 2, *model.high_shape, dtype=torch.float64, generator=generator)
        torch.testing.assert_close(model.forward(x)[2, 1], model.forward(x[2, 1]), atol=1e-12, rtol=0)


@pytest.mark.gpu
def test_a_gpu_computes_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for model, generator in geometries(50, SKEWED):
        x = torch.randn(2, 1, *model.high_shape, dtype=torch.float64, generator=generator)
        y = model.forward(x)
        on_device = model.forward(x.cuda())
        assert on_device.is_cuda
        torch.testing.assert_close(on_device.cpu(), y, atol=1e-12, rtol=0)
        torch.testing.assert_close(model.adjoint(y.cuda()).cpu(), model.adjoint(y), atol=1e-12, rtol=0)
        torch.testing.assert_close(model.inverse(y.cuda()).cpu(), model.inverse(y), atol=1e-8, rtol=1e-8)
        half_width = model.forward(x.float().cuda())
        torch.testing.assert_close(half_width.cpu().double(), y, atol=1e-4, rtol=0)
