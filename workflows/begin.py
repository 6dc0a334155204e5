"""A training that begins with the weights of a model instead of fresh ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError

if TYPE_CHECKING:
    from medgan.training.phases import Objective


def begin_from(objective: Objective, model: str | Path | None) -> str | None:
    """Give an objective the weights of a model to begin with.

    Returns:
        The model's hash; None without a model.

    Raises:
        MedganError: there is no such model, or it does not fit the recipe.
    """
    from medgan.inference.model import load_model, require_task
    from medgan.training.restoration import RestorationObjective
    from medgan.workflows.models import resolve_model

    if model is None:
        return None
    if not isinstance(objective, RestorationObjective):
        raise MedganError(f"only super-resolution can start from a model, here {model}", hint="Leave out --from.")
    loaded = load_model(resolve_model(model))
    require_task(loaded, "super_resolution", "this training")
    objective.start_from(loaded.weights)
    return loaded.sha256
