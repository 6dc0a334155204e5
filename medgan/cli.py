"""The command line: one verb per workflow, thin. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from medgan import __version__
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

DONE, SOME_FAILED, BAD_INPUT = 0, 1, 2
# A shell reports a command that a signal ended as 128 plus the signal's number.
_SIGNAL_EXIT = {"SIGINT": 130, "SIGTERM": 143}

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


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


@app.command()
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

    with _console() as reporter:
        summary = run(out, data=data, seed=seed, device=device, reporter=reporter)
    typer.echo(closing_words(summary))


@app.command()
def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders.")],
    as_json: JsonFlag = False,
) -> None:
    """What is in these files: shape, spacing, orientation, contrast, problems."""
    from medgan.files import require_existing
    from medgan.workflows.inspect import inspect as run
    from medgan.workflows.inspect import print_summaries

    summaries = run([require_existing(path) for path in paths])
    if as_json:
        _print_json([summary.to_dict() for summary in summaries])
    else:
        from rich.console import Console

        print_summaries(summaries, Console(), remarks_only=True)
    unreadable = [(one.path, " ".join(one.problems)) for one in summaries if not one.readable]
    _exit_with_failures(unreadable, done=len(summaries) - len(unreadable))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A DICOM folder or a NIfTI file.")],
    target: Annotated[Path, typer.Argument(help="The NIfTI file to write.")],
    series: Annotated[str | None, typer.Option(help="SeriesInstanceUID, when the folder holds several.")] = None,
    index: Annotated[int | None, typer.Option(help="Which volume of a 4D file, from 0.")] = None,
) -> None:
    """DICOM or NIfTI to NIfTI, with exact geometry."""
    from medgan.workflows.convert import convert as run

    typer.echo(run(source, target, series=series, index=index))


@app.command()
def prepare(
    inputs: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the cohort.")],
    spacing: Annotated[
        str | None, typer.Option(help="Target spacing in mm, x,y,z in RAS; the cohort's median without it.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Target shape in voxels, x,y,z in RAS; the cohort's median without it.")
    ] = None,
    split: Annotated[str, typer.Option(help="Shares of subjects for train, validation, test.")] = "0.8,0.1,0.1",
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Build a cohort: manifest, fingerprint, cached voxels."""
    from medgan.workflows.arguments import numbers, shares, whole_numbers
    from medgan.workflows.prepare import prepare as run

    with _console() as reporter:
        preparation = run(
            inputs,
            out,
            spacing=numbers(spacing, "--spacing"),
            shape=whole_numbers(shape, "--shape"),
            split=shares(split, "--split"),
            seed=seed,
            jobs=jobs,
            progress=lambda done, total, name: reporter.progress("prepare", done, total, name),
        )
    cohort = preparation.cohort
    counts = ", ".join(f"{len(cohort.split(name))} {name}" for name in ("train", "validation", "test"))
    size = " x ".join(map(str, cohort.shape))
    steps = " x ".join(f"{step:.3g}" for step in cohort.spacing)
    typer.echo(f"{len(cohort.records)} scans ({counts}) of {size} voxels, {steps} mm, in {cohort.folder}")
    _exit_with_failures(preparation.failures, done=len(cohort.records))


@app.command()
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


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe such as synthesis/r3gan, or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Folder of a prepared cohort.")],
    assignments: Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=c. Repeatable.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.")] = None,
    device: Device = "auto",
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the training instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed instead of the recipe's.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of an unfinished run to continue.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained, and stop.")] = False,
) -> None:
    """Train a model by a recipe; Ctrl-C writes a checkpoint and leaves."""
    from medgan.workflows.train import describe_training
    from medgan.workflows.train import train as run

    if resume is not None and out is not None:
        raise MedganError(
            f"--resume {resume} continues in that folder, so --out {out} cannot be kept", hint="Leave out one of them."
        )
    overrides = assignments or []
    if dry_run:
        _print_json(describe_training(recipe, data, overrides=overrides, steps=steps, seed=seed))
        return
    with _console() as reporter:
        outcome = run(
            recipe,
            data,
            overrides=overrides,
            out=out,
            device=device,
            steps=steps,
            seed=seed,
            resume=resume,
            reporter=reporter,
        )
    typer.echo(outcome.folder)
    if outcome.signal:
        raise typer.Exit(_SIGNAL_EXIT[outcome.signal])


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, or an MLflow address.")],
    count: Annotated[int, typer.Option("-n", min=1, help="How many scans.")],
    out: Out,
    seed: Seed = 0,
    truncation: Annotated[float, typer.Option(help="Below 1: more typical, less diverse.")] = 1.0,
    device: Device = "auto",
) -> None:
    """Draw synthetic scans; sample i depends on model, seed and i alone."""
    from medgan.workflows.generate import generate_scans

    with _console() as reporter:
        paths = generate_scans(model, count, out, seed=seed, truncation=truncation, device=device, reporter=reporter)
    typer.echo(f"{len(paths)} synthetic scans in {out}")


@app.command()
def upscale(
    inputs: Annotated[list[Path], typer.Argument(help="NIfTI files, DICOM folders, or folders of them.")],
    out: Out,
    model: Annotated[
        str, typer.Option(help="A run folder, a model folder, an MLflow address, or 'physics'.")
    ] = "physics",
    spacing: Annotated[str | None, typer.Option(help="Wanted spacing in mm along the array axes, a,b,c.")] = None,
    factor: Annotated[str | None, typer.Option(help="Or: times more voxels along the array axes, a,b,c.")] = None,
    fidelity: Annotated[float, typer.Option(min=0, max=1, help="0: adversarial texture, 1: fidelity.")] = 1.0,
    thickness: Annotated[float | None, typer.Option(help="Slice thickness in mm, when the file does not say.")] = None,
    device: Device = "auto",
) -> None:
    """Make scans sharper; 'physics' is the regularised inverse of the acquisition, without learning."""
    from medgan.workflows.arguments import numbers
    from medgan.workflows.upscale import upscale_scans

    with _console() as reporter:
        result = upscale_scans(
            inputs,
            out,
            model=model,
            factor=numbers(factor, "--factor"),
            spacing=numbers(spacing, "--spacing"),
            thickness=thickness,
            fidelity=fidelity,
            device=device,
            reporter=reporter,
        )
    for path in result.written:
        typer.echo(path)
    _exit_with_failures(result.failures, done=len(result.written))


@evaluate_app.command("restoration")
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
        _print_json(table.rows)
    else:
        for row in table.rows:
            typer.echo(_line(row))
    _exit_with_failures(table.failures, done=len(table.rows))


@evaluate_app.command("synthesis")
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


@app.command()
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


@app.command()
def doctor() -> None:
    """Versions, device, decoders, tracking store: what is missing and how to get it."""
    from rich.console import Console

    from medgan.workflows.doctor import diagnose, print_checks

    checks = diagnose()
    print_checks(checks, Console())
    if not all(check.ok for check in checks):
        raise typer.Exit(SOME_FAILED)


def _console() -> Any:
    from medgan.reporter import ConsoleReporter

    return ConsoleReporter()


def _line(row: dict[str, Any]) -> str:
    return "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items())


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2))


def _exit_with_failures(failures: Any, *, done: int) -> None:
    """List what failed, if anything did, and leave: with 1 if something was done besides, else with 2."""
    for path, reason in failures:
        typer.echo(f"failed: {reason if str(path) in reason else f'{path}: {reason}'}", err=True)
    if failures:
        raise typer.Exit(SOME_FAILED if done else BAD_INPUT)


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


if __name__ == "__main__":
    main()
