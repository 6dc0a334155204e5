"""Measuring scans that a model made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.answers import console, exit_with_failures, line, print_json
from medgan.cli.options import Device, JsonFlag, Out, Seed


def evaluate_restoration(
    reference: Annotated[Path, typer.Option(help="The true scan, or a folder of them.")],
    restored: Annotated[Path, typer.Option(help="The restored scan, or a folder with the same names.")],
    mask: Annotated[Path | None, typer.Option(help="Voxels above 0 are judged; the foreground without it.")] = None,
    lesions: Annotated[
        Path | None, typer.Option(help="Mask of lesions, or a folder with the same names: what of them is kept.")
    ] = None,
    acquired: Annotated[
        Path | None, typer.Option(help="The scan that was restored, or a folder with the same names: is it kept?")
    ] = None,
    thickness: Annotated[
        float | None, typer.Option(help="Slice thickness of the acquired scan in mm; what its file says without it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figures as JSON and a page.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """PSNR, SSIM and the rest of restored scans."""
    from medgan.workflows.evaluate_restoration import evaluate_restoration_files

    table = evaluate_restoration_files(
        reference, restored, mask=mask, lesions=lesions, acquired=acquired, thickness=thickness, out=out
    )
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
    encoder: Annotated[
        str | None, typer.Option(help="What scans are compared by: a name, or medicalnet:FILE, volume:FILE ...")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Compare each class of this label of participants.tsv and samples.json.")
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="TorchScript file that scores classes, for the Inception score; it is run.")
    ] = None,
    segmentation: Annotated[
        str | None,
        typer.Option(help="For volumes of regions: MONAI bundle, TorchScript file or module:attribute; it is run."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="That made the samples: keep the audit with it, where generate and export look.")
    ] = None,
    cache: Annotated[bool, typer.Option(help="Keep features of scans for the next evaluation.")] = True,
    as_json: JsonFlag = False,
    seed: Seed = 0,
) -> None:
    """The evaluation card of synthetic scans, as JSON and HTML."""
    from medgan.workflows.evaluate import evaluate_synthesis_files

    with console() as reporter:
        card = evaluate_synthesis_files(
            real,
            synthetic,
            out,
            holdout=holdout,
            encoder=encoder,
            label=label,
            classifier=classifier,
            segmentation=segmentation,
            model=model,
            cache=cache,
            seed=seed,
            reporter=reporter,
        )
    if as_json:
        print_json(card)
        return
    for verdict in card["verdicts"]:
        typer.echo(f"{verdict['topic'].capitalize()}: {verdict['level']}. {verdict['sentence']}")
    typer.echo(out / "card.html")


def evaluate_usefulness(
    real: Annotated[Path, typer.Option(help="Prepared cohort: its training scans teach, its test scans judge.")],
    synthetic: Annotated[Path, typer.Option(help="Folder that medgan generate wrote, or a cohort prepared from it.")],
    out: Out,
    label: Annotated[
        str | None, typer.Option(help="Tell classes of this label; without it: segment, by label maps.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each training.")] = 1000,
    batch_size: Annotated[int, typer.Option(min=1, help="Scans in a step.")] = 4,
    width: Annotated[int, typer.Option(min=1, help="Feature channels of the networks' finest stage.")] = 12,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 2e-3,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror left to right; not where labels have a side.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind.")] = 5,
    seed: Seed = 0,
    share: Annotated[float, typer.Option(help="Of synthetic scans where both are learned from.")] = 0.5,
    allow_unknown_parents: Annotated[
        bool, typer.Option("--allow-unknown-parents", help="Take scans of unknown descent; the card says so.")
    ] = False,
    tracking: Annotated[bool, typer.Option("--tracking/--no-tracking", help="Track the trainings in MLflow.")] = True,
    device: Device = "auto",
) -> None:
    """What synthetic scans bring as training data, tested on real ones; refuses children of the test."""
    from medgan.workflows.usefulness import PAGE, UsefulnessOptions
    from medgan.workflows.usefulness import evaluate_usefulness as run

    options = UsefulnessOptions(
        steps=steps,
        batch_size=batch_size,
        width=width,
        learning_rate=learning_rate,
        flip=flip,
        seeds=seeds,
        seed=seed,
        share=share,
        allow_unknown_parents=allow_unknown_parents,
        tracking=tracking,
    )
    with console() as reporter:
        run(real, synthetic, out, label=label, options=options, device=device, reporter=reporter)
    typer.echo(out / PAGE)
