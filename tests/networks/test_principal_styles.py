"""A generator with styles around a linear model: the weights of the model behave like more of a style."""

from __future__ import annotations

import torch
from torch import Tensor

from medgan.inference.points import has_styles, mixed, point_of_sample, rendered
from medgan.labels import ContinuousLabel, LabelCoding
from medgan.networks.labelled import LabelledStyleGenerator
from medgan.networks.latents import latent
from medgan.networks.principal_styles import PrincipalStyleGenerator
from medgan.networks.saved import build_network
from medgan.networks.stylegan import StyleGenerator, noise_seeds

SHAPE, GRID, LATENT, STYLE = (10, 9, 12), (5, 9, 6), 6, 5
PYRAMID = {"shapes": [(5, 5, 6), (10, 9, 12)], "channels": [6, 4], "out_shape": SHAPE}


def _generator(codes: int = 0) -> PrincipalStyleGenerator:
    torch.manual_seed(0)
    inner = StyleGenerator(**PYRAMID, latent_size=LATENT, style_size=STYLE)  # type: ignore[arg-type]
    for name, parameter in inner.named_parameters():
        if name.endswith("strength"):
            torch.nn.init.ones_(parameter)
    whole = PrincipalStyleGenerator(
        inner,
        record={"name": "style_generator", "arguments": inner.arguments},
        latent_size=LATENT,
        components=3,
        grid=GRID,
        out_shape=SHAPE,
        codes=codes,
    )
    effects = torch.randn(codes, 1, *GRID) if codes else None
    whole.begin(torch.randn(1, 1, *GRID), torch.randn(3, 1, *GRID), lowest=-100.0, effects=effects)
    inner.mean_style.normal_()
    return whole.eval()


def _samples(network: PrincipalStyleGenerator, latents: Tensor, **options: float) -> Tensor:
    with torch.no_grad():
        return network(latents, **options)


def test_samples_are_the_linear_model_and_a_share_of_the_inner_network() -> None:
    network, latents = _generator(), torch.randn(2, LATENT)
    with torch.no_grad():
        expected = network.linear(latents) + 0.1 * network.inner(latents)
    torch.testing.assert_close(_samples(network, latents), expected)


def test_truncation_pulls_towards_the_mean_scan_and_the_mean_style() -> None:
    network, latents = _generator(), torch.randn(2, LATENT)
    noise = network.inner.noise_of(latents)
    with torch.no_grad():
        mean = network.enlarge(network.mean)
        styles = network.inner.mean_style.expand(2, network.layers, -1)
        expected = mean + 0.1 * network.inner.synthesise(styles, noise)
        halfway = network.styles(latents, truncation=0.5)
    torch.testing.assert_close(_samples(network, latents, truncation=0.0), expected)
    torch.testing.assert_close(halfway[:, STYLE:], latents[:, :3] / 2)


def test_points_make_samples_again_and_mix_with_the_coarse_weights() -> None:
    network = _generator()
    assert has_styles(network)
    points = [point_of_sample(network, seed=0, index=index) for index in (0, 1)]
    vectors = torch.stack([latent(0, index, LATENT) for index in (0, 1)])
    with torch.no_grad():
        made = rendered(network, points[0])
        torch.testing.assert_close(made, network(vectors[:1], seeds=noise_seeds(vectors[:1])))
        both = rendered(network, mixed(points[0], points[1], from_stage=1))
        linear = network.linear(vectors[:1])
        coarse, fine = (point.position[:, :STYLE] for point in points)
        inner = network.inner.synthesise(torch.cat((coarse[:1], fine[1:]))[None], network.inner.noise_of(vectors[:1]))
    torch.testing.assert_close(both, linear + 0.1 * inner)


def test_training_mixes_styles_of_the_inner_network_alone() -> None:
    network, latents = _generator().train(), torch.randn(4, LATENT)
    network.share.data.zero_()
    with torch.no_grad():
        torch.testing.assert_close(network(latents), network.linear(latents))
    network(latents).square().sum().backward()
    assert network.share.grad is not None


def test_truncation_of_a_labelled_one_keeps_the_label() -> None:
    labels = {
        "coding": LabelCoding((ContinuousLabel("age", 50.0, 10.0, 20.0, 80.0),)).to_json(),
        "cells": [{"classes": [], "count": 20, "quantiles": [[20.0, 80.0]]}],
        "correlation": [[1.0]],
    }
    inner = _generator(codes=2)
    arguments = {
        "inner": {"name": inner.registered, "arguments": inner.arguments},
        "labels": labels,
        "latent_size": LATENT - 2,
        "embedding_size": 2,
        "dropout": 0.0,
    }
    network = build_network("labelled_generator", arguments).eval()
    assert isinstance(network, LabelledStyleGenerator)
    assert isinstance(network.inner, PrincipalStyleGenerator)
    assert network.inner.held_latents == 2
    network.inner.load_state_dict(inner.state_dict())
    code = network.codes([{"age": 70.0}])
    with torch.no_grad():
        styles = network.styles(torch.randn(1, LATENT - 2), code, truncation=0.3)
    torch.testing.assert_close(styles[:, -2:], code)
