"""What a user may call a model, resolved to its folder."""

from __future__ import annotations

from pathlib import Path

from medgan.networks.saved import find_model


def resolve_model(name: str | Path) -> Path:
    """The model folder behind a run folder, a model folder, or an MLflow address.

    Args:
        name: a path, "runs:/ID/model" or "models:/name@alias".

    Raises:
        MedganError: there is no such model.
    """
    if str(name).startswith(("runs:/", "models:/")):
        from medgan.tracking import resolve_model as from_tracking

        return find_model(from_tracking(str(name), None))
    return find_model(name)
