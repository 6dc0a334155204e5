"""Handing a model on."""

from __future__ import annotations

from typing import Annotated

import typer

from medgan.cli.answers import console
from medgan.cli.options import AllowMemorised, Out


def export(
    model: Annotated[str, typer.Argument(help="A shipped model, a run folder, a model folder, or an MLflow address.")],
    out: Out,
    allow_memorised: AllowMemorised = False,
) -> None:
    """Copy a model into a folder that can be handed on, unless it gives its training scans away."""
    from medgan.workflows.release import export_model

    with console() as reporter:
        typer.echo(export_model(model, out, allow_memorised=allow_memorised, reporter=reporter))
