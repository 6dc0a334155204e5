"""Train: recipe and cohort in; a run folder with checkpoints, model, figures and report out, tracked all along."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.recipe import AnyRecipe, SuperResolutionRecipe, SynthesisRecipe
from medgan.recipe_encoding import EncodingRecipe
from medgan.recipe_files import flattened
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.recipe_translation import TranslationRecipe
from medgan.reporter import Reporter
from medgan.workflows.begin import begin_from
from medgan.workflows.encoding_training import check_encoding, encoding_patches
from medgan.workflows.linear_start import cohort_start
from medgan.workflows.mask_to_scan_training import check_masks, masked_batches
from medgan.workflows.plan import check_loop, planned_recipe, refuse_preset
from medgan.workflows.preflight import audited_alignment, named_perception, record_alignment, told
from medgan.workflows.run_folder import RunFolder, existing_run, new_run, record_notices, resolved_recipe, write_record
from medgan.workflows.training_loop import trainer_for
from medgan.workflows.translation_training import check_contrasts, translation_patches
from medgan.workflows.watching import check_supervision

if TYPE_CHECKING:
    import torch

    from medgan.adversarial.perceptual import PlanarPerception
    from medgan.data.alignment import Alignment
    from medgan.data.cohort import Cohort
    from medgan.data.masked_volumes import MaskedVolumes
    from medgan.data.pair_patches import PairedPatches, UnpairedPatches
    from medgan.geometry import Shape
    from medgan.tracking import Tracker
    from medgan.training.batches import LabelledVolumes
    from medgan.training.phases import Objective
    from medgan.training.supervision import Notice
    from medgan.training.trainer import TrainingResult


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training left behind.

    Args:
        folder: the run's folder.
        finished: False when a signal or `stop_after` ended it early; it can be resumed.
        signal: the signal's name, if one did.
        run_id: of the tracked run.
        figures: of the evaluation after training; empty when it was not finished.
        seconds: how long training took, evaluation apart.
        ended: why `training.stop` or a watchdog ended it early, if one did.
        notices: what watchdogs warned of.
    """

    folder: Path
    finished: bool
    signal: str | None
    run_id: str | None
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    ended: str | None = None
    notices: tuple[Notice, ...] = ()


