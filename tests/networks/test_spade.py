"""The generator from label maps to scans."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.blocks.spade_norm import SPADE
from torch import Tensor
from torch.nn.functional import avg_pool3d

from medgan.networks.layers import SLOPE, activated, convolution
from medgan.networks.saved import build_network
from medgan.networks.spade import SpadeGenerator, SpatialModulation, _resized, one_hot, spade_arguments

SHAPE, SPACING = (9, 14, 7), (1.0, 1.0, 2.5)
LABELS = 3


def _generator(shape: Any = SHAPE, **options: Any) -> SpadeGenerator:
    haar_head = options.pop("haar_head", False)
    base_size = options.pop("base_size", 2)
    pyramid = spade_arguments(shape, SPACING, width=4, max_width=8, base_size=base_size, haar_head=haar_head)
    torch.manual_seed(0)
    return SpadeGenerator(labels=LABELS, latent_size=5, embedding=4, **{**pyramid, **options})


def _labels(shape: Any, batch: int = 2) -> Tensor:
    return torch.randint(LABELS, (batch, 1, *shape), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize("haar_head", [False, True])
@pytest.mark.parametrize("normalisation", ["instance", "pixel"])
def test_volumes_have_the_shape_of_their_label_maps(haar_head: bool, normalisation: str) -> None:
    generator = _generator(haar_head=haar_head, normalisation=normalisation)
    for shape in (SHAPE, (11, 9, 8), (6, 17, 5)):
        volumes = generator(torch.randn(2, 5), _labels(shape))
        assert volumes.shape == (2, 1, *shape)
        assert torch.isfinite(volumes).all()
    again = build_network("spade_generator", generator.arguments)
    again.load_state_dict(generator.state_dict())
    labels, latents = _labels(SHAPE), torch.randn(2, 5)
    assert torch.equal(again(latents, labels), generator(latents, labels))


def test_stages_halve_other_volumes_as_they_halve_those_of_the_training() -> None:
    shape = (16, 21, 9)
    generator = _generator(shape=shape)
    # Slices are 2.5 times as thick as voxels are wide, so the last axis waits once.
    assert generator._strides[-3:] == [(4, 4, 2), (2, 2, 1), (1, 1, 1)]
    for stage, stride in zip(generator.arguments["shapes"], generator._strides, strict=True):
        assert stage == [-(-n // s) for n, s in zip(shape, stride, strict=True)]


@pytest.mark.parametrize("haar_head", [False, True])
def test_gradients_reach_every_parameter(haar_head: bool) -> None:
    generator = _generator(haar_head=haar_head)
    generator(torch.randn(2, 5), _labels(SHAPE)).square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_modulation_is_that_of_monai_but_for_its_second_normalisation() -> None:
    channels, hidden = 6, 5
    theirs = SPADE(label_nc=LABELS, norm_nc=channels, spatial_dims=3, hidden_channels=hidden)
    theirs.mlp_shared.adn.A.negative_slope = SLOPE
    for one in (theirs.mlp_gamma, theirs.mlp_beta):
        one.adn = torch.nn.Identity()
    embed, ours = convolution(LABELS, hidden, 3), SpatialModulation(channels, hidden, "instance")
    with torch.no_grad():
        embed.weight.copy_(theirs.mlp_shared.conv.weight)
        embed.bias.copy_(theirs.mlp_shared.conv.bias)  # type: ignore[union-attr]
        both = (theirs.mlp_gamma.conv, theirs.mlp_beta.conv)
        ours.modulate.weight.copy_(torch.cat([one.weight for one in both]))
        ours.modulate.bias.copy_(torch.cat([one.bias for one in both]))  # type: ignore[union-attr]
    x, condition = torch.randn(2, channels, *SHAPE), one_hot(_labels(SHAPE), LABELS)
    torch.testing.assert_close(ours(x, activated(embed(condition))), theirs(x, condition))


def test_coarse_stages_see_the_shares_of_labels() -> None:
    condition = one_hot(_labels((8, 12, 16)), LABELS)
    halved = _resized(condition, (4, 6, 8))
    torch.testing.assert_close(halved.sum(dim=1), torch.ones(2, 4, 6, 8))
    block = torch.zeros(1, 1, 16, 16, 16)
    block[..., 4:12, 4:12, 4:12] = 1
    seen = _resized(block, (8, 8, 8))
    expected = avg_pool3d(block, 2)
    index = torch.arange(8.0)
    for axis in (2, 3, 4):
        others = [one for one in (0, 1, 2, 3, 4) if one != axis]
        centres = [(one.sum(others) * index).sum() / one.sum() for one in (seen, expected)]
        torch.testing.assert_close(centres[0], centres[1])


def test_with_pixel_normalisation_a_far_label_changes_nothing() -> None:
    trained, shape = (64, 8, 8), (400, 8, 8)
    for normalisation, is_local in (("pixel", True), ("instance", False)):
        generator = _generator(shape=trained, base_size=4, normalisation=normalisation)
        labels, latents = _labels(shape, 1), torch.randn(1, 5)
        changed = labels.clone()
        changed[:, :, 0] = (changed[:, :, 0] + 1) % LABELS
        with torch.no_grad():
            difference = (generator(latents, labels) - generator(latents, changed)).abs().amax(dim=(0, 1, 3, 4))
        assert difference[0] > 0
        assert bool((difference[200:] == 0).all()) == is_local


def test_latent_vectors_give_several_volumes_for_one_label_map() -> None:
    generator = _generator()
    labels = _labels(SHAPE, 1).expand(2, -1, -1, -1, -1)
    first, second = generator(torch.randn(2, 5), labels)
    assert (first - second).abs().mean() > 0.01
