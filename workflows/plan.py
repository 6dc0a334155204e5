"""What a training would do, without doing it: its resolved recipe, fitted to a GPU if asked for, sizes and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.recipe import AnyRecipe
from medgan.recipe_presets import without_preset
from medgan.workflows.run_folder import of_length, resolved_recipe

if TYPE_CHECKING:
    import torch

    from medgan.data.cohort import Cohort
    from medgan.training.phases import Objective
    from medgan.workflows.presets import Fitted


def planned_recipe(
    name: str | Path,
    overrides: Sequence[str],
    cohort: Cohort,
    device: torch.device,
    *,
    steps: int | None = None,
    seed: int | None = None,
) -> tuple[AnyRecipe, str | None]:
    """The recipe of a new training, with every override applied, and what a preset among them did, as a sentence.

    Args:
        name: a shipped recipe's name or the path of a YAML file.
        overrides: assignments such as "training.batch_size=8" or "preset=16g".
        cohort: what is trained on.
        device: where.
        steps: length instead of the recipe's.
        seed: instead of the recipe's.

    Raises:
        MedganError: an assignment does not fit, the preset is unknown, or nothing makes the recipe fit it.
    """
    recipe, preset, fitted = _planned(name, overrides, cohort, device, steps=steps, seed=seed)
    return recipe, fitted.told(preset) if fitted is not None and preset is not None else None


def _planned(
    name: str | Path,
    overrides: Sequence[str],
    cohort: Cohort,
    device: torch.device,
    *,
    steps: int | None,
    seed: int | None,
) -> tuple[AnyRecipe, str | None, Fitted | None]:
    others, preset = without_preset(overrides)
    recipe = resolved_recipe(name, others, seed=seed)
    fitted = None
    if preset is not None:
        from medgan.workflows.presets import fitted_to_preset

        kept = [assignment.partition("=")[0].strip() for assignment in others]
        fitted = fitted_to_preset(recipe, preset, cohort, device, kept=kept)
        recipe = fitted.recipe
    # Last, because a step of a smaller batch sees fewer images.
    return of_length(recipe, steps), preset, fitted


def refuse_preset(overrides: Sequence[str], resumed: Path) -> None:
    """Refuse a preset for a training that goes on.

    Raises:
        MedganError: there is one among the assignments.
    """
    preset = without_preset(overrides)[1]
    if preset is not None:
        raise MedganError(
            f"a resumed training keeps its recipe, so preset={preset} cannot be applied",
            file=resumed,
            hint="Leave the preset out, or start a new run with it.",
        )


def check_loop(recipe: AnyRecipe, objective: Objective, device: torch.device) -> None:
    """Refuse what the loop cannot do with this recipe on this device, before anything is written.

    Raises:
        MedganError: the device does not compute the precision asked for, or no block of the networks may be run twice.
    """
    from medgan.networks.recompute import recompute_activations
    from medgan.training.accumulation import refuse_mixing
    from medgan.training.numerics import autocast_dtype

    options = recipe.training
    autocast_dtype(device, options.mode, options.precision)
    if options.accumulation > 1:
        refuse_mixing(objective.networks.values())
    if options.recompute:
        recompute_activations(dict(objective.networks))


def steps_of(recipe: AnyRecipe, objective: Objective) -> int:
    """Steps of a whole training. A step takes as many batches as its busiest phase, such as a discriminator with
    several steps to one of the generator.
    """
    batches = max(phase.repeats for phase in objective.phases)
    return -(-recipe.images // (recipe.training.batch_size * batches))


def describe_training(
    recipe_name: str,
    data: str | Path,
    *,
    overrides: Sequence[str] = (),
    steps: int | None = None,
    seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """What `train` would do: the resolved recipe, the cohort, the networks and their sizes, and the memory that the
    training would take at the cohort's resolution and, for synthesis, at others.

    Raises:
        MedganError: as `train` would.
    """
    import torch

    from medgan.data.cohort import Cohort
    from medgan.training.numerics import choose_device
    from medgan.workflows.memory import described_memory
    from medgan.workflows.train import build_objective

    cohort = Cohort.load(data)
    place = choose_device(device)
    recipe, preset, fitted = _planned(recipe_name, overrides, cohort, place, steps=steps, seed=seed)
    objective = build_objective(recipe, cohort, torch.device("cpu"))
    described: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "cohort": {
            "folder": str(cohort.folder),
            "shape": list(cohort.shape) if cohort.has_common_grid else None,
            "spacing": [round(step, 4) for step in cohort.spacing],
            "scans": {split: len(cohort.split(split)) for split in ("train", "validation", "test")},
        },
        "parameters": {
            name: sum(parameter.numel() for parameter in network.parameters())
            for name, network in objective.networks.items()
        },
        "steps": steps_of(recipe, objective),
        "memory": described_memory(recipe, cohort, place),
    }
    if fitted is not None:
        described["preset"] = {
            "name": preset,
            "changes": fitted.changes,
            "reasons": fitted.reasons,
            "gib": round(fitted.gib, 4),
        }
    return described
