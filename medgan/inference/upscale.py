"""Sharper scans: the physics inverse of the acquisition, and a network's residual over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.acquisition import Acquisition
from medgan.acquisition.condition import condition
from medgan.geometry import Shape, resampled_affine
from medgan.inference.inputs import require_finite
from medgan.inference.memory import footprint_of, tile_for
from medgan.inference.model import Model
from medgan.inference.planning import Plan, planned, slice_axis_of
from medgan.inference.slice_profile import AssumedProfile
from medgan.inference.tiling import apply_tiled
from medgan.networks.conditioned import ConditionedNetwork, Informed
from medgan.volume import Volume

# Percentiles between which intensities are brought to 0..1; the same as in training.
_LOW, _HIGH = 0.5, 99.5
_OF_SLICES = ("slice_thickness", "slice_thickness_source", "spacing_between_slices")

# The history's phrase for a scan that was fine enough already.
UNCHANGED = "already at the wanted spacing: unchanged"


def upscale(
    volume: Volume,
    model: Model | None = None,
    *,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    thickness: float | None = None,
    profile: AssumedProfile | None = None,
    fidelity: float = 1.0,
    tile: Shape | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Volume:
    """A scan at a higher resolution, with the same field of view, orientation and intensity units.

    Args:
        volume: any orientation and spacing. Several channels (echoes, time points) are upscaled one by one.
        model: trained for super-resolution; None for the regularised inverse of the acquisition alone.
        factor: how many times more voxels along each array axis of `volume`, 1 or more.
        spacing: the wanted spacing in mm along each array axis instead. Without both, thick axes become as fine as
            the finest one, and an isotropic scan gets the factor that the model was trained for.
        thickness: slice thickness in mm; what the file said when None, else that slices touch. See
            `medgan.inference.planning.slices_of`.
        profile: what a slice sees at each distance from its centre; a Gaussian when None, unless the model was trained
            for another. Other axes are not touched by it.
        fidelity: see `Model.network`.
        tile: voxels that the network sees at once, halo apart; as many as take little more than 1 GiB when None.
        progress: called with (tiles done, tiles in all).

    Returns:
        A float32 volume whose outer edges coincide with the input's; the input's own voxels if it has the wanted
        spacing already. `history` says which slice thickness was used and how it was known.

    Raises:
        MedganError: voxels are not finite, or factor, spacing, thickness or fidelity make no sense.
    """
    require_finite(volume)
    scan, plan = prepared(volume, model, factor=factor, spacing=spacing, thickness=thickness, profile=profile)
    if plan.high_shape == scan.shape:
        return unchanged(volume)
    data = np.empty((scan.channels, *plan.high_shape), np.float32)
    for channel, voxels in enumerate(scan.data):
        data[channel] = restored_channel(voxels, plan, model, fidelity, tile, progress)
    return placed(data, scan, plan, described(model, fidelity)).reoriented(volume.orientation)


def prepared(
    volume: Volume,
    model: Model | None,
    *,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    thickness: float | None = None,
    profile: AssumedProfile | None = None,
) -> tuple[Volume, Plan]:
    """The scan turned to RAS, and what upscaling it comes to; arguments and errors as in `upscale`.

    The plan's profile is that of the turned scan: mirrored if turning counts the slices from their other end.
    """
    orientation = volume.orientation
    # Numbers that the caller gave per array axis follow their axis into RAS.
    axes = [next(i for i, letter in enumerate(orientation) if letter in pair) for pair in ("RL", "AP", "SI")]
    scan = volume.reoriented("RAS")
    if factor is not None and len(factor) == 3:
        factor = [factor[axis] for axis in axes]
    if spacing is not None and len(spacing) == 3:
        spacing = [spacing[axis] for axis in axes]
    slice_axis = slice_axis_of(volume)
    if profile is not None and orientation[slice_axis] in "LPI":
        profile = profile.mirrored()
    return scan, planned(scan, _trained(model), factor, spacing, thickness, axes.index(slice_axis), profile)


def unchanged(volume: Volume) -> Volume:
    """A scan that has the wanted spacing already, with that said in its history."""
    return replace(volume, history=(*volume.history, UNCHANGED))


def described(model: Model | None, fidelity: float) -> str:
    """By what a scan is upscaled, for its history."""
    return "physics inverse" if model is None else f"model {model.sha256[:12]}, fidelity {fidelity:g}"


def placed(data: NDArray[np.float32], scan: Volume, plan: Plan, how: str) -> Volume:
    """Voxels (C, X, Y, Z) at the plan's resolution, in the place of the RAS scan that they were made from."""
    affine = resampled_affine(scan.affine, scan.shape, plan.high_shape)
    size = " x ".join(f"{step:.3g}" for step in plan.high_spacing)
    # What the header said of the slices is not true of the new ones.
    kept = {key: value for key, value in scan.metadata.items() if key not in _OF_SLICES}
    told = replace(scan, metadata=kept, history=(*scan.history, str(plan.slices)))
    return told.with_grid(data, affine, f"upscaled to {size} mm by {how}")


