"""The whole tour, the tracked runs, and what the installation lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.answers import SOME_FAILED, console
from medgan.cli.options import Device, Out, Seed


def quickstart(
    out: Out = Path("quickstart"),
    data: Annotated[
        Path | None, typer.Option(help="Folder of real scans; the embedded virtual cohort without it.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """The whole tour in minutes: prepare, train, upscale, generate, evaluate, report."""
    from medgan.workflows.quickstart import closing_words
    from medgan.workflows.quickstart import quickstart as run

    with console() as reporter:
        summary = run(out, data=data, seed=seed, device=device, reporter=reporter)
    typer.echo(closing_words(summary))


def runs(
    store: Annotated[
        Path | None, typer.Option(help="Folder that holds mlflow.db; ./runs or the current folder without it.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
) -> None:
    """The tracked runs, newest first."""
    from rich.console import Console

    from medgan.workflows.runs import print_runs
    from medgan.workflows.runs import runs as find

    print_runs(find(store, limit), Console())


def doctor() -> None:
    """Versions, device, decoders, tracking store: what is missing and how to get it."""
    from rich.console import Console

    from medgan.workflows.doctor import diagnose, print_checks

    checks = diagnose()
    print_checks(checks, Console())
    if not all(check.ok for check in checks):
        raise typer.Exit(SOME_FAILED)
