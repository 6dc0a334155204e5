"""Scans before any training: look at them, convert them, prepare a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.answers import console, exit_with_failures, print_json
from medgan.cli.options import Contrast, JsonFlag, Reference, Seed, Subject
from medgan.errors import MedganError


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
        print_json([summary.to_dict() for summary in summaries])
    else:
        from rich.console import Console

        print_summaries(summaries, Console(), remarks_only=True)
    unreadable = [(one.path, " ".join(one.problems)) for one in summaries if not (one.readable or one.left_out)]
    exit_with_failures(unreadable, done=len(summaries) - len(unreadable))


def convert(
    source: Annotated[Path, typer.Argument(help="A DICOM folder or a NIfTI file.")],
    target: Annotated[Path, typer.Argument(help="The NIfTI file to write; a new folder for DICOM.")],
    series: Annotated[str | None, typer.Option(help="SeriesInstanceUID, when the folder holds several.")] = None,
    index: Annotated[
        int | None, typer.Option(help="Which volume of a 4D file or of a series of several volumes, from 0.")
    ] = None,
    allow_gap: Annotated[bool, typer.Option("--allow-gap", help="Interpolate missing DICOM slices.")] = False,
    resample_uneven: Annotated[
        bool,
        typer.Option("--resample-uneven", help="Resample unevenly spaced DICOM slices onto their median distance."),
    ] = False,
    deshear: Annotated[
        bool, typer.Option("--deshear", help="Resample a tilted DICOM stack onto a grid with right angles.")
    ] = False,
    output_format: Annotated[
        str | None, typer.Option("--format", help="nifti, bids, dicom or dicom-enhanced; NIfTI without it.")
    ] = None,
    reference: Reference = None,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="Copy DICOM series to DICOM without what identifies the patient.")
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option(help="Secret key of the stand-ins; MEDGAN_DEIDENTIFY_KEY without it.")
    ] = None,
    keep_private: Annotated[
        list[str] | None, typer.Option(help="Private attribute to keep: CREATOR:GGGG,EE. Repeatable.")
    ] = None,
    pixels_checked: Annotated[
        bool, typer.Option("--pixels-checked", help="With --deidentify: you looked, and no pixels show text.")
    ] = False,
    deface: Annotated[
        bool, typer.Option("--deface", help="Remove the face from an MR scan of a head. Look at the result.")
    ] = False,
    subject: Subject = None,
    contrast: Contrast = None,
) -> None:
    """DICOM or NIfTI to NIfTI or DICOM, with exact geometry."""
    if deidentify:
        from medgan.workflows.deidentify import deidentify as deidentify_series
        from medgan.workflows.deidentify import require_no_other_options

        require_no_other_options(
            {
                "--index": index,
                "--allow-gap": allow_gap,
                "--resample-uneven": resample_uneven,
                "--deshear": deshear,
                "--format": output_format,
                "--reference": reference,
                "--subject": subject,
                "--contrast": contrast,
            }
        )
        with console() as reporter:
            result = deidentify_series(
                source,
                target,
                key_file=key_file,
                series=series,
                deface=deface,
                keep_private=keep_private or (),
                pixels_checked=pixels_checked,
                reporter=reporter,
            )
        for folder in result.written:
            typer.echo(folder)
        exit_with_failures(result.failures, done=len(result.written))
        return
    if key_file or keep_private or pixels_checked:
        raise MedganError(
            "--key-file, --keep-private and --pixels-checked are for de-identification", hint="Add --deidentify."
        )
    from medgan.io.dicom.relaxations import Relaxations
    from medgan.workflows.convert import convert as run

    relaxations = Relaxations(allow_gap=allow_gap, resample_uneven=resample_uneven, deshear=deshear)
    path = run(
        source,
        target,
        series=series,
        index=index,
        relaxations=relaxations,
        format=output_format,
        reference=reference,
        deface=deface,
        subject=subject,
        contrast=contrast,
    )
    typer.echo(path)


def prepare(
    inputs: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the cohort.")],
    spacing: Annotated[
        str | None, typer.Option(help="Target spacing in mm, x,y,z in RAS; the cohort's median without it.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Target shape in voxels, x,y,z in RAS; the cohort's median without it.")
    ] = None,
    own_grids: Annotated[
        bool, typer.Option("--own-grids", help="Keep each scan's own voxels, for recipes that take any spacing.")
    ] = False,
    masks: Annotated[
        Path | None, typer.Option(help="Folder with a label map for each scan, by equal names or with dseg behind.")
    ] = None,
    split: Annotated[str, typer.Option(help="Shares of subjects for train, validation, test.")] = "0.8,0.1,0.1",
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    allow_unknown_parents: Annotated[
        bool,
        typer.Option(
            "--allow-unknown-parents", help="Mix real scans with synthetic ones made from nobody knows which."
        ),
    ] = False,
) -> None:
    """Build a cohort: manifest, fingerprint, cached voxels."""
    from medgan.workflows.arguments import numbers, shares, whole_numbers
    from medgan.workflows.prepare import grid_of, masks_of
    from medgan.workflows.prepare import prepare as run

    with console() as reporter:
        preparation = run(
            inputs,
            out,
            spacing=numbers(spacing, "--spacing"),
            shape=whole_numbers(shape, "--shape"),
            own_grids=own_grids,
            masks=masks,
            split=shares(split, "--split"),
            seed=seed,
            jobs=jobs,
            progress=lambda done, total, name: reporter.progress("prepare", done, total, name),
            allow_unknown_parents=allow_unknown_parents,
        )
    cohort = preparation.cohort
    counts = ", ".join(f"{len(cohort.split(name))} {name}" for name in ("train", "validation", "test"))
    typer.echo(f"{len(cohort.records)} scans ({counts}), {grid_of(cohort)}{masks_of(cohort)}, in {cohort.folder}")
    exit_with_failures(preparation.failures, done=len(cohort.records))