def acquisition_of(plan: Plan, low_shape: Shape, model: Model | None) -> Acquisition:
    """The forward model that is inverted, in the plan's order of axes.

    Args:
        plan: of the upscaling.
        low_shape: voxels of the scan in the plan's order of axes.
        model: None without learning; else the acquisition is the one that it was trained for, but for the slices'
            profile and thickness, which are the plan's.
    """
    trained = _trained(model) or {}
    profiles = [trained.get("profile", "gaussian")] * 3
    profiles[plan.slices.axis] = plan.slices.profile.name
    return Acquisition.between(
        _permuted(plan.high_shape, plan.order),
        low_shape,
        high_spacing=_permuted(plan.high_spacing, plan.order),
        thickness=_permuted(plan.thickness, plan.order),
        profile=_permuted(profiles, plan.order),
        regularisation=trained.get("regularisation"),
        measured=plan.slices.profile.measured,
    )


def restored_channel(
    voxels: NDArray[Any],
    plan: Plan,
    model: Model | None,
    fidelity: float,
    tile: Shape | None,
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    """One channel of a RAS scan (X, Y, Z) at the plan's resolution, in the scan's units."""
    return restored_batch([voxels], [plan], model, fidelity, tile, progress)[0]


def restored_batch(
    channels: Sequence[NDArray[Any]],
    plans: Sequence[Plan],
    model: Model | None,
    fidelity: float = 1.0,
    tile: Shape | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[NDArray[np.float32]]:
    """Channels of several RAS scans, tile by tile all in one batch; each comes out as it would alone, to rounding.

    Args:
        channels: (X, Y, Z) each, in their own units.
        plans: one for each; the results must have one shape in the plans' orders of axes. Spacings, factors and slices
            may differ.
        model: see `upscale`, as are the other arguments.
        fidelity: see there.
        tile: see there; its memory counts once for every channel.
        progress: see there.

    Raises:
        ValueError: the results would differ in shape.
    """
    if len({_permuted(plan.high_shape, plan.order) for plan in plans}) > 1:
        raise ValueError("volumes of several shapes cannot share a batch")
    ranges = [intensity_range(voxels) for voxels in channels]
    observed = [
        _observed(voxels, low, length, plan.order)
        for voxels, (low, length), plan in zip(channels, ranges, plans, strict=True)
    ]
    acquisitions = [
        acquisition_of(plan, (one.shape[2], one.shape[3], one.shape[4]), model)
        for plan, one in zip(plans, observed, strict=True)
    ]
    restored = _restored(observed, acquisitions, model, fidelity, tile, progress)
    return [
        _in_units(one, low, length, plan.order)
        for one, (low, length), plan in zip(restored, ranges, plans, strict=True)
    ]


def _observed(voxels: NDArray[Any], low: float, length: float, order: Sequence[int]) -> torch.Tensor:
    """What networks see of a channel (X, Y, Z): (1, 1, ...) with its axes in this order."""
    normalised = (voxels.astype(np.float32, copy=False) - np.float32(low)) / np.float32(length)
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(order)))[None, None]


def _in_units(restored: torch.Tensor, low: float, length: float, order: Sequence[int]) -> NDArray[np.float32]:
    """The inverse of `_observed` on another grid."""
    back = restored[0, 0].cpu().numpy().transpose(tuple(np.argsort(order)))
    return np.asarray(back * np.float32(length) + np.float32(low), dtype=np.float32)


def intensity_range(voxels: NDArray[Any]) -> tuple[float, float]:
    """What networks see as 0 in one channel, and how much above it they see as 1: (start, length)."""
    low, high = (float(value) for value in np.percentile(voxels, (_LOW, _HIGH)))
    if low == high:
        low, high = float(voxels.min()), float(voxels.max())
    return low, high - low if high > low else 1.0


def _restored(
    observed: Sequence[torch.Tensor],
    acquisitions: Sequence[Acquisition],
    model: Model | None,
    fidelity: float,
    tile: Shape | None,
    progress: Callable[[int, int], None] | None,
) -> list[torch.Tensor]:
    """Normalised low-resolution voxels (1, 1, ...) in the network's axis order to high-resolution ones of one shape."""
    if model is None:
        return [acquisition.inverse(one) for one, acquisition in zip(observed, acquisitions, strict=True)]
    network = model.network(fidelity=fidelity)
    if isinstance(network, ConditionedNetwork):
        network = Informed(network, *map(condition, acquisitions))
    starts = [
        acquisition.inverse(one.to(model.device)) for one, acquisition in zip(observed, acquisitions, strict=True)
    ]
    answers = apply_tiled(
        network,
        starts[0] if len(starts) == 1 else torch.cat(starts),
        tile=tile or tile_for(acquisitions[0].high_shape, footprint_of(network)),
        halo=network.receptive_field,  # type: ignore[arg-type]
        multiple=network.multiple,  # type: ignore[arg-type]
        progress=progress,
    )
    return [
        _explaining(start.cpu(), answer[None], acquisition)
        for start, answer, acquisition in zip(starts, answers, acquisitions, strict=True)
    ]


def _explaining(start: torch.Tensor, answer: torch.Tensor, acquisition: Acquisition) -> torch.Tensor:
    """A network's answer without what contradicts the measured scan: only what the scan could not show is the
    network's to say.
    """
    residual = answer - start
    return start + residual - acquisition.inverse(acquisition.forward(residual))


def _trained(model: Model | None) -> dict[str, Any] | None:
    return None if model is None else dict(model.config["acquisition"])


def _permuted(values: Sequence, order: Sequence[int]) -> tuple:
    return tuple(values[axis] for axis in order)
