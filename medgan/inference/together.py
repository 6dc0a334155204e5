"""Several scans upscaled at once: those whose results have the same shape pass through the network in one batch.

A GPU that is given one small volume at a time is mostly idle. On a CPU, batches bring nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan.geometry import Shape
from medgan.inference.inputs import require_finite
from medgan.inference.memory import Footprint, footprint_of, most_together
from medgan.inference.model import Model
from medgan.inference.planning import Plan
from medgan.inference.slice_profile import AssumedProfile
from medgan.inference.upscale import described, placed, prepared, restored_batch, unchanged
from medgan.volume import Volume


class _Channel(NamedTuple):
    """One channel of one of the scans, by its numbers."""

    scan: int
    channel: int


def upscale_together(
    volumes: Sequence[Volume],
    model: Model,
    *,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    thickness: float | None = None,
    profile: AssumedProfile | None = None,
    fidelity: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Volume]:
    """Each scan as `medgan.inference.upscale.upscale` makes it, to rounding.

    All results are in memory at the end. So many channels share a batch that the network's features take no more
    memory than those of one large scan (`medgan.inference.memory.most_together`).

    Args:
        volumes: any orientations, shapes and spacings.
        model: trained for super-resolution.
        factor: see `medgan.inference.upscale.upscale`, as are the arguments below.
        spacing: see there.
        thickness: see there.
        profile: see there.
        fidelity: see there.
        progress: called with (channels done, channels in all).

    Raises:
        MedganError: as there, for whichever scan it is.
    """
    for volume in volumes:
        require_finite(volume)
    known = [
        prepared(volume, model, factor=factor, spacing=spacing, thickness=thickness, profile=profile)
        for volume in volumes
    ]
    data: dict[int, NDArray[np.float32]] = {
        number: np.empty((scan.channels, *plan.high_shape), np.float32)
        for number, (scan, plan) in enumerate(known)
        if plan.high_shape != scan.shape
    }
    todo = [_Channel(number, channel) for number in data for channel in range(known[number][0].channels)]
    footprint, done = footprint_of(model.network(fidelity=fidelity)), 0
    for batch in _batches(todo, [shape_in_network(plan) for _, plan in known], footprint):
        restored = restored_batch(
            [known[one.scan][0].data[one.channel] for one in batch],
            [known[one.scan][1] for one in batch],
            model,
            fidelity,
        )
        for one, voxels in zip(batch, restored, strict=True):
            data[one.scan][one.channel] = voxels
        done += len(batch)
        if progress is not None:
            progress(done, len(todo))
    how = described(model, fidelity)
    return [
        placed(data.pop(number), scan, plan, how).reoriented(volume.orientation)
        if number in data
        else unchanged(volume)
        for number, (volume, (scan, plan)) in enumerate(zip(volumes, known, strict=True))
    ]


def shape_in_network(plan: Plan) -> Shape:
    """Voxels of the result in the order of axes in which the network sees it."""
    x, y, z = (plan.high_shape[axis] for axis in plan.order)
    return x, y, z


def _batches(todo: Sequence[_Channel], shapes: Sequence[Shape], footprint: Footprint) -> list[list[_Channel]]:
    """The channels, those of one shape together, as many at once as fit; `shapes` are those of the scans."""
    batches: list[list[_Channel]] = []
    for shape in dict.fromkeys(shapes[one.scan] for one in todo):
        alike = [one for one in todo if shapes[one.scan] == shape]
        most = most_together(shape, footprint)
        batches += [alike[start : start + most] for start in range(0, len(alike), most)]
    return batches
