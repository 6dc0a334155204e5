"""How far an upscaled scan can be trusted, voxel by voxel: two maps in the scan's own units.

- **Spread**: the network is asked again with the scan mirrored and turned; the answers, brought back, differ where it
  is not sure. Physics alone answers the same each time.
- **Unconfirmed**: the part of the result that the measured scan can neither confirm nor deny, (I - A+ A) x with the
  acquisition A and its regularised inverse A+, as a local root mean square over one measured voxel.

Neither shows what is missing from both the measured scan and the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import log, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medgan.acquisition import Acquisition
from medgan.geometry import Shape
from medgan.inference.inputs import require_finite
from medgan.inference.model import Model
from medgan.inference.planning import Plan
from medgan.inference.slice_profile import AssumedProfile
from medgan.inference.upscale import (
    acquisition_of,
    described,
    placed,
    prepared,
    restored_channel,
    unchanged,
)
from medgan.volume import Volume

Voxels = NDArray[np.float32]

_SIGMA_PER_FWHM = 1.0 / (2.0 * sqrt(2.0 * log(2.0)))
_SAME = 1e-3

SPREAD_STEP = "standard deviation of a network's answers to the mirrored and turned scan"
UNCONFIRMED_STEP = "root mean square, over a measured voxel, of what the measured scan cannot confirm"


@dataclass(frozen=True)
class View:
    """One way to look at a scan that anatomy and acquisition know nothing of.

    Args:
        flips: axes that are mirrored, after the swap.
        swap: two axes that change places, if any do.
    """

    flips: tuple[int, ...] = ()
    swap: tuple[int, int] | None = None

    def of(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """The voxels (X, Y, Z) as they look this way."""
        turned = voxels if self.swap is None else voxels.swapaxes(*self.swap)
        return np.flip(turned, self.flips)

    def back(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `of`."""
        turned = np.flip(voxels, self.flips)
        return turned if self.swap is None else turned.swapaxes(*self.swap)

    def plan(self, plan: Plan) -> Plan:
        """The plan of a scan that looks this way."""
        if plan.slices.axis in self.flips:
            plan = replace(plan, slices=replace(plan.slices, profile=plan.slices.profile.mirrored()))
        if self.swap is None:
            return plan
        return replace(
            plan,
            high_shape=_swapped(plan.high_shape, self.swap),
            high_spacing=_swapped(plan.high_spacing, self.swap),
            thickness=_swapped(plan.thickness, self.swap),
        )


@dataclass(frozen=True)
class Upscaled:
    """An upscaled scan and its maps, all on one grid.

    Args:
        volume: the result.
        spread: standard deviation over the views, in the scan's units, never negative; None where no network took
            part.
        unconfirmed: local root mean square of what the data cannot confirm, in the scan's units, never negative.
    """

    volume: Volume
    spread: Volume | None
    unconfirmed: Volume


