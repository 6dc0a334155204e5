from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medgan.networks.dcgan import NORMALISATIONS, DCGANDiscriminator, DCGANGenerator
from medgan.training.average import frozen_copy, update_average

PYRAMID: dict[str, Any] = {"shapes": [(3, 4, 3), (5, 7, 3), (9, 13, 6)], "channels": [8, 8, 4], "out_shape": (9, 13, 6)}


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_every_normalisation_plays_both_sides(normalisation: str) -> None:
    torch.manual_seed(0)
    generator = DCGANGenerator(latent_size=5, normalisation=normalisation, **PYRAMID)
    discriminator = DCGANDiscriminator(normalisation=normalisation, **PYRAMID)
    discriminator(generator(torch.randn(3, 5))).square().sum().backward()
    for network in (generator, discriminator):
        assert all(parameter.grad is not None for parameter in network.parameters())
    again = DCGANGenerator(**generator.arguments)
    again.load_state_dict(generator.state_dict())
    latents = torch.randn(2, 5)
    torch.testing.assert_close(again.eval()(latents), generator.eval()(latents), rtol=0, atol=0)


def test_spectral_normalisation_bounds_every_layer() -> None:
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(normalisation="spectral", **PYRAMID)
    for _ in range(100):
        discriminator(torch.zeros(1, 1, 9, 13, 6))
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv3d | nn.Linear)]
    assert len(layers) == 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() == pytest.approx(1, abs=1e-2)


def test_batch_statistics_are_averaged_with_the_weights() -> None:
    torch.manual_seed(0)
    generator = DCGANGenerator(latent_size=5, normalisation="batch", **PYRAMID)
    average = frozen_copy(generator)
    generator(torch.randn(4, 5))
    norms = [[m for m in net.modules() if isinstance(m, nn.BatchNorm3d)] for net in (average, generator)]
    before = [norm.running_mean.clone() for norm in norms[0]]
    update_average(average, generator, images=10, half_life=10)
    for kept, old, new in zip(norms[0], before, norms[1], strict=True):
        torch.testing.assert_close(kept.running_mean, (old + new.running_mean) / 2)
        assert not torch.equal(old, new.running_mean)
        assert kept.num_batches_tracked == new.num_batches_tracked


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="normalisation is 'layer'"):
        DCGANGenerator(normalisation="layer", **PYRAMID)
    with pytest.raises(ValueError, match="minibatch_statistics is 'variance'"):
        DCGANDiscriminator(minibatch_statistics="variance", **PYRAMID)
