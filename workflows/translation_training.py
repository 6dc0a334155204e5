"""What a training of translation needs of a cohort: batches, held-out scans, pictures, and what 0 and 1 mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from medgan.recipe_translation import TranslationRecipe
from medgan.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medgan.data.cohort import Cohort, ScanRecord
    from medgan.data.pair_patches import PairedPatches, PatchPlan, UnpairedPatches
    from medgan.data.pairs import ScanPair
    from medgan.training.trainer import Tick

_SHOWN = 5
# Enough for a tenth of a voxel, in a second.
_AUDITED_PATCHES = 12


def translation_patches(
    recipe: TranslationRecipe, cohort: Cohort, plan: PatchPlan | None = None
) -> PairedPatches | UnpairedPatches:
    """Batches of the training split, cut as the recipe says or by another plan.

    Raises:
        MedganError: a contrast is missing, or pairs do not fit together.
    """
    from medgan.data.pair_patches import PairedPatches, UnpairedPatches
    from medgan.data.pairs import paired, scans_of

    plan = plan or translation_plan(recipe)
    if recipe.translation.method == "pix2pix":
        return PairedPatches(cohort, paired(cohort, "train", recipe.source, recipe.target).pairs, plan)
    sources, targets = (scans_of(cohort, "train", contrast) for contrast in (recipe.source, recipe.target))
    return UnpairedPatches(cohort, sources, targets, plan)


def translation_plan(recipe: TranslationRecipe) -> PatchPlan:
    """How patches of a training are cut: with the margin that is seen but not judged."""
    from medgan.data.pair_patches import PatchPlan

    options = recipe.translation
    x, y, z = (side + 2 * options.margin for side in options.patch)
    return PatchPlan(
        shape=(x, y, z),
        batch_size=recipe.training.batch_size,
        seed=recipe.training.seed,
        flip=options.flip,
        ranges=(options.source_range, options.target_range),
    )


def held_out_scans(recipe: TranslationRecipe, cohort: Cohort) -> tuple[tuple[ScanRecord, ...], tuple[ScanRecord, ...]]:
    """Sources and targets of the test split, or of the validation split where there is no test split; of pix2pix the
    i-th of both are a pair.

    Raises:
        MedganError: there are none.
    """
    from medgan.data.pairs import paired, scans_of
    from medgan.workflows.assess import held_out

    split = held_out(cohort)[0].split
    if recipe.translation.method == "pix2pix":
        pairs = paired(cohort, split, recipe.source, recipe.target).pairs
        return tuple(pair.source for pair in pairs), tuple(pair.target for pair in pairs)
    return scans_of(cohort, split, recipe.source), scans_of(cohort, split, recipe.target)


def check_contrasts(recipe: Any, cohort: Cohort, reporter: Reporter) -> None:
    """Before a training: that there is something to evaluate on; and who is left out, said to the user.

    Args:
        recipe: of any task; others than translation pass.
        cohort: the scans.
        reporter: hears it.

    Raises:
        MedganError: a contrast or every pair is missing among the held-out scans.
    """
    from medgan.data.pairs import paired

    if not isinstance(recipe, TranslationRecipe):
        return
    held_out_scans(recipe, cohort)
    if recipe.translation.method != "pix2pix":
        return
    pairing = paired(cohort, "train", recipe.source, recipe.target)
    alone = pairing.incomplete
    if alone:
        more = f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else ""
        reporter.say(
            f"{len(alone)} of {len(alone) + len(pairing.pairs)} visits are left out, because they have "
            f"{recipe.source} or {recipe.target} alone: {', '.join(alone[:_SHOWN])}{more}"
        )
    warn_of_shift(recipe, cohort, pairing.pairs, reporter)


def warn_of_shift(recipe: TranslationRecipe, cohort: Cohort, pairs: Sequence[ScanPair], reporter: Reporter) -> None:
    """Say so if the edges of the two contrasts lie apart by more than half a voxel in all pairs: a network that learns
    from such pairs learns to displace.
    """
    from dataclasses import replace

    from medgan.data.pair_alignment import displacement_told, edge_alignment
    from medgan.data.pair_patches import PairedPatches

    plan = replace(translation_plan(recipe), batch_size=_AUDITED_PATCHES, flip=False)
    voxels = PairedPatches(cohort, pairs, plan).batch(0).voxels.numpy()
    told = displacement_told(edge_alignment([(one[0], one[1]) for one in voxels]))
    if told is not None:
        reporter.say(
            f"Warning: {recipe.source} and {recipe.target} seem to lie apart by {told}. Look at a pair in a viewer; "
            "register the scans if it is so."
        )


def translation_normalisation(recipe: TranslationRecipe, cohort: Cohort) -> dict[str, Any]:
    """What 0 and 1 of the networks mean in the scans' units, for each contrast: `kind` says whether each scan's own
    percentiles do ("scan") or those of the cohort, which the results are brought to in any case.
    """
    from medgan.data.pairs import cohort_range, scans_of

    content: dict[str, Any] = {"percentiles": [0.5, 99.5]}
    kinds = (recipe.translation.source_range, recipe.translation.target_range)
    for name, contrast, kind in zip(("source", "target"), (recipe.source, recipe.target), kinds, strict=True):
        records = scans_of(cohort, "train", contrast)
        low, high = cohort_range(records)
        smallest = min(float(cohort.voxels(record).min()) for record in records)
        content[name] = {"kind": kind, "low": low, "high": high, "minimum": smallest}
    return content


def normalised_voxels(cohort: Cohort, record: ScanRecord, ranges: dict[str, Any]) -> np.ndarray:
    """A scan (X, Y, Z) as networks see it, `ranges` being its contrast's part of `translation_normalisation`."""
    import numpy as np

    from medgan.data.intensity import normalise

    own = (record.percentiles["0.5"], record.percentiles["99.5"])
    low, high = own if ranges["kind"] == "scan" else (ranges["low"], ranges["high"])
    return normalise(np.array(cohort.voxels(record)), low, high)


def translation_preview(recipe: TranslationRecipe, cohort: Cohort, device: torch.device) -> Callable[[Tick], bytes]:
    """The middle of a held-out scan: source, translated, and the target (of pix2pix the same subject's), as PNG."""
    import numpy as np
    import torch

    from medgan.report.figures import montage
    from medgan.volume import Volume

    ranges = translation_normalisation(recipe, cohort)
    records = [scans[0] for scans in held_out_scans(recipe, cohort)]
    parts = [
        _middle(normalised_voxels(cohort, record, ranges[name]), recipe.translation.patch)
        for record, name in zip(records, ("source", "target"), strict=True)
    ]
    seen = torch.from_numpy(parts[0])[None, None].to(device)
    affine = np.diag([*records[0].prepared_spacing, 1.0])

    def draw(tick: Tick) -> bytes:
        with torch.inference_mode():
            made = tick.average["there"](seen)[0, 0].float().cpu().numpy()  # type: ignore[index]
        return montage([Volume(part, affine) for part in (parts[0], made, parts[1])])

    return draw


def _middle(voxels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Twice the patch at the middle, as far as there is so much."""
    import numpy as np

    first = [max(0, (have - 2 * want) // 2) for have, want in zip(voxels.shape, shape, strict=True)]
    window = tuple(slice(start, start + 2 * want) for start, want in zip(first, shape, strict=True))
    return np.ascontiguousarray(voxels[window])
