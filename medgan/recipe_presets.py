"""Presets of a recipe by the memory of a GPU: which names there are, and what may be changed to save memory.

A preset is no field of a recipe. `--set preset=16g` stands among the assignments; what it comes to is written into the
recipe's plain fields, so that a run can be repeated without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from medgan.errors import MedganError, nearest
from medgan.recipe_families import fields_of
from medgan.recipe_synthesis import SynthesisRecipe

PRESETS: Mapping[str, int] = {f"{size}g": size for size in (6, 8, 11, 12, 16, 24, 32, 40, 48, 80)}
"""Names of presets to GiB of GPU memory."""
ASSIGNMENT = "preset"

# A batch of fewer volumes makes statistics of two; below that there are none.
_GOOD_BATCH, _LEAST_BATCH = 4, 2

Values = dict[str, Any]


@dataclass(frozen=True)
class Saving:
    """One way to change a recipe so that it takes less memory.

    Args:
        fields: dotted names of what it changes; a user who sets one of them keeps it.
        says: what it does and what it costs, for the reader.
        choices: values of these fields in a recipe, by name, from the gentlest to the strongest; none where there is
            nothing to change.
    """

    fields: tuple[str, ...]
    says: str
    choices: Callable[[SynthesisRecipe], list[Values]]


def _parts(recipe: SynthesisRecipe) -> list[Values]:
    options, parts, found = recipe.training, recipe.training.accumulation, []
    while parts < options.batch_size:
        parts = min(2 * parts, options.batch_size)
        found.append({"training.accumulation": parts})
    # The strongest that leaves each part enough volumes to compare is found by trying.
    return [values for values in found if changed_recipe(recipe, values) is not None]


def _recompute(recipe: SynthesisRecipe) -> list[Values]:
    return [] if recipe.training.recompute else [{"training.recompute": True}]


def _finite_difference(recipe: SynthesisRecipe) -> list[Values]:
    penalty = recipe.synthesis.penalty
    able = penalty.kind in ("r1", "r2", "r1+r2") and penalty.form == "exact"
    return [{"synthesis.penalty.form": "finite_difference"}] if able else []


def _haar_head(recipe: SynthesisRecipe) -> list[Values]:
    able = "haar_head" in fields_of(recipe.network.kind) and not recipe.network.haar_head
    return [{"network.haar_head": True}] if able else []


def _batches_down_to(least: int) -> Callable[[SynthesisRecipe], list[Values]]:
    def choices(recipe: SynthesisRecipe) -> list[Values]:
        options, found, size = recipe.training, [], recipe.training.batch_size // 2
        while size >= least:
            parts = min(options.accumulation, size)
            found.append({"training.batch_size": size, "training.accumulation": parts})
            size //= 2
        return found

    return choices


_SMALLER = "smaller batches, whose statistics are noisier"

SAVINGS: tuple[Saving, ...] = (
    Saving(("training.accumulation",), "batches pass in parts, with the gradients of the whole", _parts),
    Saving(
        ("training.recompute",),
        "features are computed again instead of kept: the same results, about a third slower",
        _recompute,
    ),
    Saving(
        ("synthesis.penalty.form",),
        "the penalty is estimated from a small disturbance, without double backward",
        _finite_difference,
    ),
    Saving(("training.batch_size",), _SMALLER, _batches_down_to(_GOOD_BATCH)),
    Saving(("network.haar_head",), "the networks work on sub-bands at half the resolution: other networks", _haar_head),
    Saving(("training.batch_size",), _SMALLER, _batches_down_to(_LEAST_BATCH)),
)
"""Cheapest for the quality of the result first."""


def without_preset(assignments: Sequence[str]) -> tuple[list[str], str | None]:
    """The assignments of a command line without `preset=NAME`, and that name, or None where there is none.

    Raises:
        MedganError: the preset is unknown, or there are several.
    """
    others, names = [], []
    for assignment in assignments:
        field, _, value = assignment.partition("=")
        if field.strip() == ASSIGNMENT:
            names.append(value.strip().strip("'\""))
        else:
            others.append(assignment)
    if len(set(names)) > 1:
        raise MedganError(f"presets {' and '.join(names)} are both asked for", hint="Set one of them.")
    if not names:
        return others, None
    if names[0] not in PRESETS:
        raise MedganError(f"unknown preset '{names[0]}'", hint=_nearest(names[0]))
    return others, names[0]


def _nearest(name: str) -> str:
    """The largest preset that fits into a number of GiB, or the nearest spelling."""
    number = re.match(r"\s*(\d+(?:\.\d+)?)", name)
    if number is None:
        return nearest(name, list(PRESETS))
    least = min(PRESETS, key=PRESETS.__getitem__)
    fitting = [known for known, size in PRESETS.items() if size <= float(number[1])] or [least]
    return f"Did you mean '{max(fitting, key=PRESETS.__getitem__)}'? Presets are {', '.join(PRESETS)}."


def changed_recipe(recipe: SynthesisRecipe, values: Mapping[str, Any]) -> SynthesisRecipe | None:
    """The recipe with other values of dotted fields; None if these do not go together."""
    content = recipe.model_dump()
    for name, value in values.items():
        *groups, leaf = name.split(".")
        place = content
        for group in groups:
            place = place[group]
        place[leaf] = value
    try:
        return SynthesisRecipe.model_validate(content)
    except ValidationError:
        return None
