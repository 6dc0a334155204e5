"""Checkpoints: state_dicts and plain values, written whole or not at all, loaded without running code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from medgan.errors import MedganError
from medgan.files import atomic_path

FORMAT = 1
_KEPT = 2


def checkpoint_path(folder: Path, step: int) -> Path:
    """The file of the checkpoint at `step` within a run's `checkpoints` folder."""
    return folder / f"step-{step:08d}.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> Path:
    """Write `state` (which names its "step") and remove all but the newest checkpoints."""
    path = checkpoint_path(folder, state["step"])
    with atomic_path(path) as temporary:
        # Through memory: torch's own writer reports a full disk as an error of its archive.
        content = io.BytesIO()
        torch.save({"format": FORMAT, **state}, content)
        temporary.write_bytes(content.getbuffer())
    for old in sorted(folder.glob("step-*.pt"))[:-_KEPT]:
        old.unlink()
    return path


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The newest checkpoint of a run, on the CPU.

    Raises:
        MedganError: there is none, it is damaged, or it has another format.
    """
    paths = sorted(folder.glob("step-*.pt"))
    if not paths:
        raise MedganError("no checkpoint here to resume from", file=folder, hint="Train without --resume.")
    try:
        state = torch.load(paths[-1], map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        hint = f"Remove it to resume from {paths[-2].name}." if len(paths) > 1 else "Train again without --resume."
        raise MedganError(f"the checkpoint is damaged ({type(error).__name__})", file=paths[-1], hint=hint) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise MedganError("the checkpoint was written by another version of medgan", file=paths[-1])
    return dict(state)


def refuse_other_recipe(stored: dict[str, Any], current: dict[str, Any], *, file: Path) -> None:
    """Compare two flattened recipes.

    Raises:
        MedganError: they differ; the message names the fields and both values.
    """
    names = sorted(stored.keys() | current.keys())
    different = [name for name in names if stored.get(name) != current.get(name)]
    if different:
        shown = ", ".join(f"{name} was {stored.get(name)!r}, is now {current.get(name)!r}" for name in different[:5])
        more = f" and {len(different) - 5} more" if len(different) > 5 else ""
        raise MedganError(
            f"this run was started with another recipe: {shown}{more}",
            file=file,
            hint="Resume with the run's own recipe.yaml and no other --set, or start a new run.",
        )
