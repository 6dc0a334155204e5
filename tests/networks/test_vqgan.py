"""Autoencoder and prior as one generator, whose samples are functions of their latent vectors."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from scipy.stats import norm
from torch import nn

from medgan.errors import MedganError
from medgan.inference.generate import sampled
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.families import exported_generator, pair_for
from medgan.networks.saved import build_network
from medgan.networks.vqgan import CodeAutoencoder, CodeGenerator, makes_samples
from medgan.recipe import SynthesisNetwork

SHAPE, SPACING = (9, 13, 10), (1.0, 1.0, 2.5)
SIZES: dict[str, Any] = {
    "width": 4,
    "max_width": 8,
    "base_size": 2,
    "halvings": 2,
    "blocks": 1,
    "codebook_size": 6,
    "code_channels": 3,
    "discriminator_width": 2,
    "prior_width": 8,
    "prior_layers": 1,
    "prior_heads": 2,
}


def _options(**changed: Any) -> SynthesisNetwork:
    return SynthesisNetwork(kind="vqgan", **{**SIZES, **changed})


def _generator(**changed: Any) -> CodeGenerator:
    torch.manual_seed(0)
    generator, discriminator = pair_for(_options(**changed), SHAPE, SPACING)
    assert isinstance(generator, CodeGenerator)
    assert isinstance(discriminator, PatchDiscriminator)
    for parameter in generator.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return generator


@pytest.mark.parametrize(
    ("changed", "grid"),
    [
        # The third axis waits until the voxels of the others are as long.
        ({"halvings": 1}, (5, 7, 10)),
        ({}, (3, 4, 5)),
        ({"halvings": 3}, (2, 2, 3)),
        ({"haar_head": True, "halvings": 1}, (3, 4, 5)),
    ],
)
def test_any_grid_to_codes_and_back(changed: dict[str, Any], grid: tuple[int, int, int]) -> None:
    generator = _generator(**changed)
    volumes = torch.randn(2, 1, *SHAPE)
    made = generator.autoencoder(volumes)
    assert made.volumes.shape == volumes.shape
    assert made.codes.shape == (2, *grid)
    assert generator.latent_size == grid[0] * grid[1] * grid[2]
    assert torch.equal(generator.autoencoder.codes(volumes), made.codes)
    torch.testing.assert_close(generator.autoencoder.decoded(made.codes), made.volumes, rtol=1e-4, atol=1e-4)
    assert generator(torch.randn(3, generator.latent_size)).shape == (3, 1, *SHAPE)


@pytest.mark.parametrize("haar", [False, True])
def test_every_parameter_of_the_autoencoder_learns(haar: bool) -> None:
    autoencoder = _generator(haar_head=haar, halvings=1).autoencoder
    made = autoencoder(torch.randn(2, 1, *SHAPE), learn=True)
    (made.volumes.square().mean() + made.commitment).backward()
    for name, parameter in autoencoder.named_parameters():
        if name == "codebook.vectors":
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_every_parameter_of_the_prior_learns() -> None:
    prior = _generator().prior
    prior(torch.randint(6, (4, prior.length))).square().sum().backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_sample_is_the_same_in_every_batch() -> None:
    generator = _generator().eval()
    latents = torch.randn(6, generator.latent_size)
    with torch.no_grad():
        together = generator(latents)
        assert torch.equal(torch.cat([generator(one) for one in latents.split(1)]), together)
        assert torch.equal(generator(latents.flip(0)).flip(0), together)
    assert not torch.equal(together[0], together[1])


def test_latent_numbers_are_the_normal_quantiles_of_the_draws() -> None:
    generator = _generator().eval()
    latents = torch.randn(3, generator.latent_size)
    uniform = torch.from_numpy(norm.cdf(latents.double().numpy()))
    codes = generator.prior.drawn(uniform).unflatten(1, generator.autoencoder.grid)
    with torch.no_grad():
        torch.testing.assert_close(generator(latents), generator.autoencoder.decoded(codes), rtol=1e-4, atol=1e-4)


def test_truncation_is_a_temperature() -> None:
    generator = _generator().eval()
    latents = torch.randn(4, generator.latent_size)
    with torch.no_grad():
        codes = generator.prior.drawn(torch.special.ndtr(latents.double()), temperature=0.3)
        expected = generator.autoencoder.decoded(codes.unflatten(1, generator.autoencoder.grid))
        torch.testing.assert_close(sampled(generator, latents, 0.3), expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(sampled(generator, latents, 1.0), generator(latents))
        assert not torch.equal(expected, generator(latents))


def test_a_saved_generator_is_rebuilt_by_name() -> None:
    generator = _generator().eval()
    record = json.loads(json.dumps(exported_generator(_options(), generator, shape=SHAPE, spacing=SPACING)))
    again = build_network(record["name"], record["arguments"])
    again.load_state_dict(generator.state_dict())
    latents = torch.randn(2, generator.latent_size)
    with torch.no_grad():
        assert torch.equal(again.eval()(latents), generator(latents))


def test_only_a_trained_prior_makes_samples() -> None:
    generator = _generator()
    assert not makes_samples(generator)
    generator.prior_trained.fill_(1)
    assert makes_samples(generator)
    assert makes_samples(nn.Linear(1, 1))


def test_volumes_that_are_too_small_are_refused() -> None:
    with pytest.raises(MedganError, match=r"9x13x10 voxels can be halved 4 times.*fewer than 2 codes.*asks for 5"):
        pair_for(_options(halvings=5), SHAPE, SPACING)
    with pytest.raises(MedganError, match="too small"):
        pair_for(_options(base_size=10), SHAPE, SPACING)


def test_as_many_channels_as_stages() -> None:
    with pytest.raises(ValueError, match="2 stage shapes need as many channel counts"):
        CodeAutoencoder(shapes=[[2, 2, 2], [4, 4, 4]], channels=[4], out_shape=[4, 4, 4])
