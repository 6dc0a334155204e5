"""Measuring scans that a model made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.answers import exit_with_failures, line, print_json
from medgan.cli.options import JsonFlag, Out, Seed


def evaluate_restoration(
    reference: Annotated[Path, typer.Option(help="The true scan, or a folder of them.")],
    restored: Annotated[Path, typer.Option(help="The restored scan, or a folder with the same names.")],
    mask: Annotated[Path | None, typer.Option(help="Voxels above 0 are judged; the foreground without it.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """PSNR, SSIM and the rest of restored scans."""
    from medgan.workflows.evaluate import evaluate_restoration_files

    table = evaluate_restoration_files(reference, restored, mask=mask)
    if as_json:
        print_json(table.rows)
    else:
        for row in table.rows:
            typer.echo(line(row))
    exit_with_failures(table.failures, done=len(table.rows))


def evaluate_synthesis(
    real: Annotated[Path, typer.Option(help="Folder of the scans that the model was trained on.")],
    synthetic: Annotated[Path, typer.Option(help="Folder of its samples.")],
    out: Out,
    holdout: Annotated[Path | None, typer.Option(help="Folder of real scans that the model never saw.")] = None,
    seed: Seed = 0,
) -> None:
    """The evaluation card of synthetic scans, as JSON and HTML."""
    from medgan.workflows.evaluate import evaluate_synthesis_files

    evaluate_synthesis_files(real, synthetic, out, holdout=holdout, seed=seed)
    typer.echo(out / "card.html")
