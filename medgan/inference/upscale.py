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
    scan, plan = prepared(volume, model, factor=factor, spacing=spacing, thickness=thickness)
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
) -> tuple[Volume, Plan]:
    """The scan turned to RAS, and what upscaling it comes to; arguments and errors as in `upscale`."""
    orientation = volume.orientation
    # Numbers that the caller gave per array axis follow their axis into RAS.
    axes = [next(i for i, letter in enumerate(orientation) if letter in pair) for pair in ("RL", "AP", "SI")]
    scan = volume.reoriented("RAS")
    if factor is not None and len(factor) == 3:
        factor = [factor[axis] for axis in axes]
    if spacing is not None and len(spacing) == 3:
        spacing = [spacing[axis] for axis in axes]
    return scan, planned(scan, _trained(model), factor, spacing, thickness, axes.index(slice_axis_of(volume)))


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
        model: None without learning; else the acquisition is the one that it was trained for.
    """
    trained = _trained(model) or {}
    return Acquisition.between(
        _permuted(plan.high_shape, plan.order),
        low_shape,
        high_spacing=_permuted(plan.high_spacing, plan.order),
        thickness=_permuted(plan.thickness, plan.order),
        profile=trained.get("profile", "gaussian"),
        regularisation=trained.get("regularisation"),
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
    low, scale = intensity_range(voxels)
    normalised = (voxels.astype(np.float32, copy=False) - np.float32(low)) / np.float32(scale)
    observed = torch.from_numpy(np.ascontiguousarray(normalised.transpose(plan.order)))[None, None]
    restored = _restored(observed, plan, model, fidelity, tile, progress)
    back = restored[0, 0].cpu().numpy().transpose(tuple(np.argsort(plan.order)))
    return np.asarray(back * np.float32(scale) + np.float32(low), dtype=np.float32)


def intensity_range(voxels: NDArray[Any]) -> tuple[float, float]:
    """What networks see as 0 in one channel, and how much above it they see as 1: (start, length)."""
    low, high = (float(value) for value in np.percentile(voxels, (_LOW, _HIGH)))
    if low == high:
        low, high = float(voxels.min()), float(voxels.max())
    return low, high - low if high > low else 1.0


def _restored(
    observed: torch.Tensor,
    plan: Plan,
    model: Model | None,
    fidelity: float,
    tile: Shape | None,
    progress: Callable[[int, int], None] | None,
) -> torch.Tensor:
    """Normalised low-resolution voxels (1, 1, ...) in the network's axis order to high-resolution ones."""
    low_shape: Shape = (observed.shape[2], observed.shape[3], observed.shape[4])
    acquisition = acquisition_of(plan, low_shape, model)
    if model is None:
        return acquisition.inverse(observed)
    network = model.network(fidelity=fidelity)
    if isinstance(network, ConditionedNetwork):
        network = Informed(network, condition(acquisition))
    start = acquisition.inverse(observed.to(model.device))
    restored = apply_tiled(
        network,
        start,
        tile=tile or tile_for(acquisition.high_shape, footprint_of(network)),
        halo=network.receptive_field,  # type: ignore[arg-type]
        multiple=network.multiple,  # type: ignore[arg-type]
        progress=progress,
    )
    # Only what the scan could not show is the network's to say: the result must explain what was measured.
    start = start.cpu()
    residual = restored - start
    return start + residual - acquisition.inverse(acquisition.forward(residual))


def _trained(model: Model | None) -> dict[str, Any] | None:
    return None if model is None else dict(model.config["acquisition"])


def _permuted(values: Sequence, order: Sequence[int]) -> tuple:
    return tuple(values[axis] for axis in order)
