"""Every kind of network in the one loop: it learns, and a resumed training equals an uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medgan.errors import MedganError
from medgan.networks.families import FAMILIES
from medgan.networks.saved import build_network
from medgan.recipe import SynthesisRecipe
from medgan.recipe_files import load_recipe, parse_recipe, shipped_recipes
from medgan.training.kinds import synthesis_objective
from medgan.training.trainer import Trainer

CPU = torch.device("cpu")
SHAPE, SPACING, BATCH = (9, 11, 8), (1.0, 1.0, 1.2), 4
RECIPES = ["r3gan", "dcgan", "wgan_gp", "stylegan", "progressive", "hagan", "alpha_wgan"]
TINY = [
    "network.width=4",
    "network.max_width=4",
    "network.latent_size=4",
    f"training.batch_size={BATCH}",
    "training.mode=exact",
    "training.tick_steps=1",
    "synthesis.penalty.interval=1",
]

# A stage of the progressive network fades in over several of the few steps.
EXTRA = {
    "r3gan": ["network.group_width=0"],
    "progressive": ["network.fading=0.5", "network.stabilising=0.1"],
    "hagan": ["network.base_size=2"],
}


class _Batches:
    """Batch k is a function of k alone: a blob whose place and size differ from volume to volume."""

    def stream(self, position: int) -> Iterator[Tensor]:
        axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
        while True:
            generator = torch.Generator().manual_seed(position)
            centres = 0.4 * torch.randn(BATCH, 3, 1, 1, 1, generator=generator)
            squared = sum((axis - centres[:, i]) ** 2 for i, axis in enumerate(axes))
            yield torch.exp(-4 * torch.as_tensor(squared))[:, None]
            position += 1


def _recipe(name: str) -> SynthesisRecipe:
    recipe = load_recipe(f"synthesis/{name}", [*TINY, *EXTRA.get(name, [])])
    assert isinstance(recipe, SynthesisRecipe)
    return recipe


def _trainer(folder: Path, name: str, steps: int) -> Trainer:
    recipe = _recipe(name).with_steps(steps)
    objective = synthesis_objective(recipe, shape=SHAPE, spacing=SPACING, device=CPU)
    return Trainer(objective, _Batches(), recipe.training, device=CPU, checkpoints=folder / "checkpoints")


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    networks = {**trainer.objective.networks, "average": trainer.average}
    return {f"{key}.{name}": value for key, net in networks.items() for name, value in net.state_dict().items()}


def test_every_kind_has_a_recipe() -> None:
    recipes = [load_recipe(name) for name in shipped_recipes() if name.startswith("synthesis/")]
    kinds = {recipe.network.kind for recipe in recipes if isinstance(recipe, SynthesisRecipe)}
    assert kinds >= FAMILIES.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_training_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    straight = _trainer(tmp_path / "straight", name, 4)
    start = {key: value.clone() for key, value in _weights(straight).items()}
    straight.run()
    _trainer(tmp_path / "stopped", name, 4).run(stop_after=2)
    resumed = _trainer(tmp_path / "stopped", name, 4)
    resumed.resume()
    resumed.run()
    expected, found = _weights(straight), _weights(resumed)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert any(not torch.equal(value, start[key]) for key, value in expected.items() if key.startswith("average"))


@pytest.mark.parametrize("name", RECIPES)
def test_the_exported_generator_is_rebuilt_whole(name: str, tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, name, 1)
    result = trainer.run()
    config, weights = trainer.objective.export(result.average)
    generator = build_network(config["network"]["name"], config["network"]["arguments"])
    generator.load_state_dict(weights)
    with torch.no_grad():
        volumes = generator.eval()(torch.randn(2, 4))
    assert volumes.shape == (2, 1, *SHAPE)
    assert volumes.isfinite().all()
    if name == "progressive":
        assert float(trainer.objective.networks["generator"].growth) == 0.0  # type: ignore[arg-type]
        assert float(generator.growth) == 1.0  # type: ignore[arg-type]


def _refused(words: str, **changed: Any) -> None:
    content = {"task": "synthesis", **changed}
    with pytest.raises(MedganError, match=words):
        parse_recipe(content, source="recipe.yaml")


def test_recipes_that_cannot_train_are_refused_with_the_reason() -> None:
    _refused("'blocks' is a field of r3gan, vqgan networks, not of dcgan", network={"kind": "dcgan", "blocks": 2})
    _refused("'arguments' is a field of another package's", network={"arguments": {"depth": 3}})
    _refused("max_width times expansion is 36.*group_width 16", network={"max_width": 18})
    alone = {"batch_size": 1}
    _refused("batch normalisation needs.*2 or more", network={"kind": "dcgan"}, training=alone)
    told = {"kind": "stylegan", "minibatch_statistics": "deviation"}
    _refused("minibatch_statistics deviation compares", network=told, training=alone)
    _refused("reconstructions in one half.*2 or more", network={"kind": "alpha_wgan"}, training=alone)
    adaptive = {"augmentation": {"kind": "adaptive"}}
    _refused("augmentation works on whole volumes", network={"kind": "hagan"}, synthesis=adaptive)
    parse_recipe({"task": "synthesis", "network": {"kind": "stylegan"}, "training": alone}, source="recipe.yaml")


def test_a_recipe_saves_and_shows_only_the_fields_of_its_kind() -> None:
    recipe = _recipe("dcgan")
    saved = recipe.model_dump(mode="json")
    assert "normalisation" in saved["network"]
    assert "blocks" not in saved["network"]
    assert parse_recipe(saved, source="recipe.yaml") == recipe


def test_steps_count_generator_steps(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, "wgan_gp", 2)
    trainer.run()
    assert (trainer.step, trainer.images) == (2, 2 * 5 * BATCH)
