"""Upscale scans from files to files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.batch import BatchResult, search
from medgan.workflows.formats import NIFTI, reference_files
from medgan.workflows.models import chosen_model, super_resolution_model
from medgan.workflows.upscale_cohort import (
    Setup,
    failures_file,
    outcomes,
    part_of,
    reports_folder,
    write_failures,
)
from medgan.workflows.upscale_one import Outcome
from medgan.workflows.upscale_request import Request, check_request

if TYPE_CHECKING:
    from medgan.inference.slice_profile import AssumedProfile
    from medgan.io import Scan


def upscale_scans(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | None = None,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    thickness: float | None = None,
    profile: str | Path | AssumedProfile | None = None,
    fidelity: float = 1.0,
    self_supervised: bool = False,
    uncertainty: bool = False,
    report: str | Path | None = None,
    device: str = "auto",
    format: str = NIFTI,
    subject: str | None = None,
    contrast: str | None = None,
    reference: str | Path | None = None,
    jobs: int = 1,
    shard: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> BatchResult:
    """Upscale every scan in `inputs`.

    A scan whose result stands in the folder `out` already, made from the same files by the same model, options and
    version, is skipped; so a call that was interrupted, by whatever, is repeated to go on. Of several scans one that
    fails is listed in the result, and in the file `failures.tsv` in `out`.

    Args:
        inputs: NIfTI files (3D, or 4D: volume by volume into one 4D file), DICOM folders, or folders of them.
        out: a NIfTI file for one scan, or a folder; for DICOM always a folder, in which each series gets one of its
            own. Beside each scan stands a JSON file with what was done.
        model: as `medgan.workflows.models.resolve_model` takes it, or "physics" for the regularised inverse without
            learning; None for the model that comes with medgan.
        factor: see `medgan.inference.upscale.upscale`.
        spacing: see there.
        thickness: slice thickness in mm; None for what the DICOM header or the JSON file beside the NIfTI file
            (SliceThickness) says, else touching slices are assumed.
        profile: what a slice is assumed to see at each distance from its centre: one of
            `medgan.inference.slice_profile.PROFILE_NAMES`, or the file of a measured one (`read_profile` there), which
            says how thick slices are unless `thickness` does; None for a Gaussian, or what the model was trained for.
        fidelity: see there.
        self_supervised: tune the model on each scan itself, see
            `medgan.workflows.self_supervised.self_supervised_upscale`; with "physics" a new network is trained.
        uncertainty: write maps of uncertainty beside each result, see `medgan.inference.uncertainty`; with a network
            this takes eight times as long.
        report: a page about each result: an HTML file for one scan, a folder for several.
        device: "auto", "cpu", "cuda", ...
        format: one of `medgan.workflows.formats.FORMATS`, or "bids": a derivative dataset in the folder `out`. A DICOM
            series is derived from the one that was read.
        subject: for BIDS, whose scans these are, unless their names say so.
        contrast: for BIDS, the suffix such as "T1w", unless their names say it.
        reference: for one NIfTI file that is to become DICOM: the folder of the DICOM series that it was made from.
        jobs: processes, which share the cores; each holds one scan at a time. With more than one, a script must call
            this under `if __name__ == "__main__":`.
        shard: (i, n) for the i-th of n parts of the scans by the order of their paths, such as one per machine.
        reporter: where progress goes.

    Raises:
        MedganError: an argument is wrong, the place cannot be written, or there is nothing to upscale; or the only scan
            cannot be upscaled.
    """
    reporter = reporter or Reporter()
    request = Request(factor, spacing, thickness, fidelity, self_supervised, uncertainty, _profile(profile))
    check_request(request)
    if jobs < 1:
        raise MedganError(f"the number of jobs must be at least 1, it is {jobs}", hint="Write for example --jobs 2.")
    scans, damaged = search(inputs)
    setup = Setup(
        request=request,
        model=chosen_model(model, reporter),
        device=device,
        format=format,
        subject=subject,
        contrast=contrast,
        out=Path(out),
        is_single_file=len(inputs) == 1 and Path(inputs[0]).is_file(),
        reference=_reference(reference, scans),
        jobs=jobs,
        reports=reports_folder(report, len(scans)),
    )
    return _upscaled(setup, scans, damaged if shard is None or shard[0] == 1 else [], shard, reporter)


def _upscaled(
    setup: Setup,
    scans: Sequence[Scan],
    damaged: Sequence[tuple[Path, str]],
    shard: tuple[int, int] | None,
    reporter: Reporter,
) -> BatchResult:
    """The scans of this shard, and the table of those that failed."""
    wanted = setup.wanted()
    # All targets are looked at in every shard: two scans of one name must not meet in different shards.
    work = part_of(list(zip(scans, wanted.targets(scans, setup.out, setup.is_single_file), strict=True)), shard)
    loaded = super_resolution_model(setup.model, setup.device)
    ended: dict[int, Outcome] = {}
    reporter.progress("upscale", 0, len(work), work[0][0].name if work else "no scan in this shard")
    for index, outcome in outcomes(setup, work, loaded, wanted, partial(reporter.progress, "tiles")):
        ended[index] = outcome
        name = work[index][0].name
        for note in outcome.notes:
            reporter.say(f"{name}: {note}")
        if outcome.error is not None and (len(scans) == 1 or outcome.is_fatal):
            raise outcome.error
        reporter.progress("upscale", len(ended), len(work), name)
    failed = [(work[index][0], outcome.error) for index, outcome in sorted(ended.items()) if outcome.error is not None]
    if len(scans) > 1:
        write_failures(failures_file(setup, shard), [(scan.name, error) for scan, error in failed])
    stands = [outcome for _, outcome in sorted(ended.items()) if outcome.error is None]
    return BatchResult(
        tuple(outcome.target for outcome in stands),
        (*damaged, *((scan.path, str(error)) for scan, error in failed)),
        tuple(outcome.target for outcome in stands if outcome.is_skipped),
    )


def _profile(profile: str | Path | AssumedProfile | None) -> AssumedProfile | None:
    """The profile that is asked for, read if it is a file."""
    if not isinstance(profile, str | Path):
        return profile
    from medgan.inference.slice_profile import profile_for

    return profile_for(profile)


def _reference(reference: str | Path | None, scans: Sequence[Scan]) -> tuple[Path, ...]:
    """The files of the reference series, if one is named."""
    if reference is None:
        return ()
    if len(scans) > 1 or scans[0].slices is not None:
        raise MedganError(
            "a reference is for one NIfTI file; a DICOM series is its own",
            file=reference,
            hint="Leave --reference out, or upscale one NIfTI file at a time.",
        )
    return reference_files(reference)
