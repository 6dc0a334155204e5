from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from medgan.networks.stylegan import MappingNetwork, ModulatedConvolution, StyleGenerator, noise_seeds

SIZES: dict[str, Any] = {
    "shapes": [(3, 4, 3), (5, 7, 3), (9, 13, 6)],
    "channels": [8, 8, 4],
    "out_shape": (9, 13, 6),
    "latent_size": 5,
    "style_size": 6,
    "mapping_layers": 2,
}


def _generator(**changed: Any) -> StyleGenerator:
    torch.manual_seed(0)
    generator = StyleGenerator(**{**SIZES, **changed})
    for parameter in generator.parameters():
        # Noise starts with no strength.
        parameter.data += 0.1 * torch.randn_like(parameter)
    return generator


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_scaled_activations_are_modulated_weights(kernel: int, demodulate: bool) -> None:
    """Against a convolution with weights of its own for each volume (Karras et al. 2019, equations 1 and 3)."""
    torch.manual_seed(0)
    layer = ModulatedConvolution(3, 4, kernel, style_size=5, demodulate=demodulate)
    x, style = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 5)
    scale = style @ layer.scale.weight.t() + layer.scale.bias
    for volume, factors, made in zip(x, scale, layer(x, style), strict=True):
        weight = layer.weight * factors.view(1, 3, 1, 1, 1)
        if demodulate:
            weight = weight / weight.flatten(1).norm(dim=1).view(4, 1, 1, 1, 1)
        torch.testing.assert_close(made, F.conv3d(volume[None], weight, padding=kernel // 2)[0], rtol=1e-4, atol=1e-5)


def test_styles_depend_on_the_direction_of_latents_alone_and_have_unit_scale() -> None:
    torch.manual_seed(0)
    mapping = MappingNetwork(16, 32, 4)
    latents = torch.randn(200, 16)
    torch.testing.assert_close(mapping(3 * latents), mapping(latents), rtol=1e-4, atol=1e-5)
    assert 0.5 < mapping(latents).square().mean().item() < 2


def test_in_evaluation_a_sample_is_a_function_of_its_latents() -> None:
    generator = _generator().eval()
    latents = torch.randn(3, 5)
    with torch.no_grad():
        first = generator(latents)
        torch.testing.assert_close(generator(latents), first, rtol=0, atol=0)
        torch.testing.assert_close(generator(latents[[2, 0]]), first[[2, 0]], rtol=1e-4, atol=1e-5)


def test_noise_can_be_held_or_changed_by_its_seed() -> None:
    generator = _generator().eval()
    latents = torch.randn(1, 5)
    with torch.no_grad():
        own = generator(latents)
        torch.testing.assert_close(generator(latents, seeds=noise_seeds(latents)), own, rtol=0, atol=0)
        assert not torch.allclose(generator(latents, seeds=[1]), own)
    assert noise_seeds(latents) != noise_seeds(latents + 1)
    silent = _generator(noise=False).eval()
    with torch.no_grad():
        torch.testing.assert_close(silent(latents, seeds=[1]), silent(latents, seeds=[2]), rtol=0, atol=0)


def test_truncation_pulls_towards_the_mean_style_of_the_training() -> None:
    generator = _generator(noise=False)
    latents = torch.randn(64, 5)
    with torch.no_grad():
        generator.eval().mean_style.copy_(generator.styles(latents).mean(dim=0))
        spread = [generator(latents[:16], truncation=t).std(dim=0).mean().item() for t in (0.0, 0.5, 1.0)]
    assert spread[0] < 1e-4 < spread[1] < spread[2]


def test_training_moves_the_mean_style_and_evaluation_does_not() -> None:
    generator = _generator()
    latents = torch.randn(4, 5)
    generator(latents)
    moved = generator.mean_style.clone()
    torch.testing.assert_close(moved, 0.005 * generator.styles(latents).mean(dim=0))
    generator.eval()(torch.randn(4, 5))
    assert torch.equal(generator.mean_style, moved)


def test_mixed_styles_come_from_two_latents_with_one_crossing() -> None:
    generator = _generator(style_mixing=1.0)
    styles = generator.styles(torch.randn(32, 5))
    mixed = generator._mixed(styles)
    assert mixed.shape == (32, 5, 6)
    own = (mixed == styles[:, None]).all(dim=2)
    assert own[:, 0].all()
    assert not own[:, -1].any()
    # Once another style has begun, the first one does not come back.
    assert (own.int().diff(dim=1) <= 0).all()
    assert torch.equal(_generator(style_mixing=0.0)._mixed(styles)[:, 3], styles)