def train(
    recipe_name: str,
    data: str | Path,
    *,
    overrides: Sequence[str] = (),
    out: Path | None = None,
    device: str = "auto",
    steps: int | None = None,
    seed: int | None = None,
    resume: Path | None = None,
    start_from: str | Path | None = None,
    stop_after: int | None = None,
    perceptual_network: Path | None = None,
    reporter: Reporter | None = None,
) -> TrainingOutcome:
    """Train one model and evaluate it.

    Args:
        recipe_name: a shipped recipe such as "synthesis/r3gan" or the path of a YAML file.
        data: folder of a prepared cohort.
        overrides: assignments such as "training.batch_size=8"; "preset=16g" fits the recipe to a GPU of 16 GiB.
        out: folder of the new run; by default one named by recipe and time, in `runs`.
        device: "auto", "cpu", "cuda", ...
        steps: length of the training instead of the recipe's.
        seed: instead of the recipe's.
        resume: folder of an unfinished run to continue.
        start_from: a super-resolution model whose weights for fidelity the training begins with, as
            `medgan.workflows.models.resolve_model` takes it; with `super_resolution.pretraining.images` = 0 they stay
            one end of the fidelity dial.
        stop_after: leave after this step, with a checkpoint.
        perceptual_network: TorchScript file for recipes that give a perceptual network a weight; a program, which runs.
        reporter: where progress goes.

    Raises:
        MedganError: anything the user can mend.
    """
    from medgan.data.cohort import Cohort
    from medgan.tracking import tracked
    from medgan.training.numerics import choose_device
    from medgan.workflows.assess import held_out

    reporter = reporter or Reporter()
    cohort = Cohort.load(data)
    place = choose_device(device)
    if resume is not None:
        refuse_preset(overrides, resume)
        changed = bool(overrides) or steps is not None or seed is not None
        wanted = resolved_recipe(recipe_name, overrides, steps=steps, seed=seed) if changed else None
        folder, recipe, record = existing_run(resume, recipe_name, cohort, wanted)
    else:
        recipe, fitted = planned_recipe(recipe_name, overrides, cohort, place, steps=steps, seed=seed)
        if fitted is not None:
            reporter.say(fitted)
    # Before the folder is made: a cohort that cannot be learned from or evaluated on leaves nothing behind.
    check_supervision(recipe, cohort)
    known = record.get("perceptual_sha256") if resume is not None else None
    perception, perceptual_sha256 = named_perception(recipe, perceptual_network, known)
    objective = build_objective(recipe, cohort, place, perception)
    check_loop(recipe, objective, place)
    batches = CohortBatches(recipe, cohort)
    held_out(cohort)
    check_contrasts(recipe, cohort, reporter)
    check_masks(recipe, cohort, reporter)
    check_encoding(recipe, cohort)
    started_from = begin_from(objective, start_from) if resume is None else record.get("start_from_sha256")
    alignment = _audited(recipe, objective, batches, reporter)
    if resume is None:
        folder, record = new_run(recipe, recipe_name, out), {}

    try:
        tracker = _open_tracker(folder, recipe, recipe_name, cohort, record.get("run_id"))
    except MedganError:
        if resume is None:
            folder.abandon()
        raise
    with tracked(tracker):
        write_record(
            folder,
            recipe_name=recipe_name,
            run_id=tracker.run_id,
            cohort=cohort,
            perceptual_sha256=perceptual_sha256,
            start_from_sha256=started_from,
        )
        if perceptual_sha256 is not None:
            tracker.set_tag("medgan.perceptual_sha256", perceptual_sha256)
        if alignment is not None:
            record_alignment(alignment, tracker)
        trainer = trainer_for(folder, recipe, objective, batches, cohort, place, tracker, reporter)
        if resume is not None:
            trainer.resume()
            reporter.say(f"Resumed at step {trainer.step} from {folder.checkpoints}")
            if trainer.supervisor is not None:
                record_notices(folder, trainer.supervisor.notices)
        start = time.perf_counter()
        result = trainer.run(stop_after=stop_after)
        seconds = time.perf_counter() - start
        outcome = TrainingOutcome(
            folder.path, result.finished, result.signal, tracker.run_id, {}, seconds, result.ended, result.notices
        )
        if not result.finished:
            tracker.finish("KILLED")
            reporter.say(f"Stopped at step {result.moment.step}; continue with --resume {folder.path}")
            return outcome
        if result.ended is not None:
            tracker.set_tag("medgan.ended_by", result.ended)
            reporter.say(f"Ended at step {result.moment.step}: {result.ended}")
        return _concluded(outcome, folder, recipe, recipe_name, cohort, place, objective, result, tracker, reporter)


def _audited(recipe: AnyRecipe, objective: Objective, batches: CohortBatches, reporter: Reporter) -> Alignment | None:
    """Whether the pairs of a super-resolution training lie on each other; None for other trainings."""
    from medgan.data.patches import Patches
    from medgan.training.restoration import RestorationObjective

    if not (isinstance(recipe, SuperResolutionRecipe) and isinstance(objective, RestorationObjective)):
        return None
    assert isinstance(batches.source, Patches)
    alignment = audited_alignment(recipe, objective.scanner, batches.source)
    reporter.say(f"Training pairs are aligned: {told(alignment)}")
    return alignment


