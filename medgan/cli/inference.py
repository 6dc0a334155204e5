"""What trained models are for: synthetic scans and sharper ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medgan.cli.answers import console, exit_with_failures
from medgan.cli.options import AllowMemorised, Contrast, Device, Out, Reference, Seed, Subject
from medgan.errors import MedganError

Model = Annotated[
    str | None,
    typer.Option(
        help="A shipped model, a run folder, a model folder, an MLflow address, or 'physics': no learning.  "
        "[default: mri-universal, if this installation has it]",
        show_default=False,
    ),
]


Generator = Annotated[str, typer.Argument(help="A shipped model, a run folder, a model folder, or an MLflow address.")]
Truncation = Annotated[float, typer.Option(help="Below 1: more typical, less diverse.")]


def generate(
    model: Generator,
    out: Out,
    count: Annotated[int | None, typer.Option("-n", min=1, help="How many scans.")] = None,
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Label that the scans shall have; others are drawn. Empty value: none."
        ),
    ] = None,
    interpolate: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="The way between two: indices of samples, or files of `medgan project`."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Scans on that way, both ends included.")] = None,
    mix: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="Coarse styles of A and fine ones of B (stylegan).")
    ] = None,
    from_stage: Annotated[int | None, typer.Option(help="First stage that B gives, from 1.  [default: all]")] = None,
    along: Annotated[
        list[str] | None, typer.Option(metavar="K:AMOUNT", help="Move along direction K by standard deviations.")
    ] = None,
    directions: Annotated[Path | None, typer.Option(help="File of directions from `medgan explore`.")] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Label map, or folder of them: -n scans for each (mask_to_scan models).")
    ] = None,
    warp: Annotated[
        float | None, typer.Option(help="With --masks: show each label map deformed at random, by so many mm (RMS).")
    ] = None,
    device: Device = "auto",
    output_format: Annotated[str, typer.Option("--format", help="nifti, bids, or dicom: series of nobody.")] = "nifti",
    contrast: Contrast = None,
    audit: Annotated[
        Path | None, typer.Option(help="Cohort that the model was trained on: leave out samples that copy its scans.")
    ] = None,
    allow_memorised: AllowMemorised = False,
) -> None:
    """Draw synthetic scans; sample i depends on model, seed and i alone."""
    if masks is not None:
        control_options = (label, interpolate, steps, mix, from_stage, along, directions, contrast, audit)
        if any(option is not None for option in control_options) or truncation != 1.0:
            raise MedganError(
                "--masks goes with -n, --warp, --seed and --device alone",
                hint="Leave out the other options: label maps decide what the scans show.",
            )
        _generate_from_masks(
            model, masks, _counted(count), out, seed=seed, warp=warp or 0.0, device=device, format=output_format
        )
        return
    if warp is not None:
        raise MedganError("--warp is for label maps", hint="Name them by --masks, or leave it out.")
    from medgan.workflows.arguments import labels
    from medgan.workflows.control import Control, control_scans
    from medgan.workflows.generate import generate_scans

    control = Control(interpolate, steps, mix, from_stage, tuple(along or ()), directions)
    with console() as reporter:
        options: dict[str, Any] = {
            "seed": seed,
            "truncation": truncation,
            "labels": labels(label or [], "--label"),
            "device": device,
            "format": output_format,
            "contrast": contrast,
            "allow_memorised": allow_memorised,
            "reporter": reporter,
        }
        if control.is_wanted:
            if audit is not None:
                raise MedganError(
                    "--audit is for samples as they come", hint="Leave it out, or the options that steer samples."
                )
            paths = control_scans(model, count, control, out, **options)
        else:
            paths = generate_scans(model, _counted(count), out, audit=audit, **options)
    typer.echo(f"{len(paths)} synthetic scans in {out}")


def _generate_from_masks(model: str, masks: Path, count: int, out: Path, **options: Any) -> None:
    from medgan.workflows.generate_from_masks import generate_from_masks

    with console() as reporter:
        made = generate_from_masks(model, masks, count, out, **options, reporter=reporter)
    typer.echo(f"{len(made.images)} synthetic scans with their label maps in {out}")
    exit_with_failures(made.failures, done=len(made.images))


def _counted(count: int | None) -> int:
    if count is None:
        raise MedganError("how many scans are wanted is not said", hint="Add -n 4, for example.")
    return count


def explore(
    model: Generator,
    out: Annotated[Path, typer.Option("--out", help="The page, FILE.html; directions go to FILE.json beside it.")],
    directions: Annotated[int, typer.Option(min=1, help="How many directions, strongest first.")] = 6,
    steps: Annotated[int, typer.Option(min=2, help="Scans along each.")] = 5,
    reach: Annotated[float, typer.Option(help="How far to go to both sides, in standard deviations.")] = 3.0,
    seed: Seed = 0,
    device: Device = "auto",
    allow_memorised: AllowMemorised = False,
) -> None:
    """Find along which directions synthetic scans vary most, without labels, and show them on a page."""
    from medgan.workflows.explore import explore_model

    with console() as reporter:
        page = explore_model(
            *(model, out),
            directions=directions,
            steps=steps,
            reach=reach,
            seed=seed,
            device=device,
            allow_memorised=allow_memorised,
            reporter=reporter,
        )
    typer.echo(page)


def project(
    scan: Annotated[Path, typer.Argument(help="A NIfTI file, or a folder with a DICOM series.")],
    model: Generator,
    out: Out,
    steps: Annotated[int, typer.Option(min=1, help="Of the optimisation.")] = 300,
    starts: Annotated[int, typer.Option(min=2, help="Random samples to begin from the best of.")] = 32,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Find the synthetic scan that comes closest to a real one."""
    from medgan.workflows.project import project_scan

    with console() as reporter:
        result = project_scan(
            *(scan, model, out), steps=steps, starts=starts, seed=seed, device=device, reporter=reporter
        )
    typer.echo(result.verdict)
    typer.echo(result.folder)


