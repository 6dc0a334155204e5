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
from medgan.geometry import Shape
from medgan.recipe_families import fields_of
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.recipe_super_resolution import SuperResolutionRecipe
from medgan.recipe_synthesis import SynthesisRecipe
from medgan.recipe_translation import TranslationRecipe

FittableRecipe = SynthesisRecipe | TranslationRecipe | MaskToScanRecipe | SuperResolutionRecipe
"""Recipes that presets know how to make smaller."""

PRESETS: Mapping[str, int] = {f"{size}g": size for size in (6, 8, 11, 12, 16, 24, 32, 40, 48, 80)}
"""Names of presets to GiB of GPU memory."""
ASSIGNMENT = "preset"

# A batch of fewer volumes makes statistics of two; below that there are none.
_GOOD_BATCH, _LEAST_BATCH = 4, 2
# Smaller patches show too little of a scan. Sides stay multiples of what networks halve and fold.
_LEAST_PATCH, _PATCH_STEP = 16, 8

# Where the recipes of each task have their penalty.
_PENALTIES: Mapping[str, str] = {
    "synthesis": "synthesis.penalty",
    "translation": "translation.penalty",
    "mask_to_scan": "mask_to_scan.penalty",
    "super_resolution": "super_resolution.adversarial.penalty",
}
PATCHES: Mapping[str, str] = {"translation": "translation.patch", "super_resolution": "super_resolution.patch"}
"""Tasks that train on patches, and the field of their size."""

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
    choices: Callable[[FittableRecipe], list[Values]]


def _parts(recipe: FittableRecipe) -> list[Values]:
    options, parts, found = recipe.training, recipe.training.accumulation, []
    while parts < options.batch_size:
        parts = min(2 * parts, options.batch_size)
        found.append({"training.accumulation": parts})
    # The strongest that leaves each part enough volumes to compare is found by trying.
    return [values for values in found if changed_recipe(recipe, values) is not None]


def _recompute(recipe: FittableRecipe) -> list[Values]:
    return [] if recipe.training.recompute else [{"training.recompute": True}]


def _finite_difference(recipe: FittableRecipe) -> list[Values]:
    name = _PENALTIES[recipe.task]
    penalty = _value(recipe, name)
    able = penalty.kind in ("r1", "r2", "r1+r2") and penalty.form == "exact"
    return [{f"{name}.form": "finite_difference"}] if able else []


def _haar_head(recipe: FittableRecipe) -> list[Values]:
    if isinstance(recipe, SuperResolutionRecipe):
        return []
    known = not isinstance(recipe, SynthesisRecipe) or "haar_head" in fields_of(recipe.network.kind)
    return [{"network.haar_head": True}] if known and not recipe.network.haar_head else []


def _smaller_patches(recipe: FittableRecipe) -> list[Values]:
    name = PATCHES.get(recipe.task)
    if name is None:
        return []
    now: Shape = _value(recipe, name)
    found: list[Values] = []
    for share in (0.75, 0.5):
        sides = [max(min(_LEAST_PATCH, side), _PATCH_STEP * int(share * side / _PATCH_STEP)) for side in now]
        if sides != list(now) and {name: sides} not in found:
            found.append({name: sides})
    return found


def _batches_down_to(least: int) -> Callable[[FittableRecipe], list[Values]]:
    def choices(recipe: FittableRecipe) -> list[Values]:
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
        tuple(f"{name}.form" for name in _PENALTIES.values()),
        "the penalty is estimated from a small disturbance, without double backward",
        _finite_difference,
    ),
    Saving(("training.batch_size",), _SMALLER, _batches_down_to(_GOOD_BATCH)),
    Saving(tuple(PATCHES.values()), "smaller patches, which show less of a scan at once", _smaller_patches),
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


def _value(recipe: FittableRecipe, name: str) -> Any:
    """The value of a dotted field."""
    place: Any = recipe
    for part in name.split("."):
        place = getattr(place, part)
    return place


def changed_recipe(recipe: FittableRecipe, values: Mapping[str, Any]) -> FittableRecipe | None:
    """The recipe with other values of dotted fields; None if these do not go together."""
    content = recipe.model_dump()
    for name, value in values.items():
        *groups, leaf = name.split(".")
        place = content
        for group in groups:
            place = place[group]
        place[leaf] = value
    try:
        return type(recipe).model_validate(content)
    except ValidationError:
        return None
