from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.networks.families import pair_for
from medgan.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator, growth_at
from medgan.networks.resample import Resample, least_squares_matrix, linear_matrix
from medgan.recipe import SynthesisNetwork

PYRAMID: dict[str, Any] = {"shapes": [(3, 4, 3), (5, 7, 3), (9, 13, 6)], "channels": [8, 8, 4], "out_shape": (9, 13, 6)}
TIMING = {"stages": 3, "fading": 0.2, "stabilising": 0.1}


def _pair(*, awake: bool = True) -> tuple[ProgressiveGenerator, ProgressiveDiscriminator]:
    torch.manual_seed(0)
    pair = (
        ProgressiveGenerator(latent_size=5, **PYRAMID),
        ProgressiveDiscriminator(minibatch_statistics="none", **PYRAMID),
    )
    if awake:
        for network in pair:
            for parameter in network.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
    return pair


def test_growth_stabilises_then_fades_then_stays() -> None:
    at = {p: growth_at(p, **TIMING) for p in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)}  # type: ignore[arg-type]
    assert list(at.values()) == pytest.approx([0, 0, 0.5, 1, 1, 1.5, 2, 2, 2])


@pytest.mark.parametrize(("fine", "coarse"), [(16, 8), (17, 9), (13, 4), (5, 5)])
def test_the_least_squares_pyramid_undoes_interpolation(fine: int, coarse: int) -> None:
    down, up = least_squares_matrix(fine, coarse), linear_matrix(coarse, fine)
    np.testing.assert_allclose(down @ up, np.eye(coarse), atol=1e-9)
    np.testing.assert_allclose(down.sum(axis=1), 1, atol=1e-9)
    # What it leaves out is orthogonal to all that the coarse grid can hold.
    signal = np.random.default_rng(0).standard_normal(fine)
    np.testing.assert_allclose(up.T @ (signal - up @ (down @ signal)), 0, atol=1e-9)


def test_a_pyramid_has_no_step_up() -> None:
    with pytest.raises(ValueError, match="from 4 up to 5"):
        least_squares_matrix(4, 5)


def test_what_a_stage_makes_reaches_the_discriminator_unchanged() -> None:
    generator, discriminator = _pair(awake=False)
    for network in (generator, discriminator):
        network.growth.fill_(0.0)
    volumes = generator(torch.randn(2, 5))
    small = discriminator.seen(volumes)
    assert small.shape == (2, 1, 3, 4, 3)
    torch.testing.assert_close(Resample((3, 4, 3), (9, 13, 6))(small), volumes, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("level", [1, 2])
def test_nothing_jumps_when_a_stage_is_added(level: int) -> None:
    generator, discriminator = _pair()
    latents, volumes = torch.randn(2, 5), torch.randn(2, 1, 9, 13, 6)
    outcomes = []
    with torch.no_grad():
        for growth in (level - 1.0, level - 1.0 + 1e-5, level - 1e-5, float(level), level - 0.5):
            for network in (generator, discriminator):
                network.growth.fill_(growth)
            outcomes.append(discriminator(volumes))
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(outcomes[2], outcomes[3], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(outcomes[4], outcomes[0], atol=1e-2)
    # A new stage of the generator begins without a voice.
    fresh, _ = _pair(awake=False)
    fresh.growth.fill_(level - 1.0)
    before = fresh(latents)
    fresh.growth.fill_(float(level))
    torch.testing.assert_close(fresh(latents), before, rtol=0, atol=0)


def test_detail_fades_in_for_real_and_generated_volumes_alike() -> None:
    """At half weight, the discriminator is shown half of what the coarser stage cannot hold."""
    _, discriminator = _pair()
    volumes = torch.randn(2, 1, 9, 13, 6)
    shown = []
    for growth in (1.0 + 1e-6, 1.5, 2.0):
        discriminator.growth.fill_(growth)
        shown.append(discriminator.seen(volumes))
    torch.testing.assert_close(shown[1], (shown[0] + shown[2]) / 2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shown[2], volumes)


def test_both_networks_are_whole_unless_a_training_says_otherwise() -> None:
    generator, discriminator = _pair()
    latents = torch.randn(2, 5)
    whole = generator(latents)
    assert float(generator.growth) == float(discriminator.growth) == 2.0
    generator.advance(0.0)
    assert not torch.allclose(generator(latents), whole)
    assert "growth" not in generator.state_dict()
    again = ProgressiveGenerator(**generator.arguments)
    again.load_state_dict(generator.state_dict())
    torch.testing.assert_close(again(latents), whole)


def test_a_growth_that_never_ends_is_refused() -> None:
    options = SynthesisNetwork(kind="progressive", width=4, max_width=4, fading=0.2, stabilising=0.3)
    with pytest.raises(MedganError, match=r"2 stages that fade in for 0\.2 and are stabilised for 0\.3"):
        pair_for(options, (16, 16, 16), (1, 1, 1))
