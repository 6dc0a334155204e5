"""The report of one training run, and the card of synthetic scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.recipe import AnyRecipe
from medgan.recipe_files import described
from medgan.workflows.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

    from medgan.data.cohort import Cohort
    from medgan.report.blocks import Block, Viewer
    from medgan.training.trainer import TrainingResult
    from medgan.volume import Volume
    from medgan.workflows.assess import Assessment
    from medgan.workflows.closest_blocks import ClosePair

_AGAIN = "medgan evaluate synthesis --real REAL --synthetic SYNTHETIC --out CARD"


def write_run_report(
    folder: RunFolder,
    recipe: AnyRecipe,
    recipe_name: str,
    cohort: Cohort,
    assessment: Assessment,
    result: TrainingResult,
    seconds: float,
    *,
    device: torch.device | None = None,
) -> None:
    """Write the run's `report.html`; `device` is what computed."""
    from medgan.report.blocks import Commands, Heading, Table, Text, Warning
    from medgan.report.html import write_report
    from medgan.workflows.methods import methods_of_training
    from medgan.workflows.report_blocks import cohort_blocks, curve_blocks
    from medgan.workflows.report_provenance import provenance_blocks

    figures, moment = assessment.figures, result.moment
    summary, body = _outcome(recipe, assessment)
    amount = f"{moment.images} images in {moment.step} steps, {seconds:.0f} s"
    if result.ended is not None:
        amount += f"; ended early, {result.ended}"
    if result.best_step is not None:
        amount += f"; weights of step {result.best_step}, the best evaluation"
    facts: list[tuple[str, Any]] = [("Recipe", recipe_name), ("Manifest", f"sha256 {cohort.manifest_sha256}")]
    where = _device_name(device)
    blocks: list[Block] = [
        *summary,
        Text(f"Recipe {recipe_name}: {amount}. {recipe.description}"),
        *(Warning(str(notice)) for notice in result.notices),
        *body,
        *curve_blocks(result.history),
        *cohort_blocks(cohort),
        *methods_of_training(recipe, cohort, figures, steps=moment.step, images=moment.images, device=where),
        Heading("Recipe"),
        Table(
            ["Field", "Value", "Meaning"],
            [list(row) for row in described(recipe)],
            "Every field of the recipe, with what it means",
            folded=True,
        ),
        *provenance_blocks(facts, device=where, seed=recipe.training.seed),
        Heading("Again"),
        Commands(
            [f"medgan train {folder.recipe.name} --data COHORT --out again"],
            "The same training, from the run's folder; with --set training.mode=exact the same weights. COHORT is the "
            f"folder that {folder.record.name} names: reports say nothing of where scans lie.",
        ),
    ]
    write_report(folder.report, f"{folder.path.name}", f"{recipe.task.replace('_', '-')} with medgan", blocks)


def _device_name(device: torch.device | None) -> str:
    """The GPU's model, or the processor's."""
    import torch

    from medgan.provenance import cpu_model, usable_cores

    if device is not None and device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{usable_cores()} cores of {cpu_model()}"


def _outcome(recipe: AnyRecipe, assessment: Assessment) -> tuple[list[Block], list[Block]]:
    """What the training came to: the first blocks of the page, and the body."""
    from medgan.report.blocks import KeyFigures
    from medgan.workflows.assess_mask_to_scan import mask_to_scan_blocks, mask_to_scan_key_figures
    from medgan.workflows.assess_translation import translation_blocks, translation_key_figures
    from medgan.workflows.card_blocks import synthesis_blocks, synthesis_key_figures, verdict_block
    from medgan.workflows.encoding_training import encoding_blocks, encoding_key_figures
    from medgan.workflows.report_blocks import restoration_blocks, restoration_key_figures, restoration_verdict

    figures, volumes = assessment.figures, assessment.volumes
    if recipe.task == "super_resolution":
        summary = [restoration_verdict(figures), KeyFigures(restoration_key_figures(figures))]
        return summary, restoration_blocks(figures, volumes)
    if recipe.task == "mask_to_scan":
        body = mask_to_scan_blocks(figures, volumes)
        return [KeyFigures(mask_to_scan_key_figures(figures))], [*body, _viewer(volumes)]
    if recipe.task == "translation":
        body = translation_blocks(figures, volumes)
        return [KeyFigures(translation_key_figures(figures))], [*body, _viewer(volumes)]
    if recipe.task == "encoding":
        return [KeyFigures(encoding_key_figures(figures))], encoding_blocks(figures)
    summary = [verdict_block(figures), KeyFigures(synthesis_key_figures(figures))]
    return summary, synthesis_blocks(figures, volumes["real"], volumes["synthetic"], _pairs(figures, volumes))


def _viewer(volumes: dict[str, list[Volume]]) -> Viewer:
    """The first scan of each role."""
    from medgan.report.blocks import Viewer

    scans = [(role.replace("_", " ").capitalize(), found[0]) for role, found in volumes.items() if found]
    return Viewer(scans, "The first of these to leaf through: choose another, and the cross-hair stays where it is.")


def _pairs(figures: dict[str, Any], volumes: dict[str, list[Volume]]) -> list[tuple[ClosePair, Volume, Volume]]:
    """The closest samples with their training scans, as far as the assessment kept them."""
    from medgan.workflows.closest_blocks import close_pairs

    samples, training = volumes.get("closest_synthetic", []), volumes.get("closest_real", [])
    return list(zip(close_pairs(figures), samples, training, strict=False))


def write_synthesis_card(
    path: Path,
    figures: dict[str, Any],
    real: Sequence[Volume],
    synthetic: Sequence[Volume],
    pairs: Sequence[tuple[ClosePair, Volume, Volume]] = (),
    *,
    options: Sequence[str] = (),
) -> None:
    """Write the evaluation card of scans that are already in files.

    Args:
        path: of the HTML file.
        figures: what `card.json` holds.
        real: some training scans, to be shown.
        synthetic: some samples, to be shown.
        pairs: the samples closest to a training scan, with that.
        options: further options of the command that made the card, without paths.
    """
    from medgan.report.blocks import Commands, Heading, KeyFigures
    from medgan.report.html import write_report
    from medgan.workflows.card_blocks import synthesis_blocks, synthesis_key_figures, verdict_block
    from medgan.workflows.methods import methods_of_card
    from medgan.workflows.report_provenance import provenance_blocks

    holdout = ["--holdout HOLDOUT"] if figures["counts"].get("holdout") else []
    command = " ".join([_AGAIN, *holdout, *options, f"--seed {figures.get('seed', 0)}"])
    blocks: list[Block] = [
        verdict_block(figures),
        KeyFigures(synthesis_key_figures(figures)),
        *synthesis_blocks(figures, real, synthetic, pairs),
        *methods_of_card(figures),
        *provenance_blocks([("Encoder", figures["encoder"])], seed=figures.get("seed")),
        Heading("Again"),
        Commands([command], "The same figures. Capitals stand for your folders, which reports do not name."),
    ]
    write_report(path, "Evaluation card", "synthetic scans against real ones", blocks)
