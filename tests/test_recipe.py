from __future__ import annotations

import math
from pathlib import Path

import pytest

from medgan.errors import MedganError
from medgan.recipe import Schedule, SuperResolutionRecipe, SynthesisRecipe
from medgan.recipe_files import described, flattened, load_recipe, save_recipe, shipped_recipes


def test_every_shipped_recipe_loads_and_every_field_has_a_sentence() -> None:
    assert {"synthesis/r3gan", "super_resolution/esrgan3d"} <= shipped_recipes().keys()
    for name in shipped_recipes():
        recipe = load_recipe(name)
        # A recipe stands in the folder of its task, or among those of the scans that it makes.
        assert recipe.task in name.split("/")
        for field, _, sentence in described(recipe):
            assert sentence.endswith("."), f"{name}: {field} has no sentence"


def test_a_saved_recipe_loads_as_the_same_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("synthesis/r3gan", ["training.batch_size=3", "synthesis.penalty.weight=1e-3"])
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert flattened(recipe)["training.batch_size"] == 3
    assert flattened(recipe)["synthesis.penalty.weight.end"] == 1e-3


def test_one_end_of_a_schedule_can_be_overridden() -> None:
    recipe = load_recipe("synthesis/r3gan", ["synthesis.optimizer.learning_rate.start=0.01"])
    assert isinstance(recipe, SynthesisRecipe)
    assert recipe.synthesis.optimizer.learning_rate == Schedule(start=0.01, end=5e-5)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.batchsize=4", ["training.batchsize", "batch_size"]),
        ("synthesis.penalty.knd=r1", ["synthesis.penalty.knd", "kind"]),
        ("training.batch_size=0", ["training.batch_size", "0", "greater"]),
        ("synthesis.loss=hing", ["synthesis.loss", "hing", "hinge"]),
        ("netwrk.width=4", ["netwrk", "network"]),
        ("no assignment", ["no assignment", "--set"]),
        ("training.seed=nan", ["training.seed", "nan"]),
    ],
)
def test_a_wrong_override_names_field_value_and_file(override: str, words: list[str]) -> None:
    with pytest.raises(MedganError) as caught:
        load_recipe("synthesis/r3gan", [override])
    message = str(caught.value)
    for word in words:
        assert word in message, message
    if "=" in override:
        assert "r3gan.yaml" in message


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(MedganError, match=r"synthesis/r3gan"):
        load_recipe("synthesis/r3gn")
    with pytest.raises(MedganError, match="no such recipe file"):
        load_recipe(tmp_path / "mine.yaml")
    (tmp_path / "bad.yaml").write_text("task: [")
    with pytest.raises(MedganError, match="not readable as YAML"):
        load_recipe(tmp_path / "bad.yaml")
    (tmp_path / "odd.yaml").write_text("task: dreaming\n")
    with pytest.raises(MedganError, match="dreaming"):
        load_recipe(tmp_path / "odd.yaml")


def test_schedule_is_half_a_cosine() -> None:
    schedule = Schedule(start=2.0, end=1.0)
    assert [schedule.at(p) for p in (-1, 0, 0.5, 1, 2)] == pytest.approx([2, 2, 1.5, 1, 1])
    assert schedule.at(0.25) == pytest.approx(1 + 0.5 * (1 + math.cos(math.pi / 4)))


def test_steps_stretch_the_training() -> None:
    assert load_recipe("synthesis/r3gan").with_steps(7).images == 7 * 16
    recipe = load_recipe("super_resolution/esrgan3d").with_steps(30)
    assert isinstance(recipe, SuperResolutionRecipe)
    stages = recipe.super_resolution
    assert (stages.pretraining.images, stages.adversarial.images) == (20 * 8, 10 * 8)
