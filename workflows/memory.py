"""What a training would take of a GPU's memory, for a cohort's own resolution and for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.recipe import AnyRecipe, SynthesisRecipe
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.recipe_presets import PATCHES, PRESETS, FittableRecipe, changed_recipe

if TYPE_CHECKING:
    import torch

    from medgan.data.cohort import Cohort
    from medgan.geometry import Shape
    from medgan.training.memory import TrainingMemory
    from medgan.training.phases import Objective

GIB = 2**30
# Not counted by the estimate: what the driver, the libraries and the workspaces of convolutions take, in bytes, and
# what the allocator cannot use between its blocks, as a share.
_WORKSPACES, _FRAGMENTS = GIB, 0.1
_OTHER_SIDES = (64, 96, 128)
_OTHER_PATCHES = (32, 48, 64, 96)


def half_precision(recipe: AnyRecipe, device: torch.device) -> torch.dtype | None:
    """The half precision of a recipe's networks on this GPU; on a CPU, on a GPU that computes bfloat16."""
    import torch

    from medgan.training.numerics import autocast_dtype

    options = recipe.training
    if device.type == "cuda":
        return autocast_dtype(device, options.mode, options.precision)
    half = options.precision == "bfloat16" or (options.precision == "auto" and options.mode == "fast")
    return torch.bfloat16 if half else None


def estimated(
    recipe: AnyRecipe, cohort: Cohort, precision: torch.dtype | None, shape: Shape | None = None
) -> TrainingMemory:
    """The memory of a training at its peak, workspaces apart.

    Args:
        recipe: what would be trained.
        cohort: on what.
        precision: the networks' half precision, or None for float32.
        shape: voxels of volumes of the same field of view, for trainings on whole volumes; the cohort's own when None.

    Raises:
        MedganError: as the training itself would; or the volumes are too small.
    """
    import torch

    from medgan.training.memory import resized, training_memory
    from medgan.workflows.train import CohortBatches, build_objective

    one = recipe.model_copy(update={"training": recipe.training.model_copy(update={"batch_size": 1, "workers": 0})})
    batch = next(CohortBatches(one, cohort).stream(0))
    state = torch.get_rng_state()
    try:
        if shape is None:
            objective = build_objective(recipe, cohort, torch.device("cpu"))
        else:
            objective, batch = _objective_at(recipe, cohort, shape), resized(batch, 1, shape)
        return training_memory(objective, recipe.training, batch, precision=precision)
    finally:
        torch.set_rng_state(state)


def _objective_at(recipe: AnyRecipe, cohort: Cohort, shape: Shape) -> Objective:
    """The objective for volumes of another resolution."""
    import torch

    from medgan.data.label_table import labels_of
    from medgan.data.masked_volumes import label_values_of
    from medgan.training.kinds import synthesis_objective
    from medgan.training.mask_to_scan import MaskToScanObjective

    x, y, z = (step * before / after for step, before, after in zip(cohort.spacing, cohort.shape, shape, strict=True))
    cpu = torch.device("cpu")
    if isinstance(recipe, MaskToScanRecipe):
        values = label_values_of(cohort)
        return MaskToScanObjective(recipe, labels=values, shape=shape, spacing=(x, y, z), device=cpu)
    if isinstance(recipe, SynthesisRecipe):
        labels = labels_of(cohort, recipe.synthesis.labels)
        return synthesis_objective(recipe, shape=shape, spacing=(x, y, z), device=cpu, labels=labels)
    raise ValueError(f"trainings of {recipe.task} are not made for one shape")


def needed(memory: TrainingMemory) -> float:
    """Bytes of a GPU that a training with this memory should have, workspaces and fragments included."""
    return _WORKSPACES + (1 + _FRAGMENTS) * memory.total


def smallest_preset(memory: TrainingMemory) -> str | None:
    """The preset of the smallest GPU that this fits into; None if there is none."""
    fitting = [name for name, size in PRESETS.items() if needed(memory) <= size * GIB]
    return min(fitting, key=PRESETS.__getitem__, default=None)


def described_memory(recipe: AnyRecipe, cohort: Cohort, device: torch.device) -> dict[str, Any]:
    """The estimate as a mapping for the reader: the parts at the cohort's own resolution, and totals at others, or of
    trainings on patches with patches of other sizes.

    Raises:
        MedganError: as the training itself would.
    """
    precision = half_precision(recipe, device)
    own = estimated(recipe, cohort, precision)
    parts = {name: _gib(getattr(own, name)) for name in ("weights", "average", "gradients", "moments", "activations")}
    described: dict[str, Any] = {
        "precision": "float32" if precision is None else "bfloat16",
        "peak_gib": _gib(own.total),
        "parts_gib": parts,
        "smallest_gpu": smallest_preset(own),
        "not_counted": "the driver, workspaces of convolutions and gaps between blocks: smallest_gpu allows 1 GiB and "
        "a tenth for them",
    }
    if isinstance(recipe, SynthesisRecipe | MaskToScanRecipe):
        described["by_shape"] = [_row(recipe, cohort, precision, shape) for shape in _other_shapes(cohort.shape)]
    elif isinstance(recipe, FittableRecipe):
        described["by_patch"] = [_patch_row(recipe, cohort, precision, side) for side in _OTHER_PATCHES]
    return described


def _other_shapes(shape: Shape) -> list[Shape]:
    """Half the resolution, and cubes; without the cohort's own."""
    half = (-(-shape[0] // 2), -(-shape[1] // 2), -(-shape[2] // 2))
    shapes: list[Shape] = [half, *((side, side, side) for side in _OTHER_SIDES)]
    return [one for one in dict.fromkeys(shapes) if one != shape]


def _patch_row(recipe: FittableRecipe, cohort: Cohort, precision: torch.dtype | None, side: int) -> dict[str, Any]:
    changed, patch = changed_recipe(recipe, {PATCHES[recipe.task]: [side] * 3}), [side] * 3
    if changed is None:
        return {"patch": patch, "impossible": "the recipe allows no such patch"}
    return {"patch": patch} | _size(changed, cohort, precision)


def _row(recipe: AnyRecipe, cohort: Cohort, precision: torch.dtype | None, shape: Shape) -> dict[str, Any]:
    return {"shape": list(shape)} | _size(recipe, cohort, precision, shape)


def _size(
    recipe: AnyRecipe, cohort: Cohort, precision: torch.dtype | None, shape: Shape | None = None
) -> dict[str, Any]:
    try:
        memory = estimated(recipe, cohort, precision, shape)
    except MedganError as error:
        return {"impossible": error.what}
    return {"peak_gib": _gib(memory.total), "smallest_gpu": smallest_preset(memory)}


def _gib(size: int) -> float:
    return round(size / GIB, 4)