def upscale_with_maps(
    volume: Volume,
    model: Model | None = None,
    *,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    thickness: float | None = None,
    profile: AssumedProfile | None = None,
    fidelity: float = 1.0,
    average: bool = False,
    tile: Shape | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Upscaled:
    """An upscaled scan with its maps of spread and of what the data cannot confirm.

    The result is that of `medgan.inference.upscale.upscale`, to the bit, unless the average of the views is asked for.
    With a network it takes eight times as long.

    Args:
        volume: see `medgan.inference.upscale.upscale`, as are the other arguments that are not named here.
        model: see there.
        factor: see there.
        spacing: see there.
        thickness: see there.
        profile: see there.
        fidelity: see there.
        average: make the mean of the views the result, which is closer to the truth in the mean square and smoother;
            texture, at a fidelity below 1, does not survive it. The mean explains the measured scan as well as each
            view does.
        tile: see there.
        progress: called with (tiles done, tiles in all) over all views.

    Raises:
        MedganError: as `medgan.inference.upscale.upscale`.
    """
    require_finite(volume)
    scan, plan = prepared(volume, model, factor=factor, spacing=spacing, thickness=thickness, profile=profile)
    if plan.high_shape == scan.shape:
        zeros = np.zeros(volume.data.shape, np.float32)
        spread = None if model is None else _map(volume, zeros, SPREAD_STEP)
        return Upscaled(unchanged(volume), spread, _map(volume, zeros, UNCONFIRMED_STEP))
    views = views_of(scan, plan) if model is not None else (View(),)
    acquisition = acquisition_of(replace(plan, order=(0, 1, 2)), scan.shape, model)
    data, deviations, unconfirmed = (np.empty((scan.channels, *plan.high_shape), np.float32) for _ in range(3))
    for channel, voxels in enumerate(scan.data):
        first, mean, deviations[channel] = _ensemble(voxels, views, plan, model, fidelity, tile, progress)
        data[channel] = mean if average else first
        unconfirmed[channel] = local_energy(unconfirmed_part(data[channel], acquisition), plan)
    how = described(model, fidelity) + (f", mean of {len(views)} views" if average and model is not None else "")

    def turned_back(voxels: Voxels) -> Volume:
        return placed(voxels, scan, plan, how).reoriented(volume.orientation)

    result = turned_back(data)
    spread = None if model is None else _map(result, turned_back(deviations).data, SPREAD_STEP)
    return Upscaled(result, spread, _map(result, turned_back(unconfirmed).data, UNCONFIRMED_STEP))


def views_of(scan: Volume, plan: Plan) -> tuple[View, ...]:
    """Eight views of a RAS scan, the scan as it is first.

    All mirrorings of the three axes; or, if two axes besides that of the slices were acquired and are wanted alike,
    every other mirroring with and without these two in each other's place. Each axis is mirrored in half of the views.
    """
    others = [axis for axis in range(3) if axis != plan.slices.axis]
    factors = [high / low for high, low in zip(plan.high_shape, scan.shape, strict=True)]
    alike = all(
        abs(values[others[0]] / values[others[1]] - 1) < _SAME for values in (scan.spacing, factors, plan.thickness)
    )
    flips = [tuple(axis for axis in range(3) if chosen[axis]) for chosen in product((False, True), repeat=3)]
    if not alike:
        return tuple(View(one) for one in flips)
    even = [one for one in flips if len(one) % 2 == 0]
    return tuple(View(one, swap) for swap in (None, (others[0], others[1])) for one in even)


def unconfirmed_part(voxels: NDArray[Any], acquisition: Acquisition) -> Voxels:
    """x - A+ A x: what of the voxels (X, Y, Z) on the high-resolution grid their acquisition can neither confirm nor
    deny.
    """
    x = torch.from_numpy(np.array(voxels, dtype=np.float32))
    return np.asarray((x - acquisition.inverse(acquisition.forward(x))).numpy(), dtype=np.float32)


def local_energy(part: Voxels, plan: Plan) -> Voxels:
    """Root mean square around each voxel (X, Y, Z), under a Gaussian as wide as a measured voxel is thick (FWHM)."""
    sigma = [_SIGMA_PER_FWHM * extent / step for extent, step in zip(plan.thickness, plan.high_spacing, strict=True)]
    # Rounding can leave a smoothed square a little below zero.
    square = np.maximum(ndimage.gaussian_filter(np.square(part), sigma, mode="reflect"), 0.0)
    return np.asarray(np.sqrt(square), dtype=np.float32)


def _ensemble(
    voxels: NDArray[Any],
    views: Sequence[View],
    plan: Plan,
    model: Model | None,
    fidelity: float,
    tile: Shape | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[Voxels, Voxels, Voxels]:
    """The answer to the first view, and mean and standard deviation over all, of one channel (X, Y, Z).

    Running sums (Welford 1962): of the answers, one at a time is in memory.
    """
    zeros: Voxels = np.zeros(plan.high_shape, np.float32)
    first, mean, squares = zeros, zeros, zeros
    for done, view in enumerate(views):
        counted = None if progress is None else partial(_count, progress, done, len(views))
        answer: Voxels = view.back(restored_channel(view.of(voxels), view.plan(plan), model, fidelity, tile, counted))
        if done == 0:
            first = answer
        change = answer - mean
        mean = mean + change / np.float32(done + 1)
        squares = squares + change * (answer - mean)
    return first, mean, np.sqrt(np.maximum(squares, 0.0) / np.float32(max(len(views) - 1, 1)))


def _count(progress: Callable[[int, int], None], before: int, views: int, done: int, total: int) -> None:
    """The tiles of one view as part of the tiles of all."""
    progress(before * total + done, views * total)


def _map(place: Volume, data: NDArray[np.float32], step: str) -> Volume:
    """A map in the place of a scan; of the scan's header only what says where it is."""
    kept = {key: value for key, value in place.metadata.items() if key == "nifti"}
    return Volume(data, place.affine, (*place.history, step), kept)


def _swapped(values: tuple[Any, Any, Any], swap: tuple[int, int]) -> tuple[Any, Any, Any]:
    turned = list(values)
    turned[swap[0]], turned[swap[1]] = values[swap[1]], values[swap[0]]
    return turned[0], turned[1], turned[2]
