"""The report of one training run, and the card of synthetic scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.recipe import AnyRecipe
from medgan.recipe_files import described
from medgan.workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from medgan.data.cohort import Cohort
    from medgan.training.trainer import TrainingResult
    from medgan.volume import Volume
    from medgan.workflows.assess import Assessment


def write_run_report(
    folder: RunFolder,
    recipe: AnyRecipe,
    recipe_name: str,
    cohort: Cohort,
    assessment: Assessment,
    result: TrainingResult,
    seconds: float,
) -> None:
    """Write the run's `report.html`."""
    from medgan.report.html import Block, Commands, Heading, KeyFigures, Table, Text, Warning, write_report
    from medgan.workflows.assess_mask_to_scan import mask_to_scan_blocks, mask_to_scan_key_figures
    from medgan.workflows.assess_translation import translation_blocks, translation_key_figures
    from medgan.workflows.report_blocks import (
        cohort_blocks,
        curve_blocks,
        restoration_blocks,
        restoration_key_figures,
        synthesis_blocks,
        synthesis_key_figures,
    )

    figures, volumes = assessment.figures, assessment.volumes
    if recipe.task == "super_resolution":
        keys, body = restoration_key_figures(figures), restoration_blocks(figures, volumes)
    elif recipe.task == "mask_to_scan":
        keys, body = mask_to_scan_key_figures(figures), mask_to_scan_blocks(figures, volumes)
    elif recipe.task == "translation":
        keys, body = translation_key_figures(figures), translation_blocks(figures, volumes)
    else:
        keys, body = synthesis_key_figures(figures), synthesis_blocks(figures, volumes["real"], volumes["synthetic"])
    amount = f"{result.moment.images} images in {result.moment.step} steps, {seconds:.0f} s"
    if result.ended is not None:
        amount += f"; ended early, {result.ended}"
    if result.best_step is not None:
        amount += f"; weights of step {result.best_step}, the best evaluation"
    done = f"Recipe {recipe_name}: {amount}. {recipe.description}"
    blocks: list[Block] = [
        KeyFigures(keys),
        Text(done),
        *(Warning(str(notice)) for notice in result.notices),
        *body,
        *curve_blocks(result.history),
        *cohort_blocks(cohort),
        Heading("Recipe"),
        Table(["Field", "Value", "Meaning"], [list(row) for row in described(recipe)]),
        Heading("Again"),
        Commands(
            [f"medgan train {folder.recipe.name} --data COHORT --out again"],
            "The same training, from the run's folder; with --set training.mode=exact the same weights. COHORT is the "
            f"folder that {folder.record.name} names: reports say nothing of where scans lie.",
        ),
    ]
    write_report(folder.report, f"{folder.path.name}", f"{recipe.task.replace('_', '-')} with medgan", blocks)


def write_synthesis_card(
    path: Path, figures: dict[str, Any], real: Sequence[Volume], synthetic: Sequence[Volume]
) -> None:
    """Write the evaluation card of scans that are already in files."""
    from medgan.report.html import KeyFigures, write_report
    from medgan.workflows.report_blocks import synthesis_blocks, synthesis_key_figures

    blocks = [KeyFigures(synthesis_key_figures(figures)), *synthesis_blocks(figures, real, synthetic)]
    write_report(path, "Evaluation card", "synthetic scans against real ones", blocks)