def build_objective(
    recipe: AnyRecipe, cohort: Cohort, device: torch.device, perception: PlanarPerception | None = None
) -> Objective:
    """The objective that a recipe and a cohort come to."""
    if isinstance(recipe, SynthesisRecipe):
        from medgan.data.label_table import labels_of
        from medgan.training.kinds import synthesis_objective

        labels = labels_of(cohort, recipe.synthesis.labels)
        grid: dict[str, Any] = {"shape": cohort.shape, "spacing": cohort.spacing}
        start = cohort_start(recipe, cohort)
        return synthesis_objective(recipe, **grid, device=device, labels=labels, start=start)
    if isinstance(recipe, TranslationRecipe):
        from medgan.training.translation import translation_objective

        return translation_objective(recipe, spacing=cohort.spacing, device=device)
    if isinstance(recipe, MaskToScanRecipe):
        from medgan.data.masked_volumes import label_values_of
        from medgan.training.mask_to_scan import MaskToScanObjective

        values = label_values_of(cohort)
        return MaskToScanObjective(recipe, labels=values, shape=cohort.shape, spacing=cohort.spacing, device=device)
    if isinstance(recipe, EncodingRecipe):
        from medgan.training.encoding import EncodingObjective

        return EncodingObjective(recipe, device=device)
    from medgan.training.restoration import RestorationObjective

    patch = training_patch(recipe, cohort)
    return RestorationObjective(recipe, patch=patch, spacing=cohort.spacing, device=device, perception=perception)


def training_patch(recipe: SuperResolutionRecipe, cohort: Cohort) -> Shape:
    """Voxels of the patches that a recipe trains on, as far as the cohort's scans are large enough."""
    from medgan.training.scanner import patch_shape_for

    if recipe.acquisition.random is not None:
        return recipe.super_resolution.patch
    return patch_shape_for(recipe.acquisition, recipe.super_resolution.patch, cohort.shape)


class CohortBatches:
    """A cohort's training split as the trainer's stream of batches."""

    def __init__(self, recipe: AnyRecipe, cohort: Cohort) -> None:
        from medgan.data.label_table import labels_of
        from medgan.data.patches import Patches, WholeVolumes

        options = recipe.training
        self.workers = options.workers
        self._labels = labels_of(cohort, recipe.synthesis.labels) if isinstance(recipe, SynthesisRecipe) else None
        self.source: Patches | WholeVolumes | PairedPatches | UnpairedPatches | MaskedVolumes
        if isinstance(recipe, SynthesisRecipe):
            self.source = WholeVolumes(
                cohort, "train", batch_size=options.batch_size, seed=options.seed, flip=recipe.synthesis.flip
            )
        elif isinstance(recipe, TranslationRecipe):
            self.source = translation_patches(recipe, cohort)
        elif isinstance(recipe, MaskToScanRecipe):
            self.source = masked_batches(recipe, cohort)
        elif isinstance(recipe, EncodingRecipe):
            self.source = encoding_patches(recipe, cohort)
        else:
            patches = recipe.super_resolution
            self.source = Patches(
                cohort,
                "train",
                patch_shape=training_patch(recipe, cohort),
                batch_size=options.batch_size,
                seed=options.seed,
                flip=patches.flip,
                transpose=patches.transpose,
                contrast=patches.contrast,
                by_detail=patches.sampling == "detail",
            )

    def stream(self, position: int) -> Iterator[torch.Tensor | LabelledVolumes]:
        """Batches from `position` on."""
        from medgan.data.label_table import label_codes
        from medgan.data.patches import prefetched
        from medgan.training.batches import LabelledVolumes

        for batch in prefetched(self.source, position, self.workers):
            if self._labels is None:
                yield batch.voxels
            else:
                yield LabelledVolumes(batch.voxels, label_codes(self._labels, batch.records))


