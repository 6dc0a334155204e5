"""Recipes, and training by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.answers import SIGNAL_EXIT, console, print_json
from medgan.cli.options import Device
from medgan.errors import MedganError


def recipes(
    show: Annotated[str | None, typer.Argument(help="'show', to print one recipe.")] = None,
    name: Annotated[str | None, typer.Argument(help="The recipe to print, or a YAML file.")] = None,
) -> None:
    """List the shipped recipes; `medgan recipes show NAME` explains one field by field."""
    from medgan.recipe_files import described, load_recipe, shipped_recipes

    if show is None:
        for recipe in shipped_recipes():
            typer.echo(f"{recipe:32s} {load_recipe(recipe).description}")
        return
    if show == "show" and name is None:
        raise MedganError("no recipe was named", hint="Write: medgan recipes show NAME; `medgan recipes` lists them.")
    if show != "show" or name is None:
        raise MedganError(f"'{show}' is not understood", hint="Write: medgan recipes, or: medgan recipes show NAME.")
    for field, value, sentence in described(load_recipe(name)):
        typer.echo(f"{field} = {value}\n    {sentence}")


def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe such as synthesis/r3gan, or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Folder of a prepared cohort.")],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field: a.b=c, or fit a GPU: preset=16g. Repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.")] = None,
    device: Device = "auto",
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the training instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed instead of the recipe's.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of an unfinished run to continue.")] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", help="A super-resolution model to begin with instead of fresh weights.")
    ] = None,
    perceptual_network: Annotated[
        Path | None, typer.Option(help="TorchScript file for recipes with a perceptual_weight; it is run.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be trained and the memory it takes, and stop.")
    ] = False,
) -> None:
    """Train a model by a recipe; Ctrl-C writes a checkpoint and leaves."""
    from medgan.workflows.plan import describe_training
    from medgan.workflows.train import train as run

    if resume is not None and out is not None:
        raise MedganError(
            f"--resume {resume} continues in that folder, so --out {out} cannot be kept", hint="Leave out one of them."
        )
    if resume is not None and start_from is not None:
        raise MedganError("a resumed training has its weights already, so --from cannot be kept", hint="Leave it out.")
    overrides = assignments or []
    if dry_run:
        print_json(describe_training(recipe, data, overrides=overrides, steps=steps, seed=seed, device=device))
        return
    with console() as reporter:
        outcome = run(
            recipe,
            data,
            overrides=overrides,
            out=out,
            device=device,
            steps=steps,
            seed=seed,
            resume=resume,
            start_from=start_from,
            perceptual_network=perceptual_network,
            reporter=reporter,
        )
    typer.echo(outcome.folder)
    if outcome.signal:
        raise typer.Exit(SIGNAL_EXIT[outcome.signal])
