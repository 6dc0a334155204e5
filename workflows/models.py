"""What a user may call a model, resolved to its folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError, nearest
from medgan.pretrained import shipped_model, shipped_models
from medgan.reporter import Reporter

if TYPE_CHECKING:
    from medgan.inference.model import Model

# The regularised inverse of the acquisition, without learning; and the model that upscales whatever nobody chose a
# model for.
PHYSICS, UNIVERSAL = "physics", "mri-universal"
_ADDRESSES = ("runs:/", "models:/")


def resolve_model(name: str | Path) -> Path:
    """The model folder behind a shipped model's name, a run folder, a model folder, or an MLflow address.

    A shipped name goes before a folder of the same name, which can be given as ./NAME.

    Args:
        name: such as "mri-universal", a path, "runs:/ID/model" or "models:/name@alias".

    Raises:
        MedganError: there is no such model; the message holds the names that come closest.
    """
    from medgan.networks.saved import find_model

    if str(name).startswith(_ADDRESSES):
        from medgan.tracking import resolve_model as from_tracking

        return find_model(from_tracking(str(name), None))
    if str(name) in shipped_models():
        return shipped_model(str(name))
    if _is_a_word(name) and not os.path.lexists(name):
        raise MedganError(
            "no such model folder, and no shipped model of this name",
            file=name,
            hint=f"{nearest(str(name), [PHYSICS, *shipped_models()])} "
            "Give a run folder, its model folder, or an MLflow address such as runs:/ID/model for one of your own.",
        )
    return find_model(name)


def chosen_model(name: str | Path | None, reporter: Reporter) -> str:
    """The model to upscale with, said to the user when nobody chose it.

    Args:
        name: what the user asked for; None for the shipped model or, in an installation without it, "physics".
        reporter: hears which one it is if `name` is None.
    """
    if name is not None:
        return str(name)
    if UNIVERSAL in shipped_models():
        reporter.say(f"model: {UNIVERSAL} (shipped with medgan)")
        return UNIVERSAL
    reporter.say(
        f"model: {PHYSICS}, the inverse of the acquisition without learning; this installation has no {UNIVERSAL}"
    )
    return PHYSICS


def model_for(task: str, name: str | Path, device: str, verb: str) -> Model:
    """A model that was trained for a task, loaded on its device.

    Args:
        task: such as "synthesis".
        name: as `resolve_model` takes it.
        device: "auto", "cpu", "cuda", ...
        verb: what is to be done with it, for the message.

    Raises:
        MedganError: there is no such model, it was trained for something else, or the device is not there.
    """
    from medgan.inference.model import load_model, require_task
    from medgan.training.numerics import choose_device

    loaded = load_model(resolve_model(name), choose_device(device))
    require_task(loaded, task, verb)
    return loaded


def super_resolution_model(name: str, device: str) -> Model | None:
    """The model on its device; None for physics alone.

    Raises:
        MedganError: there is no such model, it was trained for something else, or the device is not there.
    """
    from medgan.training.numerics import choose_device

    if name == PHYSICS:
        choose_device(device)  # a device that is not there is refused all the same
        return None
    return model_for("super_resolution", name, device, "upscale")


def _is_a_word(name: str | Path) -> bool:
    """Whether it can be the name of a shipped model, and is no path."""
    return isinstance(name, str) and not any(mark in name for mark in ("/", "\\", ".")) and name != ""