def _open_tracker(
    folder: RunFolder, recipe: AnyRecipe, recipe_name: str, cohort: Cohort, run_id: str | None
) -> Tracker:
    """A new tracked run, or the one to continue, with everything that is known before training."""
    from medgan.provenance import collect
    from medgan.tracking import start_run

    provenance = collect(Path.cwd()).to_dict()
    tracker = start_run(
        experiment=recipe.tracking.experiment,
        name=folder.path.name,
        folder=folder.path,
        params=flattened(recipe),
        tags={
            "medgan.recipe": recipe_name,
            "medgan.task": recipe.task,
            "medgan.version": str(provenance["medgan_version"]),
            "medgan.git_commit": str(provenance["git_commit"]),
            "medgan.manifest_sha256": cohort.manifest_sha256,
        },
        run_id=run_id,
        enabled=recipe.tracking.enabled,
    )
    if run_id is None:
        diff = provenance.pop("git_diff", None)
        if diff:
            tracker.log_text(str(diff), "provenance/changes.diff")
        tracker.log_text(_as_json(provenance), "provenance/environment.json")
        tracker.log_artifact(folder.recipe)
        tracker.log_dataset("cohort", cohort.folder / "manifest.jsonl", cohort.manifest_sha256, context="training")
    return tracker


def _as_json(content: dict[str, Any]) -> str:
    import json

    return json.dumps(content, indent=2, default=str)


def _concluded(
    outcome: TrainingOutcome,
    folder: RunFolder,
    recipe: AnyRecipe,
    recipe_name: str,
    cohort: Cohort,
    device: torch.device,
    objective: Objective,
    result: TrainingResult,
    tracker: Tracker,
    reporter: Reporter,
) -> TrainingOutcome:
    """Export, evaluate, report, and hand everything to the tracked run."""
    from dataclasses import replace

    from medgan.files import write_json
    from medgan.workflows.assess import assess_restoration, assess_synthesis
    from medgan.workflows.assess_mask_to_scan import assess_mask_to_scan
    from medgan.workflows.assess_translation import assess_translation
    from medgan.workflows.encoding_training import assess_encoding
    from medgan.workflows.export_model import export_trained
    from medgan.workflows.release import store_card_audit
    from medgan.workflows.run_report import write_run_report

    export_trained(folder, recipe, recipe_name, cohort, objective, result, run_id=tracker.run_id)
    reporter.say(f"Model written to {folder.model}; evaluating")
    if isinstance(recipe, SuperResolutionRecipe):
        assessment = assess_restoration(folder.model, recipe, cohort, device)
    elif isinstance(recipe, TranslationRecipe):
        assessment = assess_translation(folder.model, recipe, cohort, device)
    elif isinstance(recipe, MaskToScanRecipe):
        assessment = assess_mask_to_scan(folder.model, recipe, cohort, device)
    elif isinstance(recipe, EncodingRecipe):
        assessment = assess_encoding(folder.model, recipe, cohort, device)
    else:
        assessment = assess_synthesis(folder.model, recipe, cohort, device)
        audit = store_card_audit(folder.model, assessment.figures)
        if audit.is_memorised:
            reporter.say(f"Look before you share: {audit}")
    write_json(folder.figures, assessment.figures)
    write_run_report(folder, recipe, recipe_name, cohort, assessment, result, outcome.seconds, device=device)
    tracker.log_metrics(assessment.metrics, result.moment.step)
    tracker.set_tag("medgan.key_metric", assessment.key_metric)
    for path in (folder.figures, folder.report):
        tracker.log_artifact(path)
    tracker.log_model(folder.model)
    for verdict in assessment.figures.get("verdicts", ()):
        reporter.say(f"{verdict['topic'].capitalize()}: {verdict['level']}. {verdict['sentence']}")
    return replace(outcome, figures=assessment.figures)


def require_finished(outcome: TrainingOutcome) -> TrainingOutcome:
    """Refuse to go on with a training that was interrupted.

    Raises:
        MedganError: it was.
    """
    if not outcome.finished:
        raise MedganError(
            "the training was interrupted", file=outcome.folder, hint=f"Continue it with --resume {outcome.folder}."
        )
    return outcome
