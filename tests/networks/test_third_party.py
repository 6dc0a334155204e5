"""Networks of another package, from its entry point to a saved model: what such a package looks like in full."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from medgan.errors import MedganError
from medgan.networks.families import exported_generator, pair_for
from medgan.networks.saved import build_network
from medgan.recipe import SynthesisNetwork
from medgan.recipe_files import load_recipe

MODULE = '''
import math

from torch import nn


def pair(*, shape, spacing, latent_size, width=8, broken=False):
    """What the entry point names: a generator and a discriminator for volumes of `shape` voxels."""
    voxels = math.prod(shape)
    generator = nn.Sequential(
        nn.Linear(latent_size, width), nn.ReLU(), nn.Linear(width, voxels), nn.Unflatten(1, (1, *shape))
    )
    score = nn.Linear(width, 2 if broken else 1)
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(voxels, width), nn.ReLU(), score)
    return generator, discriminator
'''
METADATA = "Metadata-Version: 2.1\nName: someones-networks\nVersion: 1.0\n"
ENTRY_POINTS = """[medgan.networks]
someones_dense = someones_networks:pair
someones_missing = someones_networks:nothing
r3gan = someones_networks:pair
"""


@pytest.fixture(autouse=True)
def someones_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution, as pip would leave it."""
    (tmp_path / "someones_networks.py").write_text(MODULE)
    information = tmp_path / "someones_networks-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(METADATA)
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "someones_networks", raising=False)


def test_a_recipe_names_them_and_a_saved_model_rebuilds_them() -> None:
    options = SynthesisNetwork(kind="someones_dense", latent_size=6, arguments={"width": 5})
    torch.manual_seed(0)
    generator, discriminator = pair_for(options, (4, 5, 3), (1.0, 1.0, 2.0))
    assert generator(torch.randn(2, 6)).shape == (2, 1, 4, 5, 3)
    assert discriminator(torch.randn(2, 1, 4, 5, 3)).shape == (2, 1)
    record = exported_generator(options, generator, shape=(4, 5, 3), spacing=(1.0, 1.0, 2.0))
    again = build_network(record["name"], record["arguments"])
    again.load_state_dict(generator.state_dict())
    latents = torch.randn(2, 6)
    torch.testing.assert_close(again(latents), generator(latents), rtol=0, atol=0)
    assert again.latent_size == 6  # type: ignore[comparison-overlap]


def test_trying_them_draws_nothing_from_the_training_s_random_numbers() -> None:
    torch.manual_seed(0)
    options = SynthesisNetwork(kind="someones_dense", latent_size=6)
    pair_for(options, (4, 5, 3), (1, 1, 1))
    after = torch.rand(3)
    torch.manual_seed(0)
    sys.modules["someones_networks"].pair(shape=(4, 5, 3), spacing=(1, 1, 1), latent_size=6)
    torch.testing.assert_close(after, torch.rand(3), rtol=0, atol=0)


def test_medgan_s_own_kinds_cannot_be_replaced() -> None:
    generator, _ = pair_for(SynthesisNetwork(width=8, max_width=8), (8, 8, 8), (1, 1, 1))
    assert type(generator).__name__ == "R3Generator"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "someones_missing"}, "cannot be loaded"),
        ({"kind": "someones_dense", "arguments": {"depth": 3}}, "refuse their arguments.*depth"),
        ({"kind": "someones_dense", "arguments": {"broken": True}}, r"logits of shape \(2, 2\)"),
    ],
)
def test_what_is_wrong_with_them_is_said(options: dict[str, object], words: str) -> None:
    with pytest.raises(MedganError, match=words):
        pair_for(SynthesisNetwork(**options), (4, 4, 4), (1, 1, 1))  # type: ignore[arg-type]


def test_a_recipe_with_networks_of_no_package_or_foreign_fields_is_refused() -> None:
    with pytest.raises(MedganError, match=r"network\.kind.*'someones_dence'.*someones_dense"):
        load_recipe("synthesis/dcgan", ["network.kind=someones_dence"])
    with pytest.raises(MedganError, match=r"'base_size' is a field of .*r3gan.* not of someones_dense"):
        load_recipe("synthesis/r3gan", ["network.kind=someones_dense"])
    with pytest.raises(MedganError, match=r"unknown network 'nobodys'.*install that package"):
        build_network("nobodys", {})
