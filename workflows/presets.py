"""Fit a recipe into the memory of a GPU: the cheapest changes, found by estimating what each of them saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.recipe import AnyRecipe
from medgan.recipe_presets import PRESETS, SAVINGS, FittableRecipe, Saving, changed_recipe
from medgan.workflows.memory import GIB, estimated, half_precision, needed

if TYPE_CHECKING:
    import torch

    from medgan.data.cohort import Cohort

Needs = Callable[[FittableRecipe], float | None]
"""Bytes that a recipe needs of a GPU; None where it cannot be trained."""


@dataclass(frozen=True)
class Fitted:
    """A recipe that fits, and what was done to it.

    Args:
        recipe: with plain fields alone.
        changes: dotted names of changed fields to their new values.
        reasons: what each change does.
        gib: memory that the recipe needs of the GPU, workspaces included.
    """

    recipe: FittableRecipe
    changes: dict[str, Any]
    reasons: dict[str, str]
    gib: float

    def told(self, preset: str) -> str:
        """One sentence for the reader."""
        about = f"about {self.gib:.3g} of {PRESETS[preset]} GiB"
        if not self.changes:
            return f"Preset {preset}: the recipe fits as it is, with {about}"
        steps = "; ".join(f"{name}={value} ({self.reasons[name]})" for name, value in self.changes.items())
        return f"Preset {preset}: {steps}; {about}"


def fitted_to_preset(
    recipe: AnyRecipe, preset: str, cohort: Cohort, device: torch.device, *, kept: Sequence[str] = ()
) -> Fitted:
    """The recipe with as few changes as the memory of the preset's GPU asks for.

    Args:
        recipe: as the user wants it.
        preset: a name in `medgan.recipe_presets.PRESETS`.
        cohort: what it is trained on.
        device: where; on a CPU, a GPU that computes bfloat16 is planned for.
        kept: dotted names of fields that the user has set, which stay.

    Raises:
        MedganError: presets do not know this kind of training, or nothing makes it small enough.
    """
    if not isinstance(recipe, FittableRecipe):
        raise MedganError(
            f"preset={preset} cannot be fitted to a training of the task {recipe.task}",
            hint="Leave the preset out; lower training.batch_size, or set training.recompute=true.",
        )

    # What is wrong with the recipe itself is said as it is.
    own = needed(estimated(recipe, cohort, half_precision(recipe, device)))
    known: dict[str, float | None] = {recipe.model_dump_json(): own}

    def needs(candidate: FittableRecipe) -> float | None:
        key = candidate.model_dump_json()
        if key not in known:
            try:
                known[key] = needed(estimated(candidate, cohort, half_precision(candidate, device)))
            except MedganError:
                known[key] = None
        return known[key]

    limit = PRESETS[preset] * GIB
    if own <= limit:
        return Fitted(recipe, {}, {}, own / GIB)
    savings = [saving for saving in SAVINGS if not set(saving.fields) & set(kept)]
    return _search(recipe, savings, needs, limit, preset)


def _search(recipe: FittableRecipe, savings: list[Saving], needs: Needs, limit: float, preset: str) -> Fitted:
    """Savings at their strongest, one upon the other, until the recipe fits; then each as gently as it still fits."""
    levels: list[tuple[Saving, int]] = []
    least = needs(recipe)
    for saving in savings:
        strongest = _strongest(recipe, [*levels], saving, needs)
        if strongest is None:
            continue
        level, least = strongest
        levels.append((saving, level))
        if least <= limit:
            return _relaxed(recipe, levels, needs, limit)
    shown = "" if least is None else f" ({least / GIB:.3g} GiB at the least)"
    raise MedganError(
        f"no change of the recipe makes it fit preset {preset}{shown}",
        hint="Prepare the cohort with a coarser spacing, make networks narrower, or for synthesis choose hagan ones.",
    )


def _strongest(
    recipe: FittableRecipe, levels: list[tuple[Saving, int]], saving: Saving, needs: Needs
) -> tuple[int, float] | None:
    """The strongest choice of a saving that can be trained, and what it needs; None if there is none."""
    current = _with(recipe, levels)
    assert current is not None
    for level in range(len(saving.choices(current)), 0, -1):
        changed = _with(recipe, [*levels, (saving, level)])
        size = needs(changed) if changed is not None else None
        if size is not None:
            return level, size
    return None


def _relaxed(recipe: FittableRecipe, levels: list[tuple[Saving, int]], needs: Needs, limit: float) -> Fitted:
    """Each saving at the lowest level that still fits, the costliest for the quality first."""
    for place in reversed(range(len(levels))):
        saving, level = levels[place]
        low = 0
        # Memory falls with the level: halve the span of levels that may do.
        while low < level:
            middle = (low + level) // 2
            changed = _with(recipe, [*levels[:place], (saving, middle), *levels[place + 1 :]])
            size = needs(changed) if changed is not None else None
            low, level = (low, middle) if size is not None and size <= limit else (middle + 1, level)
        levels[place] = (saving, level)
    chosen = _with(recipe, levels)
    assert chosen is not None
    size = needs(chosen)
    assert size is not None
    changes, reasons = _changes(recipe, levels)
    return Fitted(chosen, changes, reasons, size / GIB)


def _changes(recipe: FittableRecipe, levels: list[tuple[Saving, int]]) -> tuple[dict[str, Any], dict[str, str]]:
    changes: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for done in range(len(levels)):
        saving, level = levels[done]
        before = _with(recipe, levels[:done])
        assert before is not None
        if level:
            values = saving.choices(before)[level - 1]
            changes |= values
            reasons |= dict.fromkeys(values, saving.says)
    return changes, reasons


def _with(recipe: FittableRecipe, levels: list[tuple[Saving, int]]) -> FittableRecipe | None:
    """The recipe after savings at their levels (0 leaves one out); None if these do not go together."""
    current: FittableRecipe | None = recipe
    for saving, level in levels:
        if current is None:
            return None
        if level:
            choices = saving.choices(current)
            if level > len(choices):
                return None
            current = changed_recipe(current, choices[level - 1])
    return current
