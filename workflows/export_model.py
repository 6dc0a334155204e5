"""From a finished training to a model folder that says what it is and where it came from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medgan import __version__
from medgan.recipe import AnyRecipe
from medgan.recipe_translation import TranslationRecipe
from medgan.workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from medgan.data.cohort import Cohort
    from medgan.training.phases import Objective
    from medgan.training.trainer import TrainingResult


def export_trained(
    folder: RunFolder,
    recipe: AnyRecipe,
    recipe_name: str,
    cohort: Cohort,
    objective: Objective,
    result: TrainingResult,
    *,
    run_id: str | None,
) -> None:
    """Write the run's `model/`: weights, and a configuration that holds all that inference needs."""
    from medgan.data.kinship import training_hashes
    from medgan.files import read_json
    from medgan.networks.saved import save_model

    config, weights = objective.export(result.average)
    config |= {
        "medgan_version": __version__,
        "normalisation": _normalisation(recipe, cohort),
        "labels": config.get("labels", []),
        "training": {
            "recipe_name": recipe_name,
            "recipe": recipe.model_dump(mode="json"),
            "steps": result.moment.step,
            "images": result.moment.images,
            "best_step": result.best_step,
            "ended": result.ended,
            "scans": len(cohort.split("train")),
            "manifest_sha256": cohort.manifest_sha256,
            "trained_on": training_hashes(cohort),
            "start_from_sha256": read_json(folder.record).get("start_from_sha256"),
            "run_id": run_id,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }
    if recipe.task == "synthesis":
        config["affine"] = typical_affine(cohort)
    save_model(folder.model, config, weights)


def _normalisation(recipe: AnyRecipe, cohort: Cohort) -> dict[str, Any]:
    """What 0 and 1 of the networks mean, as each task says it."""
    from medgan.workflows.translation_training import translation_normalisation

    if isinstance(recipe, TranslationRecipe):
        return translation_normalisation(recipe, cohort)
    made_from_nothing_known = recipe.task in ("synthesis", "mask_to_scan")
    return normalisation_of(cohort) if made_from_nothing_known else {"percentiles": [0.5, 99.5]}


def normalisation_of(cohort: Cohort) -> dict[str, float]:
    """What 0 and 1 of the networks mean in the scans' units: medians of the training scans' 0.5 and 99.5
    percentiles.
    """
    import numpy as np

    records = cohort.split("train")
    low, high = (float(np.median([record.percentiles[name] for record in records])) for name in ("0.5", "99.5"))
    return {"low": low, "high": high, "minimum": min(float(cohort.voxels(record).min()) for record in records)}


def typical_affine(cohort: Cohort) -> list[list[float]]:
    """The training scans' common affine; when they differ, an axis-aligned one centred on the origin."""
    import numpy as np

    from medgan.geometry import default_affine

    affines: list[Any] = [np.asarray(record.affine) for record in cohort.split("train")]
    if all(np.allclose(affine, affines[0], atol=1e-4) for affine in affines):
        return [[float(value) for value in row] for row in affines[0]]
    return [[float(value) for value in row] for row in default_affine(cohort.shape, cohort.spacing)]
