"""What trained models are for: synthetic scans and sharper ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medgan.cli.answers import console, exit_with_failures
from medgan.cli.options import Contrast, Device, Out, Reference, Seed, Subject

Model = Annotated[
    str | None,
    typer.Option(
        help="A shipped model, a run folder, a model folder, an MLflow address, or 'physics': no learning.  "
        "[default: mri-universal, if this installation has it]",
        show_default=False,
    ),
]


def generate(
    model: Annotated[str, typer.Argument(help="A run folder, a model folder, or an MLflow address.")],
    count: Annotated[int, typer.Option("-n", min=1, help="How many scans.")],
    out: Out,
    seed: Seed = 0,
    truncation: Annotated[float, typer.Option(help="Below 1: more typical, less diverse.")] = 1.0,
    device: Device = "auto",
    output_format: Annotated[str, typer.Option("--format", help="nifti, bids, or dicom: series of nobody.")] = "nifti",
    contrast: Contrast = None,
) -> None:
    """Draw synthetic scans; sample i depends on model, seed and i alone."""
    from medgan.workflows.generate import generate_scans

    with console() as reporter:
        paths = generate_scans(
            model,
            count,
            out,
            seed=seed,
            truncation=truncation,
            device=device,
            format=output_format,
            contrast=contrast,
            reporter=reporter,
        )
    typer.echo(f"{len(paths)} synthetic scans in {out}")


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
