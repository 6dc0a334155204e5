"""The trainer of a run with everything that listens to it: tracking, pictures, the line for the reader, watchdogs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgan.recipe import AnyRecipe, SynthesisRecipe
from medgan.recipe_encoding import EncodingRecipe
from medgan.recipe_files import flattened
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.recipe_translation import TranslationRecipe
from medgan.reporter import Reporter
from medgan.workflows.run_folder import RunFolder
from medgan.workflows.watching import supervisor_for

if TYPE_CHECKING:
    import torch

    from medgan.data.cohort import Cohort
    from medgan.tracking import Tracker
    from medgan.training.phases import Objective
    from medgan.training.trainer import BatchSource, Tick, Trainer


def trainer_for(
    folder: RunFolder,
    recipe: AnyRecipe,
    objective: Objective,
    batches: BatchSource,
    cohort: Cohort,
    device: torch.device,
    tracker: Tracker,
    reporter: Reporter,
) -> Trainer:
    """The loop with its callables: tracking first, then pictures, then the line for the reader."""
    from medgan.training.trainer import Trainer

    preview = _previewer(recipe, cohort, device)
    total = -(-recipe.images // (recipe.training.batch_size * max(phase.repeats for phase in objective.phases)))

    def track(tick: Tick) -> None:
        tracker.log_metrics(tick.metrics, tick.moment.step)

    def picture(tick: Tick) -> None:
        tracker.log_image(preview(tick), "preview", tick.moment.step)

    def tell(tick: Tick) -> None:
        ends = ("/loss", "gain_db", "per_second", "/kid", "/error")
        note = "  ".join(f"{name} {value:.3g}" for name, value in tick.metrics.items() if name.endswith(ends))
        reporter.progress(f"train {recipe.task.replace('_', '-')}", tick.moment.step, total, note)

    return Trainer(
        objective,
        batches,
        recipe.training,
        device=device,
        checkpoints=folder.checkpoints,
        notes={"run_id": tracker.run_id, "recipe": flattened(recipe)},
        on_tick=[track, picture, tell] if recipe.tracking.enabled else [tell],
        supervisor=supervisor_for(recipe, cohort, device, folder, tracker, reporter),
    )


def _previewer(recipe: AnyRecipe, cohort: Cohort, device: torch.device) -> Any:
    """A function of a tick that draws the same scans each time, as PNG bytes."""
    from medgan.workflows.encoding_training import encoding_preview
    from medgan.workflows.mask_to_scan_training import mask_preview
    from medgan.workflows.previews import restoration_preview, synthesis_preview
    from medgan.workflows.translation_training import translation_preview

    if isinstance(recipe, SynthesisRecipe):
        return synthesis_preview(recipe, cohort, device)
    if isinstance(recipe, TranslationRecipe):
        return translation_preview(recipe, cohort, device)
    if isinstance(recipe, MaskToScanRecipe):
        return mask_preview(recipe, cohort, device)
    if isinstance(recipe, EncodingRecipe):
        return encoding_preview(recipe, cohort, device)
    return restoration_preview(recipe, cohort, device)
