from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.networks.minibatch import MinibatchDeviation, MinibatchDiscrimination, group_size_for


@pytest.mark.parametrize(
    ("batch", "wanted", "size"),
    [(2, 4, 2), (3, 4, 3), (4, 4, 4), (5, 4, 5), (6, 4, 6), (8, 4, 4), (16, 4, 4), (6, 2, 2)],
)
def test_groups_divide_the_batch_and_none_is_single(batch: int, wanted: int, size: int) -> None:
    assert group_size_for(batch, wanted) == size
    assert batch % size == 0


def test_a_batch_of_one_is_refused() -> None:
    one = torch.randn(1, 2, 3, 3, 3)
    for layer in (MinibatchDeviation(), MinibatchDiscrimination(2 * 27)):
        with pytest.raises(MedganError, match="batch of 1 has none to compare"):
            layer(one)


def test_deviation_by_numpy() -> None:
    features = torch.randn(6, 3, 2, 4, 3, generator=torch.Generator().manual_seed(0))
    out = MinibatchDeviation(group_size=3)(features)
    assert out.shape == (6, 4, 2, 4, 3)
    assert torch.equal(out[:, :3], features)
    for group in (slice(0, 3), slice(3, 6)):
        expected = np.std(features[group].numpy(), axis=0).mean()
        np.testing.assert_allclose(out[group, 3].numpy(), expected, rtol=1e-5)


def test_equal_volumes_deviate_by_nothing_and_still_learn() -> None:
    features = torch.ones(4, 2, 2, 2, 2, requires_grad=True)
    out = MinibatchDeviation()(features)
    assert out[:, 2].abs().max().item() == pytest.approx(1e-4)
    out.sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_discrimination_by_its_formula() -> None:
    torch.manual_seed(1)
    layer = MinibatchDiscrimination(2 * 8, kernels=3, kernel_size=2)
    with torch.no_grad():
        layer.projection.copy_(torch.randn_like(layer.projection))
    features = 0.3 * torch.randn(4, 2, 2, 2, 2)
    projected = (features.flatten(1) @ layer.projection).detach().numpy().reshape(4, 3, 2)
    expected = np.zeros((4, 3))
    for i in range(4):
        for k in range(3):
            others = [math.exp(-np.abs(projected[i, k] - projected[j, k]).sum()) for j in range(4) if j != i]
            expected[i, k] = np.mean(others)
    np.testing.assert_allclose(layer.closeness(features).detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    out = layer(features)
    assert out.shape == (4, 2 + 3, 2, 2, 2)
    assert layer.added_channels == 3
    np.testing.assert_allclose(out[:, 2:, 1, 0, 1].detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_equal_volumes_are_as_near_as_can_be() -> None:
    torch.manual_seed(2)
    layer = MinibatchDiscrimination(8)
    same = torch.randn(1, 1, 2, 2, 2).expand(5, -1, -1, -1, -1)
    torch.testing.assert_close(layer.closeness(same), torch.ones(5, 16))
    assert layer.closeness(torch.randn(5, 1, 2, 2, 2)).max() < 1


def test_gradients_reach_every_volume_and_the_projection() -> None:
    torch.manual_seed(3)
    layer = MinibatchDiscrimination(8, kernels=2, kernel_size=2)
    features = torch.randn(3, 1, 2, 2, 2, requires_grad=True)
    layer(features)[:, 1:].sum().backward()
    assert features.grad is not None
    assert layer.projection.grad is not None
    assert (features.grad.flatten(1).abs().amax(1) > 0).all()
    assert (layer.projection.grad != 0).all()


def test_a_collapsed_batch_is_told_from_a_diverse_one() -> None:
    """What the layers are for: the appended channels alone separate the two."""
    torch.manual_seed(4)
    diverse, collapsed = torch.randn(4, 2, 2, 2, 2), torch.randn(1, 2, 2, 2, 2).repeat(4, 1, 1, 1, 1)
    assert MinibatchDeviation()(diverse)[:, 2:].min() > 100 * MinibatchDeviation()(collapsed)[:, 2:].max()
    layer = MinibatchDiscrimination(16)
    assert layer.closeness(diverse).mean() < layer.closeness(collapsed).mean() - 0.1
