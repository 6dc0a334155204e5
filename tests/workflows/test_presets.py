"""Recipes fitted to the memory of a GPU."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from medgan.data.cohort import Cohort
from medgan.errors import MedganError
from medgan.recipe import SynthesisRecipe
from medgan.recipe_files import load_recipe
from medgan.recipe_presets import SAVINGS, changed_recipe, without_preset
from medgan.reporter import Reporter
from medgan.training.memory import TrainingMemory
from medgan.workflows import presets
from medgan.workflows.plan import describe_training, planned_recipe
from medgan.workflows.train import train

TINY = ["network.width=4", "network.max_width=4", "network.latent_size=4", "synthesis.evaluation_samples=4"]


def _recipe(name: str = "r3gan", **values: object) -> SynthesisRecipe:
    recipe = load_recipe(f"synthesis/{name}", [f"{key.replace('__', '.')}={value}" for key, value in values.items()])
    assert isinstance(recipe, SynthesisRecipe)
    return recipe


def _needs(recipe: SynthesisRecipe) -> float | None:
    """A made-up rule: a GiB for each volume of a part, twice as much with an exact penalty, less with savings."""
    options = recipe.training
    if options.accumulation > 1 and recipe.network.kind == "dcgan":
        return None
    volumes = math.ceil(options.batch_size / options.accumulation)
    factor = 2.0 if recipe.synthesis.penalty.form == "exact" else 1.0
    factor *= 0.5 if options.recompute else 1.0
    factor *= 0.125 if recipe.network.haar_head else 1.0
    return presets.GIB * factor * volumes


def _fitted(recipe: SynthesisRecipe, gib: float, *kept: str) -> dict[str, object]:
    savings = [saving for saving in SAVINGS if not set(saving.fields) & set(kept)]
    found = presets._search(recipe, savings, _needs, gib * presets.GIB, "8g")
    needed = _needs(found.recipe)
    assert needed is not None
    assert needed <= gib * presets.GIB
    assert found.recipe == changed_recipe(recipe, found.changes)
    assert found.changes.keys() == found.reasons.keys()
    return found.changes


@pytest.mark.parametrize(
    ("gib", "changes"),
    [
        (16, {"training.accumulation": 2}),
        (9, {"training.accumulation": 4}),
        (2, {"training.accumulation": 16}),
        (1, {"training.accumulation": 16, "training.recompute": True}),
        (
            0.5,
            {
                "training.accumulation": 16,
                "training.recompute": True,
                "synthesis.penalty.form": "finite_difference",
            },
        ),
    ],
)
def test_savings_are_taken_in_the_order_of_what_they_cost(gib: float, changes: dict[str, object]) -> None:
    assert _fitted(_recipe(training__batch_size=16), gib) == changes


def test_what_a_stronger_saving_makes_unnecessary_is_taken_back() -> None:
    # Without the Haar head 2 GiB are the least; with it, parts of two volumes take 0.5.
    changes = _fitted(_recipe(training__batch_size=16), 0.5, "training.recompute", "synthesis.penalty.form")
    assert changes == {"training.accumulation": 8, "network.haar_head": True}


def test_batches_that_cannot_be_split_become_smaller() -> None:
    changes = _fitted(_recipe("dcgan", training__batch_size=16), 4)
    assert changes == {
        "training.recompute": True,
        "synthesis.penalty.form": "finite_difference",
        "training.batch_size": 8,
        "training.accumulation": 1,
    }


def test_fields_that_the_user_set_stay() -> None:
    changes = _fitted(_recipe(training__batch_size=16), 4, "training.accumulation")
    assert "training.accumulation" not in changes or changes["training.accumulation"] == 1
    assert changes["training.recompute"] is True


def test_what_never_fits_is_refused_with_the_least() -> None:
    with pytest.raises(MedganError, match=r"fit preset 8g \(0.0625 GiB at the least\)"):
        _fitted(_recipe(), 0.01)


def test_names_of_presets() -> None:
    assert without_preset(["training.seed=1", " preset = 16g"]) == (["training.seed=1"], "16g")
    assert without_preset(["training.seed=1"]) == (["training.seed=1"], None)
    for wrong, meant in (("20gb", "16g"), ("16G", "16g"), ("sixteen", "Valid names"), ("2", "6g")):
        with pytest.raises(MedganError, match=f"unknown preset '{wrong}'.*{meant}"):
            without_preset([f"preset={wrong}"])
    with pytest.raises(MedganError, match="8g and 16g are both"):
        without_preset(["preset=8g", "preset=16g"])


def _quick_estimate(recipe: SynthesisRecipe, *unused: object) -> TrainingMemory:
    """A MiB for each volume of a part."""
    return TrainingMemory(0, 0, 0, 0, 2**20 * recipe.training.batch_size // recipe.training.accumulation)


@pytest.mark.parametrize("true_estimate", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_holds_the_plain_fields_that_its_preset_came_to(
    true_estimate: bool, phantom_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not true_estimate:
        monkeypatch.setattr(presets, "estimated", _quick_estimate)
    said = []

    class Listener(Reporter):
        def say(self, message: str) -> None:
            said.append(message)

    # A GPU that has room for less than the batch beside the driver.
    monkeypatch.setitem(presets.PRESETS, "8g", 1.002)  # type: ignore[arg-type]
    overrides = [*TINY, "training.batch_size=4", "tracking.enabled=false", "preset=8g"]
    options = {"overrides": overrides, "device": "cpu", "out": tmp_path / "run", "reporter": Listener()}
    outcome = train("synthesis/quickstart", phantom_cohort, steps=2, stop_after=1, **options)  # type: ignore[arg-type]
    saved = yaml.safe_load((outcome.folder / "recipe.yaml").read_text())
    assert "preset" not in saved
    assert saved["training"]["batch_size"] == 4
    parts = saved["training"]["accumulation"]
    assert parts > 1
    assert any(line.startswith(f"Preset 8g: training.accumulation={parts} (batches pass in parts") for line in said)
    with pytest.raises(MedganError, match="preset=8g cannot be applied"):
        train("synthesis/quickstart", phantom_cohort, overrides=["preset=8g"], device="cpu", resume=outcome.folder)


def test_a_dry_run_has_a_table_of_memory(phantom_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan.workflows.memory._OTHER_SIDES", (4, 24))
    overrides = [*TINY, "training.batch_size=4", "network.haar_head=false"]
    memory = describe_training("synthesis/quickstart", phantom_cohort, overrides=overrides, device="cpu")["memory"]
    assert memory["precision"] == "bfloat16"
    assert memory["smallest_gpu"] == "6g"
    assert memory["peak_gib"] == pytest.approx(sum(memory["parts_gib"].values()), abs=1e-3)
    half, least, larger = memory["by_shape"]
    assert [row["shape"] for row in (half, least, larger)] == [[9, 11, 9], [4, 4, 4], [24, 24, 24]]
    assert least["peak_gib"] < half["peak_gib"] < memory["peak_gib"] < larger["peak_gib"]


def test_presets_are_for_synthesis(phantom_cohort: Path) -> None:
    import torch

    cohort = Cohort.load(phantom_cohort)
    with pytest.raises(MedganError, match=r"fits trainings of synthesis.*super_resolution"):
        planned_recipe("super_resolution/quickstart", ["preset=8g"], cohort, torch.device("cpu"))


def test_steps_of_a_plan_count_all_discriminator_batches(phantom_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan.workflows.memory.described_memory", lambda *unused: {})
    plan = describe_training(
        "synthesis/wgan_gp", phantom_cohort, overrides=["training.batch_size=4", "synthesis.images=1001"]
    )
    # Five batches of the discriminator to one of the generator: 20 images each.
    assert plan["steps"] == 51
    assert describe_training("synthesis/wgan_gp", phantom_cohort, steps=7)["steps"] == 7
