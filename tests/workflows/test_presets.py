"""Recipes fitted to the memory of a GPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

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


SMALLER = {
    "translation/pix2pix": {"translation.penalty.form": "finite_difference", "translation.patch": [24, 24, 24]},
    "synthesis/mask_to_scan": {"mask_to_scan.penalty.form": "finite_difference", "network.haar_head": True},
    "super_resolution/esrgan3d": {
        "super_resolution.adversarial.penalty.form": "finite_difference",
        "super_resolution.patch": [32, 32, 32],
    },
}
STARTS = {
    "translation/pix2pix": ["translation.penalty.form=exact"],
    "synthesis/mask_to_scan": ["mask_to_scan.penalty.kind=r1"],
    "super_resolution/esrgan3d": [
        "super_resolution.adversarial.penalty.form=exact",
        "super_resolution.patch=[48,48,48]",
    ],
}


@pytest.mark.parametrize("name", SMALLER)
def test_other_tasks_have_savings_of_their_own(name: str) -> None:
    recipe = load_recipe(name, [*STARTS[name], "training.batch_size=4", "training.recompute=true"])
    assert not isinstance(recipe, SynthesisRecipe)
    offered = {field for saving in SAVINGS for values in saving.choices(recipe) for field in values}
    assert set(SMALLER[name]) <= offered
    assert all(field.partition(".")[0] in {"training", "network", recipe.task} for field in offered)

    def needs(candidate: Any) -> float | None:
        """Fits only with all of the savings that are expected; nothing else helps."""
        missing = 0
        for field, wanted in SMALLER[name].items():
            value = _value(candidate, field)
            missing += value > wanted if isinstance(wanted, list) else value != wanted
        return presets.GIB * (1.0 + missing)

    found = presets._search(recipe, [one for one in SAVINGS if not set(one.fields) & KEPT], needs, presets.GIB, "8g")
    assert found.changes == SMALLER[name]
    assert found.recipe.task == recipe.task


KEPT = {"training.batch_size", "training.accumulation"}


def _value(recipe: Any, name: str) -> Any:
    for part in name.split("."):
        recipe = getattr(recipe, part)
    return list(recipe) if isinstance(recipe, tuple) else recipe


def test_patches_become_smaller_in_steps_that_networks_can_halve() -> None:
    saving = next(one for one in SAVINGS if "translation.patch" in one.fields)
    for patch, expected in (
        ("[64,48,32]", [[48, 32, 24], [32, 24, 16]]),
        ("[24,24,12]", [[16, 16, 12]]),
        ("[16,16,16]", []),
    ):
        recipe = load_recipe("translation/pix2pix", [f"translation.patch={patch}"])
        assert [values["translation.patch"] for values in saving.choices(recipe)] == expected  # type: ignore[arg-type]
    assert not saving.choices(_recipe())


def test_a_dry_run_of_patches_has_a_table_of_patches(phantom_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan.workflows.memory._OTHER_PATCHES", (8, 12, 16))
    sizes = ["super_resolution.patch=[14,14,14]", "super_resolution.adversarial.images=0", "training.batch_size=12"]
    memory = describe_training("super_resolution/quickstart", phantom_cohort, overrides=sizes, device="cpu")["memory"]
    assert [row["patch"] for row in memory["by_patch"]] == [[8] * 3, [12] * 3, [16] * 3]
    least, less, more = (row["peak_gib"] for row in memory["by_patch"])
    assert least < less < memory["peak_gib"] < more


def test_a_preset_fits_a_training_on_patches(phantom_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(presets, "estimated", _quick_estimate)
    monkeypatch.setitem(presets.PRESETS, "8g", 1.002)  # type: ignore[arg-type]
    cohort = Cohort.load(phantom_cohort)
    overrides = ["training.batch_size=4", "preset=8g"]
    recipe, said = planned_recipe("super_resolution/quickstart", overrides, cohort, torch.device("cpu"))
    assert said is not None
    assert recipe.training.accumulation > 1


def test_steps_of_a_plan_count_all_discriminator_batches(phantom_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan.workflows.memory.described_memory", lambda *unused: {})
    plan = describe_training(
        "synthesis/wgan_gp", phantom_cohort, overrides=["training.batch_size=4", "synthesis.images=1001"]
    )
    # Five batches of the discriminator to one of the generator: 20 images each.
    assert plan["steps"] == 51
    assert describe_training("synthesis/wgan_gp", phantom_cohort, steps=7)["steps"] == 7
