"""A DICOM node: series come in, are upscaled, and are sent on."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.reporter import Reporter
from medgan.workflows.formats import DICOM, format_named
from medgan.workflows.models import chosen_model, super_resolution_model
from medgan.workflows.upscale_one import origin_of
from medgan.workflows.upscale_request import Request, check_request
from medgan.workflows.upscale_trust import looked_at
from medgan.workflows.upscale_volume import upscaled

if TYPE_CHECKING:
    from medgan.inference.model import Model
    from medgan.io import Scan
    from medgan.node import Made, NodeSettings
    from medgan.node.service import Derive


def run_node(
    settings: NodeSettings,
    *,
    model: str | Path | None = None,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    fidelity: float = 1.0,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> None:
    """Receive, upscale and send until SIGINT or SIGTERM arrives.

    Args:
        settings: addresses, names and limits.
        model: as `medgan.workflows.models.resolve_model` takes it, or "physics"; None for the model that comes with
            medgan.
        factor: see `medgan.inference.upscale.upscale`; along columns, rows and slices.
        spacing: see there.
        fidelity: see there.
        device: "auto", "cpu", "cuda", ...
        reporter: where the node's lines go. Series are called by a hash in them, and nothing of a patient is said.

    Raises:
        MedganError: an argument is wrong, or the storage or the address is taken.
    """
    from medgan.node import Node
    from medgan.training.interruption import catching_signals

    reporter = reporter or Reporter()
    check_request(Request(factor, spacing, None, fidelity))
    loaded = super_resolution_model(chosen_model(model, reporter), device)
    derive = upscaling(loaded, factor=factor, spacing=spacing, fidelity=fidelity)
    with catching_signals() as interruption, _quiet_libraries():
        Node(settings, derive, reporter.say).run(lambda: bool(interruption))


def upscaling(
    model: Model | None,
    *,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    fidelity: float = 1.0,
) -> Derive:
    """What the node does to a series: every volume in it becomes a derived series, as `medgan upscale` writes it.

    What the output check finds wrong with a result is told as a warning, and the result is sent: it is for a person to
    judge. The warnings hold figures alone.

    Args:
        model: trained for super-resolution; None for the regularised inverse of the acquisition alone.
        factor: see `medgan.inference.upscale.upscale`.
        spacing: see there.
        fidelity: see there.
    """
    request = Request(factor, spacing, None, fidelity)

    def derive(instances: Path, target: Path, should_stop: Callable[[], bool]) -> Made:
        from medgan.node import Made

        scans, refusals = _scans_in(instances)
        found: list[str] = []
        for number, scan in enumerate(scans):
            try:
                faults = _upscale(scan, model, request, target / f"{number:03d}", should_stop)
                which = f"result {number + 1} of {len(scans)}: " if len(scans) > 1 else ""
                found += [f"{which}output check: {fault}" for fault in faults]
            except MedganError as error:
                if isinstance(error.__cause__, OSError):
                    # A disk that is full or failing is no fault of the series.
                    raise
                refusals.append(f"{scan.slices.label}: {error}" if scan.slices and scan.slices.label else str(error))
        return Made(tuple(refusals), tuple(found))

    return derive


def _scans_in(instances: Path) -> tuple[list[Scan], list[str]]:
    """What can be placed, and why the rest is left alone."""
    from medgan.io.scans import survey

    found = survey(instances)
    refusals = [f"{path.name}: {reason}" for path, reason in found.damaged]
    refusals += [f"{one.role}, {one.counted()}: not upscaled" for one in found.left_out]
    wanted = []
    for scan in found.scans:
        if scan.slices is not None and _is_our_own(scan.slices.slices[0].path):
            refusals.append("Made by medgan: does the destination send its results back to the node?")
        else:
            wanted.append(scan)
    return wanted, refusals


def _is_our_own(path: Path) -> bool:
    """Whether the image was made by medgan; an archive that forwards what it gets would keep the node busy for ever."""
    import pydicom

    return str(pydicom.dcmread(path, specific_tags=["Manufacturer"]).get("Manufacturer")) == "medgan"


def _upscale(
    scan: Scan, model: Model | None, request: Request, target: Path, should_stop: Callable[[], bool]
) -> tuple[str, ...]:
    """Write what `medgan upscale --format dicom` would write, with the same UIDs; the faults that its check finds."""
    from medgan.node.service import StoppedError

    def look_up(done: int, total: int) -> None:
        if should_stop():
            raise StoppedError

    look_up(0, 0)
    source = scan.read()
    start = time.perf_counter()
    volume = upscaled(source, model, request, progress=look_up)
    look_up(0, 0)
    findings = looked_at(source, volume, {}, model, request, time.perf_counter() - start)
    format_named(DICOM).write(volume, target, origin_of(scan, source, model, request, ()))
    return findings.faults


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the libraries' own messages out of the log: they quote header values, and so patients."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "pynetdicom")]
    before = [(logger.propagate, logger.level) for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.propagate = False
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, (propagate, level) in zip(loggers, before, strict=True):
                logger.propagate = propagate
                logger.setLevel(level)
