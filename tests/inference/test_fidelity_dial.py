"""The dial between fidelity and texture, and models that have no texture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medgan.errors import MedganError
from medgan.inference.model import Model, load_model
from medgan.networks.conditioned import ConditionedNetwork
from medgan.networks.saved import save_model


def saved(folder: Path, ends: tuple[str, ...]) -> Model:
    torch.manual_seed(0)
    weights, network = {}, ConditionedNetwork(channels=2, blocks=1)
    for end in ends:
        weights |= {f"{end}.{name}": torch.randn_like(value) for name, value in network.state_dict().items()}
    config = {
        "medgan_version": "1",
        "task": "super_resolution",
        "network": {"name": "conditioned", "arguments": network.arguments},
        "normalisation": {},
    }
    return load_model(save_model(folder, config, weights))


def test_between_the_ends_weights_are_mixed(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", ("fidelity", "perceptual"))
    mixed = model.network(fidelity=0.25).state_dict()
    for name, value in mixed.items():
        expected = 0.25 * model.weights[f"fidelity.{name}"] + 0.75 * model.weights[f"perceptual.{name}"]
        torch.testing.assert_close(value, expected)


def test_a_model_without_texture_says_so(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", ("fidelity",))
    assert model.network(fidelity=1.0).state_dict().keys()
    with pytest.raises(MedganError, match="trained for fidelity alone"):
        model.network(fidelity=0.5)
