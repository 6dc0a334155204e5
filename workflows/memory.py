"""What a training would take of a GPU's memory, for a cohort's own resolution and for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.recipe import AnyRecipe, SynthesisRecipe
from medgan.recipe_presets import PRESETS

if TYPE_CHECKING:
    import torch

    from medgan.data.cohort import Cohort
    from medgan.geometry import Shape
    from medgan.training.memory import TrainingMemory

GIB = 2**30
# Not counted by the estimate: what the driver, the libraries and the workspaces of convolutions take, in bytes, and
# what the allocator cannot use between its blocks, as a share.
_WORKSPACES, _FRAGMENTS = GIB, 0.1
_OTHER_SIDES = (64, 96, 128)


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
        shape: voxels of volumes of the same field of view; the cohort's own when None. Only for synthesis.

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
        if isinstance(recipe, SynthesisRecipe) and shape is not None:
            from medgan.data.label_table import labels_of
            from medgan.training.kinds import synthesis_objective

            x, y, z = (
                step * before / after for step, before, after in zip(cohort.spacing, cohort.shape, shape, strict=True)
            )
            labels = labels_of(cohort, recipe.synthesis.labels)
            cpu = torch.device("cpu")
            objective = synthesis_objective(recipe, shape=shape, spacing=(x, y, z), device=cpu, labels=labels)
            batch = resized(batch, 1, shape)
        else:
            objective = build_objective(recipe, cohort, torch.device("cpu"))
        return training_memory(objective, recipe.training, batch, precision=precision)
    finally:
        torch.set_rng_state(state)


def needed(memory: TrainingMemory) -> float:
    """Bytes of a GPU that a training with this memory should have, workspaces and fragments included."""
    return _WORKSPACES + (1 + _FRAGMENTS) * memory.total


def smallest_preset(memory: TrainingMemory) -> str | None:
    """The preset of the smallest GPU that this fits into; None if there is none."""
    fitting = [name for name, size in PRESETS.items() if needed(memory) <= size * GIB]
    return min(fitting, key=PRESETS.__getitem__, default=None)


def described_memory(recipe: AnyRecipe, cohort: Cohort, device: torch.device) -> dict[str, Any]:
    """The estimate as a mapping for the reader: the parts at the cohort's own resolution, and totals at others.

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
    if isinstance(recipe, SynthesisRecipe):
        described["by_shape"] = [_row(recipe, cohort, precision, shape) for shape in _other_shapes(cohort.shape)]
    return described


def _other_shapes(shape: Shape) -> list[Shape]:
    """Half the resolution, and cubes; without the cohort's own."""
    half = (-(-shape[0] // 2), -(-shape[1] // 2), -(-shape[2] // 2))
    shapes: list[Shape] = [half, *((side, side, side) for side in _OTHER_SIDES)]
    return [one for one in dict.fromkeys(shapes) if one != shape]


def _row(recipe: SynthesisRecipe, cohort: Cohort, precision: torch.dtype | None, shape: Shape) -> dict[str, Any]:
    try:
        memory = estimated(recipe, cohort, precision, shape)
    except MedganError as error:
        return {"shape": list(shape), "impossible": error.what}
    return {"shape": list(shape), "peak_gib": _gib(memory.total), "smallest_gpu": smallest_preset(memory)}


def _gib(size: int) -> float:
    return round(size / GIB, 4)
