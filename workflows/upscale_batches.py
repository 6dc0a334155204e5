"""Scans of a cohort upscaled several at a time on a GPU, each read, written and marked as if it were alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.workflows.upscale_one import Begun, Outcome, Output, begin_one, finish_one
from medgan.workflows.upscale_request import Request
from medgan.workflows.upscale_volume import memory_errors_explained, memory_for, require_feasible, upscaled

if TYPE_CHECKING:
    from medgan.geometry import Shape
    from medgan.inference.model import Model
    from medgan.io import Scan
    from medgan.volume import Volume

# More volumes at once bring nothing, and an interruption would cost all of them.
_MOST = 32
# Of the memory that is free, so much may the scans of a batch take, their results among them.
_SHARE = 0.5


@dataclass
class _Group:
    """Scans that wait to be upscaled together, by their numbers.

    Args:
        shape: of their results, as the network sees them.
        channels: of all of them.
        needed: bytes that upscaling them takes.
    """

    shape: Shape = (0, 0, 0)
    begun: dict[int, Begun] = field(default_factory=dict)
    channels: int = 0
    needed: int = 0


def may_share_batches(model: Model | None, request: Request) -> bool:
    """Whether batches of several scans bring anything: where a network runs on a GPU, once for each scan."""
    alone = request.self_supervised or request.uncertainty
    return model is not None and model.device.type != "cpu" and not alone


def batched_outcomes(
    work: Sequence[tuple[Scan, Path]],
    model: Model,
    request: Request,
    output_of: Callable[[Scan, Path], Output],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """What becomes of each scan, with its index, in the order of completion.

    Scans that follow one another are upscaled together as long as their results have one shape and they fit into
    memory.

    Args:
        work: scans and their targets.
        model: on its device.
        request: what is asked for; maps and tuning are not made here.
        output_of: how the result of a scan is written to its target.
        progress: called with (channels done, channels in all) for each batch.
    """
    group = _Group()
    for index, (scan, target) in enumerate(work):
        begun = begin_one(scan, target, model, request, output_of(scan, target))
        if isinstance(begun, Outcome):
            yield index, begun
            continue
        try:
            shape, needed = _looked_over(begun, model, request)
        except MedganError as error:
            yield index, begun.failed(error)
            continue
        if not _has_room(group, begun.source, shape, needed, model, request):
            yield from _finished(group, model, request, output_of, progress)
            group = _Group()
        group.shape = shape
        group.begun[index] = begun
        group.channels += begun.source.channels
        group.needed += needed
    yield from _finished(group, model, request, output_of, progress)


def _looked_over(begun: Begun, model: Model, request: Request) -> tuple[Shape, int]:
    """The result's shape as the network sees it, and the bytes that making it takes.

    Raises:
        MedganError: it cannot be made.
    """
    from medgan.inference.inputs import require_finite
    from medgan.inference.together import shape_in_network
    from medgan.inference.upscale import prepared

    require_feasible(begun.source, model, request, name=begun.stem)
    require_finite(begun.source)
    _, plan = prepared(begun.source, model, **request.of_plan())
    return shape_in_network(plan), memory_for(begun.source, model, request)[1]


def _has_room(group: _Group, source: Volume, shape: Shape, needed: int, model: Model, request: Request) -> bool:
    """Whether one more scan may join the group."""
    from medgan.inference.memory import available_bytes, footprint_of, most_together

    if shape != group.shape or not group.begun:
        return not group.begun
    most = min(_MOST, most_together(shape, footprint_of(model.network(fidelity=request.fidelity))))
    free = available_bytes()
    fits = free is None or group.needed + needed <= _SHARE * free
    return group.channels + source.channels <= most and fits


def _finished(
    group: _Group,
    model: Model,
    request: Request,
    output_of: Callable[[Scan, Path], Output],
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, Outcome]]:
    """Upscale the scans of a group and write them."""
    if not group.begun:
        return
    start = time.perf_counter()
    sources = [begun.source for begun in group.begun.values()]
    try:
        volumes = _upscaled(sources, model, request, progress)
    except MedganError as error:
        if len(sources) == 1:
            yield from ((index, begun.failed(error)) for index, begun in group.begun.items())
            return
        # One scan, or all of them together, were too much; whichever it was, the others need not fail with it.
        for index, begun in group.begun.items():
            alone = _Group(group.shape, {index: begun}, begun.source.channels)
            yield from _finished(alone, model, request, output_of, progress)
        return
    seconds = (time.perf_counter() - start) / len(sources)
    for (index, begun), volume in zip(group.begun.items(), volumes, strict=True):
        output = output_of(begun.scan, begun.target)
        yield index, finish_one(begun, volume, {}, model, request, output, seconds)


def _upscaled(
    sources: Sequence[Volume], model: Model, request: Request, progress: Callable[[int, int], None] | None
) -> list[Volume]:
    """The results; one scan alone goes the way of every single scan."""
    from medgan.inference.together import upscale_together

    if len(sources) == 1:
        return [upscaled(sources[0], model, request, progress=progress)]
    with memory_errors_explained():
        return upscale_together(sources, model, **request.of_plan(), fidelity=request.fidelity, progress=progress)
