"""What holds for the networks of every family."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from medgan.errors import MedganError
from medgan.networks.families import FAMILIES, Pair, advance, exported_generator, mixes_batch, pair_for
from medgan.networks.r3gan import R3Discriminator, R3Generator
from medgan.networks.saved import build_network
from medgan.networks.stages import stage_shapes
from medgan.recipe import SynthesisNetwork
from medgan.recipe_families import FAMILY_FIELDS

SHAPE, SPACING = (9, 13, 10), (1.0, 1.0, 2.5)
SIZES: dict[str, Any] = {"width": 4, "max_width": 8, "latent_size": 6, "base_size": 3}
EXTRAS: dict[str, dict[str, Any]] = {
    "r3gan": {"group_width": 4, "blocks": 1},
    "dcgan": {"minibatch_statistics": "discrimination"},
    "stylegan": {"style_size": 5, "mapping_layers": 2, "minibatch_statistics": "deviation"},
    "progressive": {"minibatch_statistics": "deviation"},
    "hagan": {},
    "alpha_wgan": {},
}
# Those that turn latent vectors of any length into whole volumes; tests of their own look after the others.
WHOLE = [kind for kind in FAMILIES if kind not in ("hagan", "vqgan")]
CASES = [(kind, haar) for kind in WHOLE for haar in (False, True)]


def _options(kind: str, **changed: Any) -> SynthesisNetwork:
    return SynthesisNetwork(kind=kind, **{**SIZES, **EXTRAS[kind], **changed})


def _pair(kind: str, **changed: Any) -> Pair:
    torch.manual_seed(0)
    return pair_for(_options(kind, **changed), SHAPE, SPACING)


def test_every_family_of_the_recipe_can_be_made() -> None:
    assert FAMILIES.keys() == FAMILY_FIELDS.keys()


def test_the_default_family_is_made_as_by_hand() -> None:
    """Options reach the networks, and random numbers are drawn in the order that saved trainings rely on."""
    generator, discriminator = _pair("r3gan")
    shapes = stage_shapes(SHAPE, SPACING, base_size=3)
    sizes: dict[str, Any] = {"channels": [8] * (len(shapes) - 1) + [4], "blocks": 1, "group_width": 4}
    torch.manual_seed(0)
    expected = R3Generator(shapes=shapes, out_shape=SHAPE, latent_size=6, **sizes)
    other = R3Discriminator(shapes=shapes, out_shape=SHAPE, **sizes)
    for made, by_hand in ((generator, expected), (discriminator, other)):
        for name, value in by_hand.state_dict().items():
            torch.testing.assert_close(made.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "haar"), CASES)
def test_any_grid_in_and_out_and_every_parameter_learns(kind: str, haar: bool) -> None:
    generator, discriminator = _pair(kind, haar_head=haar)
    for network in (generator, discriminator):
        for parameter in network.parameters():
            # Layers that start silent would hide what lies before them.
            parameter.data += 0.05 * torch.randn_like(parameter)
    for progress in (0.0, 0.12, 0.28, 0.44, 1.0):
        for network in (generator, discriminator):
            advance(network, progress)
        volumes = generator(torch.randn(4, 6))
        assert volumes.shape == (4, 1, *SHAPE)
        logits = discriminator(volumes)
        assert logits.shape == (4, 1)
        logits.square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("kind", "haar"), [*CASES, ("hagan", None)])
def test_untrained_samples_have_a_sensible_range(kind: str, haar: bool | None) -> None:
    generator, _ = _pair(kind, **({} if haar is None else {"haar_head": haar}))
    for mode in (True, False):
        with torch.no_grad():
            samples = generator.train(mode)(torch.randn(16, 6))
        assert samples.isfinite().all()
        assert 0.05 < samples.std().item() < 3


@pytest.mark.parametrize("kind", [*WHOLE, "hagan"])
def test_a_saved_generator_is_rebuilt_by_name(kind: str) -> None:
    generator, _ = _pair(kind)
    with torch.no_grad():
        generator(torch.randn(4, 6))
    saved = exported_generator(_options(kind), generator, shape=SHAPE, spacing=SPACING)
    record = json.loads(json.dumps(saved))
    again = build_network(record["name"], record["arguments"])
    again.load_state_dict(generator.state_dict())
    latents = torch.randn(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(latents), generator.eval()(latents), rtol=0, atol=0)
        # In evaluation a sample does not depend on its neighbours.
        torch.testing.assert_close(again(latents)[1:], again(latents[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("r3gan", {}),
        ("dcgan", {"minibatch_statistics": "none"}),
        ("dcgan", {"minibatch_statistics": "none", "discriminator_normalisation": "instance"}),
        ("dcgan", {"minibatch_statistics": "none", "discriminator_normalisation": "batch"}),
        ("dcgan", {"minibatch_statistics": "deviation", "discriminator_normalisation": "spectral"}),
        ("stylegan", {"minibatch_statistics": "none"}),
        ("progressive", {"minibatch_statistics": "discrimination"}),
    ],
)
def test_a_discriminator_says_whether_it_mixes_the_batch(kind: str, changed: dict[str, Any]) -> None:
    _, discriminator = _pair(kind, **changed)
    discriminator.train()
    volumes = torch.randn(4, 1, *SHAPE)
    with torch.no_grad():
        # Spectral normalisation moves its estimate at each call in training.
        for _ in range(20):
            together = discriminator(volumes)
        apart = torch.cat([discriminator(half) for half in volumes.chunk(2)])
    assert mixes_batch(discriminator) == (not torch.allclose(together, apart, rtol=1e-3, atol=1e-4))


@pytest.mark.parametrize("kind", WHOLE)
def test_features_end_with_the_logits(kind: str) -> None:
    _, discriminator = _pair(kind)
    volumes = torch.randn(2, 1, *SHAPE)
    features = discriminator.features(volumes)  # type: ignore[operator]
    torch.testing.assert_close(features[-1], discriminator(volumes))
    assert len(features) > 2


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize(("haar", "least"), [(False, 3), (True, 5)])
def test_volumes_that_are_too_small_are_refused(kind: str, haar: bool, least: int) -> None:
    with pytest.raises(MedganError, match=rf"9x{least - 1}x9 voxels.* too small.* at least {least}"):
        pair_for(_options(kind, haar_head=haar), (9, least - 1, 9), (1, 1, 1))
    generator, _ = pair_for(_options(kind, haar_head=haar), (9, least, 9), (1, 1, 1))
    assert isinstance(generator, nn.Module)
