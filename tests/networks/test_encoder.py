from __future__ import annotations

import pytest
import torch

from medgan.networks.encoder import FeatureEncoder
from medgan.networks.saved import build_network


def encoder() -> FeatureEncoder:
    torch.manual_seed(0)
    return FeatureEncoder((4, 6, 8), hidden=12, descriptor=5).eval()


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 13, 8), (16, 31, 12), (8, 8, 40)])
def test_any_shape_gives_a_descriptor_of_one_length(shape: tuple[int, int, int]) -> None:
    network = encoder()
    volumes = torch.rand(3, 1, *shape)
    described = network(volumes)
    assert described.shape == (3, 5)
    assert network.statistics(volumes).shape == (3, 2 * (8 + 4 + 6 + 8))
    alone = torch.cat([network(one[None]) for one in volumes])
    torch.testing.assert_close(described, alone, rtol=1e-4, atol=1e-5)


def test_statistics_begin_with_the_sub_bands_of_the_volume() -> None:
    volumes = torch.rand(2, 1, 8, 10, 12)
    found = encoder().statistics(volumes)
    # The mean sub-band is the sum of eight voxels over the root of eight.
    torch.testing.assert_close(found[:, 0], 0.35 * 8**0.5 * volumes.mean(dim=(1, 2, 3, 4)), rtol=1e-4, atol=1e-4)


def test_a_flat_volume_has_finite_features_and_gradients() -> None:
    volumes = torch.zeros(2, 1, 8, 8, 8, requires_grad=True)
    described = encoder()(volumes)
    described.sum().backward()
    assert bool(torch.isfinite(described).all())
    assert volumes.grad is not None
    assert bool(torch.isfinite(volumes.grad).all())


def test_it_is_rebuilt_from_its_record_and_refuses_impossible_sizes() -> None:
    network = encoder()
    again = build_network("feature_encoder", network.arguments)
    again.load_state_dict(network.state_dict())
    with pytest.raises(ValueError, match="at least 1"):
        FeatureEncoder((4, 0))
