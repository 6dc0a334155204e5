"""Scans in another contrast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.answers import console, exit_with_failures
from medgan.cli.options import Device, Reference


def translate(
    inputs: Annotated[list[Path], typer.Argument(help="NIfTI files, DICOM folders, or folders of them.")],
    model: Annotated[str, typer.Option(help="A run folder, a model folder, or an MLflow address.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write.")],
    reverse: Annotated[
        bool, typer.Option("--reverse", help="From the model's target contrast to its source (cyclegan).")
    ] = False,
    device: Device = "auto",
    output_format: Annotated[
        str, typer.Option("--format", help="nifti, dicom (derived series) or dicom-enhanced (one file).")
    ] = "nifti",
    reference: Reference = None,
) -> None:
    """Make the contrast that a model learned, on the very grid of each scan; it was not acquired."""
    from medgan.workflows.translate import translate_scans

    with console() as reporter:
        result = translate_scans(
            inputs,
            out,
            model=model,
            reverse=reverse,
            device=device,
            format=output_format,
            reference=reference,
            reporter=reporter,
        )
    for path in result.written:
        typer.echo(path)
    exit_with_failures(result.failures, done=len(result.written))