def upscale(
    inputs: Annotated[list[Path], typer.Argument(help="NIfTI files, DICOM folders, or folders of them.")],
    out: Out,
    model: Model = None,
    spacing: Annotated[str | None, typer.Option(help="Wanted spacing in mm along the array axes, a,b,c.")] = None,
    factor: Annotated[str | None, typer.Option(help="Or: times more voxels along the array axes, a,b,c.")] = None,
    fidelity: Annotated[float, typer.Option(min=0, max=1, help="0: adversarial texture, 1: fidelity.")] = 1.0,
    thickness: Annotated[
        float | None, typer.Option(help="Slice thickness in mm, instead of what the header or the JSON sidecar says.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Slice profile: gaussian, rectangular, shinnar_le_roux, or the file of a measured one, with a "
            "position in mm and a sensitivity per line.  [default: gaussian]",
            show_default=False,
        ),
    ] = None,
    self_supervised: Annotated[
        bool,
        typer.Option("--self-supervised", help="Tune the model on each scan's own planes first; takes minutes."),
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Maps of where to be careful beside each result; eight times as long."),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Show each result on a page: FILE.html for one scan, a folder for several.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes; they share the cores, one scan at a time in each.")] = 1,
    shard: Annotated[
        str | None, typer.Option(help="Do the i-th of n parts of the scans, i/n, such as one per machine.")
    ] = None,
    device: Device = "auto",
    output_format: Annotated[
        str, typer.Option("--format", help="nifti, bids, dicom (derived series) or dicom-enhanced (one file).")
    ] = "nifti",
    reference: Reference = None,
    subject: Subject = None,
    contrast: Contrast = None,
) -> None:
    """Make scans sharper. In a folder, what was made from the same already is skipped: repeat a call to go on."""
    from medgan.workflows.arguments import numbers
    from medgan.workflows.upscale import upscale_scans
    from medgan.workflows.upscale_cohort import parsed_shard

    with console() as reporter:
        result = upscale_scans(
            inputs,
            out,
            model=model,
            factor=numbers(factor, "--factor"),
            spacing=numbers(spacing, "--spacing"),
            thickness=thickness,
            profile=profile,
            fidelity=fidelity,
            self_supervised=self_supervised,
            uncertainty=uncertainty,
            report=report,
            device=device,
            format=output_format,
            subject=subject,
            contrast=contrast,
            reference=reference,
            jobs=jobs,
            shard=parsed_shard(shard),
            reporter=reporter,
        )
    for path in result.written:
        typer.echo(path)
    exit_with_failures(result.failures, done=len(result.written))


def node(
    storage: Annotated[Path, typer.Option(help="Folder of the queue; it will hold scans with patients' names.")],
    destination: Annotated[str, typer.Option(help="Where derived series are sent: AE@host:port.")],
    model: Model = None,
    spacing: Annotated[str | None, typer.Option(help="Wanted spacing in mm: column, row, slice step, a,b,c.")] = None,
    factor: Annotated[str | None, typer.Option(help="Or: times more columns, rows, slices, a,b,c.")] = None,
    fidelity: Annotated[float, typer.Option(min=0, max=1, help="0: adversarial texture, 1: fidelity.")] = 1.0,
    ae_title: Annotated[str, typer.Option(help="Name of the node; it must be called by it.")] = "MEDGAN",
    port: Annotated[int, typer.Option(help="TCP port.")] = 11112,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need --allow.")] = "127.0.0.1",
    allow: Annotated[str | None, typer.Option(help="AE titles that may send, A,B; all without it.")] = None,
    max_associations: Annotated[int, typer.Option(help="Open at once.")] = 16,
    max_queue: Annotated[int, typer.Option(help="Series in the node at once; more are refused as out of room.")] = 100,
    quiet_seconds: Annotated[
        float, typer.Option(help="A series not released is complete so long after its last instance.")
    ] = 30.0,
    device: Device = "auto",
) -> None:
    """A DICOM node: receives series, upscales them, and sends the derived series on, until it is stopped."""
    from medgan.node.settings import NodeSettings, Peer
    from medgan.workflows.arguments import numbers
    from medgan.workflows.node import run_node

    settings = NodeSettings(
        storage=storage,
        destination=Peer.parse(destination),
        ae_title=ae_title,
        host=host,
        port=port,
        allow=tuple(title.strip() for title in allow.split(",")) if allow else (),
        max_associations=max_associations,
        max_queue=max_queue,
        quiet_seconds=quiet_seconds,
    )
    with console() as reporter:
        run_node(
            settings,
            model=model,
            factor=numbers(factor, "--factor"),
            spacing=numbers(spacing, "--spacing"),
            fidelity=fidelity,
            device=device,
            reporter=reporter,
        )
