"""Many scans to upscale: which of them are this machine's, by how many processes, and what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.workflows.batch import blamed
from medgan.workflows.formats import Format
from medgan.workflows.upscale_batches import batched_outcomes, may_share_batches
from medgan.workflows.upscale_one import Outcome, Output, upscale_one
from medgan.workflows.upscale_request import Request
from medgan.workflows.workers import Killed, worked

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.io import Scan

Work = tuple["Scan", Path]


@dataclass(frozen=True)
class Setup:
    """What all scans of a cohort share, as plain values that travel to other processes.

    Args:
        request: what is asked of each scan.
        model: what `medgan.workflows.models.super_resolution_model` takes.
        device: where it runs.
        format: name of the format.
        subject: for BIDS.
        contrast: for BIDS.
        out: where results go.
        is_single_file: whether one file was named as input.
        reference: files of a DICOM series that a NIfTI file was made from.
        jobs: processes.
        reports: the HTML file of the only scan's report, or the folder of all reports; None for none.
    """

    request: Request
    model: str
    device: str
    format: str
    subject: str | None
    contrast: str | None
    out: Path
    is_single_file: bool
    reference: tuple[Path, ...]
    jobs: int
    reports: Path | None = None

    def report_of(self, scan: Scan) -> Path | None:
        """The HTML file about a scan, if one is asked for."""
        if self.reports is None or self.reports.suffix:
            return self.reports
        return self.reports / f"{scan.name}.html"

    def wanted(self) -> Format:
        """The format.

        Raises:
            MedganError: there is none of this name, or options of another are given.
        """
        from medgan.workflows.bids import BIDS, bids_format
        from medgan.workflows.formats import FORMATS, format_named

        if self.format == BIDS:
            return bids_format(
                subject=self.subject,
                contrast=self.contrast,
                factor=self.request.factor,
                spacing=self.request.spacing,
            )
        if self.subject is not None or self.contrast is not None:
            raise MedganError("--subject and --contrast are for BIDS", hint="Add --format bids, or leave them out.")
        return format_named(self.format, [*FORMATS, BIDS])


def parsed_shard(text: str | None) -> tuple[int, int] | None:
    """ "2/8" as (2, 8): the second of eight parts; None for None.

    Raises:
        MedganError: it is anything else.
    """
    if text is None:
        return None
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise MedganError(
            f"--shard is '{text}'; it must be i/n with i from 1 to n", hint="Write for example --shard 2/8."
        )
    return int(number), int(count)


def reports_folder(path: str | Path | None, scans: int) -> Path | None:
    """Where reports go: an HTML file for one scan, a folder for several or one.

    Raises:
        MedganError: one file for several scans, a file of another kind, or the place cannot be written.
    """
    from medgan.workflows.places import writable_file, writable_folder

    if path is None:
        return None
    path = Path(path)
    if not path.suffix:
        return writable_folder(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise MedganError(
            f"a report is an HTML file, not '{path.suffix}'", file=path, hint="Use .html, or name a folder."
        )
    if scans > 1:
        raise MedganError(f"{scans} reports cannot go into one file", file=path, hint="Give a folder as --report.")
    return writable_file(path)


def part_of(work: Sequence[Work], shard: tuple[int, int] | None) -> list[Work]:
    """Every n-th scan in the order of their paths, from the i-th on, for the shard (i, n); all as they are for None.

    Together the n shards are all scans, each once, in whatever order they were named.
    """
    if shard is None:
        return list(work)
    number, count = shard
    in_order = sorted(work, key=lambda one: (one[0].path, one[0].series or "", one[0].index or 0))
    return in_order[number - 1 :: count]


def outcomes(
    setup: Setup,
    work: Sequence[Work],
    model: Model | None,
    wanted: Format,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[int, Outcome]]:
    """What becomes of each scan, with its index, in the order of completion; one scan at a time is in the memory of
    each process, or with one process and a GPU as many small ones as the network takes in one batch.

    Args:
        setup: what the scans share.
        work: scans and their targets.
        model: on its device, for work in this process.
        wanted: the format by which the targets were chosen.
        progress: called with (tiles done, tiles in all) when there is one process.
    """
    if setup.jobs == 1 and len(work) > 1 and model is not None and may_share_batches(model, setup.request):
        yield from batched_outcomes(work, model, setup.request, partial(_output_of, setup, wanted), progress)
        return
    if setup.jobs == 1 or len(work) < 2:
        one = _upscaler(setup, model, wanted, processes=1, progress=progress)
        yield from enumerate(map(one, work))
        return
    with closing(worked(start_worker, setup, work, jobs=min(setup.jobs, len(work)))) as answers:
        for index, answer in answers:
            yield index, _killed(work[index], answer.signal) if isinstance(answer, Killed) else answer


def start_worker(setup: Setup) -> Callable[[Work], Outcome]:
    """What a process of its own does to a scan."""
    import os

    import torch

    from medgan.workflows.models import super_resolution_model

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = super_resolution_model(setup.model, setup.device)
    wanted = setup.wanted()
    one = _upscaler(setup, model, wanted, processes=setup.jobs, progress=None)

    def prepared(work: Work) -> Outcome:
        # A format may have to know a scan before it writes it.
        wanted.targets([work[0]], setup.out, setup.is_single_file)
        return one(work)

    return prepared


def write_failures(path: Path, failures: Sequence[tuple[str, MedganError]]) -> None:
    """A table of the scans that failed, by the names that their results would have had; none if none failed, or if
    there is no folder yet because all did.

    Where the scans lie is left out: folders may bear patients' names, and results are passed on.

    Args:
        path: of the table, tab-separated.
        failures: name and reason.

    Raises:
        MedganError: it cannot be written.
    """
    from medgan.files import write_text

    if not failures:
        path.unlink(missing_ok=True)
    if not failures or not path.parent.is_dir():
        return
    rows = ["scan\treason\tadvice"]
    for name, error in failures:
        rows.append("\t".join(" ".join(cell.split()) for cell in (name, error.what, error.hint or "")))
    write_text(path, "\n".join(rows) + "\n")


def failures_file(setup: Setup, shard: tuple[int, int] | None) -> Path:
    """Where the table of failures goes; each shard has one of its own. In a BIDS dataset it is hidden, as no file of
    the standard.
    """
    from medgan.workflows.bids import BIDS

    part = "" if shard is None else f"_{shard[0]}-of-{shard[1]}"
    return setup.out / f"{'.' if setup.format == BIDS else ''}failures{part}.tsv"


def _upscaler(
    setup: Setup,
    model: Model | None,
    wanted: Format,
    *,
    processes: int,
    progress: Callable[[int, int], None] | None,
) -> Callable[[Work], Outcome]:
    def one(work: Work) -> Outcome:
        output = _output_of(setup, wanted, *work)
        return upscale_one(*work, model, setup.request, output, processes=processes, progress=progress)

    return one


def _output_of(setup: Setup, wanted: Format, scan: Scan, target: Path) -> Output:
    """How the result of a scan is written; one that was named itself is always made anew."""
    folder = None if target == setup.out else setup.out
    return Output(wanted, setup.format, folder, setup.reference, setup.report_of(scan))


def _killed(work: Work, signal: int) -> Outcome:
    scan, target = work
    error = MedganError(
        f"the process that worked on this scan was ended by signal {signal}, which the system sends when memory runs "
        "out",
        hint="Use fewer --jobs, or ask for a coarser spacing.",
    )
    return Outcome(target, error=blamed(error, scan.path))
