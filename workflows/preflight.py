"""Before a training: whether its pairs lie on each other, and the perceptual network that the user named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.recipe import AnyRecipe, SuperResolutionRecipe

if TYPE_CHECKING:
    from medgan.adversarial.perceptual import PlanarPerception
    from medgan.data.alignment import Alignment
    from medgan.data.patches import Patches
    from medgan.tracking import Tracker
    from medgan.training.scanner import Scanner

_PAIRS = 16
_METRIC = "alignment/largest_displacement_voxel"


def audited_alignment(recipe: SuperResolutionRecipe, scanner: Scanner, patches: Patches) -> Alignment:
    """The displacement between the first training patches and what the network starts from.

    No random state is used up: a training is the same with and without the audit.

    Args:
        recipe: what is to be trained.
        scanner: the training's own.
        patches: the training's own.

    Raises:
        MedganError: they are displaced, naming axis and likely cause.
    """
    import torch

    from medgan.data.alignment import alignment_of, require_aligned
    from medgan.training.phases import Moment

    factor = recipe.acquisition.factor if recipe.acquisition.random is None else None
    pairs = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        for step in range(-(-_PAIRS // patches.batch_size)):
            truth = patches.batch(step).voxels
            start = scanner.acquired(truth, Moment(step, step * patches.batch_size, 0.0)).start
            pairs += [(a[0].numpy(), b[0].numpy()) for a, b in zip(start, truth, strict=True)]
    alignment = alignment_of(pairs[:_PAIRS], factor=factor)
    try:
        require_aligned(alignment, factor=factor)
    except MedganError as error:
        raise MedganError(f"this recipe would train on displaced pairs: {error.what}", hint=error.hint) from error
    return alignment


def named_perception(
    recipe: AnyRecipe, path: Path | None, expected_sha256: str | None = None
) -> tuple[PlanarPerception | None, str | None]:
    """The perceptual distance of a recipe and the SHA-256 of its network's file; twice None without one.

    Args:
        recipe: what is to be trained.
        path: the file that the user named.
        expected_sha256: of the file that a training to be resumed was begun with.

    Raises:
        MedganError: recipe and file do not go together, the file is another one or cannot be used.
    """
    options = recipe.super_resolution.adversarial if isinstance(recipe, SuperResolutionRecipe) else None
    if options is None or not options.perceptual_weight:
        if path is not None:
            raise MedganError(
                "the recipe gives a perceptual network no weight",
                file=path,
                hint="Set super_resolution.adversarial.perceptual_weight, or leave out --perceptual-network.",
            )
        return None, None
    if path is None:
        raise MedganError(
            f"the recipe gives a perceptual network the weight {options.perceptual_weight:g}, but no network is named",
            hint="Name a TorchScript file with --perceptual-network; nothing is downloaded.",
        )
    from medgan.adversarial.perceptual import load_planar_perception
    from medgan.files import sha256_of

    perception = load_planar_perception(path, channels=options.perceptual_channels)
    found = sha256_of(path)
    if expected_sha256 not in (None, found):
        raise MedganError(
            "this is not the perceptual network that the training was begun with",
            file=path,
            hint="Resume with the same file.",
        )
    return perception, found


def told(alignment: Alignment) -> str:
    """One sentence about pairs that passed."""
    if len(alignment.unmeasured) == 3:
        return f"not measurable on {alignment.pairs} pairs"
    left_out = f", not measurable along {alignment.unmeasured}" if alignment.unmeasured else ""
    return f"within {alignment.largest:.3f} voxel on {alignment.pairs} pairs{left_out}"


def record_alignment(alignment: Alignment, tracker: Tracker) -> None:
    """Put the figure and the sentence on a tracked run."""
    tracker.set_tag("medgan.alignment", told(alignment))
    if len(alignment.unmeasured) < 3:
        tracker.log_metrics({_METRIC: alignment.largest}, 0)
