"""The command line: one verb per workflow, thin. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from medgan import __version__
from medgan.cli import evaluation, inference, release, scans, tour, training, translation
from medgan.cli.answers import BAD_INPUT, DONE
from medgan.errors import MedganError

app = typer.Typer(
    name="medgan",
    help="3D GANs and super-resolution for medical imaging. For research, not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
evaluate_app = typer.Typer(help="Measure synthetic or restored scans.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(evaluate_app, name="evaluate")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medgan {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a user error too.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before the verb."""


# In the order of --help.
app.command()(tour.quickstart)
app.command()(scans.inspect)
app.command()(scans.convert)
app.command()(scans.prepare)
app.command()(training.recipes)
app.command()(training.train)
app.command()(inference.generate)
app.command()(inference.explore)
app.command()(inference.project)
app.command()(inference.upscale)
app.command()(translation.translate)
app.command()(inference.node)
app.command()(release.export)
evaluate_app.command("restoration")(evaluation.evaluate_restoration)
evaluate_app.command("synthesis")(evaluation.evaluate_synthesis)
evaluate_app.command("usefulness")(evaluation.evaluate_usefulness)
app.command()(tour.runs)
app.command()(tour.doctor)


def main() -> NoReturn:
    """Entry point: run a verb; say user errors in one message and leave with 2."""
    try:
        app()
    except MedganError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(BAD_INPUT)
    except OSError as error:
        from medgan.workflows.places import refusal

        explained = refusal(error)
        if explained is None or "--debug" in sys.argv:
            raise
        typer.echo(f"error: {explained}", err=True)
        sys.exit(BAD_INPUT)
    sys.exit(DONE)
