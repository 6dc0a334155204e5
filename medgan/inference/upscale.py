"""Sharper scans: the physics inverse of the acquisition, and a network's residual over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from torch import nn

from medgan.acquisition import Acquisition
from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing, resampled_affine
from medgan.inference.model import Model
from medgan.inference.tiling import apply_tiled
from medgan.volume import Volume

_TILE: Shape = (96, 96, 96)
# Percentiles between which intensities are brought to 0..1; the same as in training.
_LOW, _HIGH = 0.5, 99.5


@dataclass(frozen=True)
class _Plan:
    """What an upscaling comes to, in the axes of the RAS scan."""

    high_shape: Shape
    high_spacing: Spacing
    thickness: Spacing
    # Axes of the scan in the order in which the network wants them.
    order: tuple[int, int, int]


def upscale(
    volume: Volume,
    model: Model | None = None,
    *,
    factor: Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    thickness: float | None = None,
    fidelity: float = 1.0,
    tile: Shape = _TILE,
    progress: Callable[[int, int], None] | None = None,
) -> Volume:
    """A scan at a higher resolution, with the same field of view, orientation and intensity units.

    Args:
        volume: one channel, any orientation and spacing.
        model: trained for super-resolution; None for the regularised inverse of the acquisition alone.
        factor: how many times more voxels along each array axis of `volume`, 1 or more.
        spacing: the wanted spacing in mm along each array axis instead. Without both, thick axes become as fine as
            the finest one, and an isotropic scan gets the factor that the model was trained for.
        thickness: slice thickness in mm along the axis with the longest voxels; what the file said when None, else
            the spacing.
        fidelity: see `Model.network`.
        tile: voxels that the network sees at once, halo apart.
        progress: called with (tiles done, tiles in all).

    Returns:
        A float32 volume whose outer edges coincide with the input's.

    Raises:
        MedganError: the scan has several channels, or factor, spacing, thickness or fidelity make no sense.
    """
    if volume.channels != 1:
        raise MedganError(f"upscaling takes one channel, this scan has {volume.channels}", hint="Split it first.")
    orientation = volume.orientation
    # Numbers that the caller gave per array axis follow their axis into RAS.
    axes = [next(i for i, letter in enumerate(orientation) if letter in pair) for pair in ("RL", "AP", "SI")]
    scan = volume.reoriented("RAS")
    if factor is not None and len(factor) == 3:
        factor = [factor[axis] for axis in axes]
    if spacing is not None and len(spacing) == 3:
        spacing = [spacing[axis] for axis in axes]
    plan = _planned(scan, model, factor, spacing, thickness)

    low, high = (float(value) for value in np.percentile(scan.data, (_LOW, _HIGH)))
    scale = high - low if high > low else 1.0
    normalised = (scan.as_float()[0] - np.float32(low)) / np.float32(scale)
    order = plan.order
    observed = torch.from_numpy(np.ascontiguousarray(normalised.transpose(order)))[None, None]
    restored = _restored(observed, plan, model, fidelity, tile, progress)
    data = restored[0, 0].cpu().numpy().transpose(tuple(np.argsort(order))) * np.float32(scale) + np.float32(low)

    affine = resampled_affine(scan.affine, scan.shape, plan.high_shape)
    how = "physics inverse" if model is None else f"model {model.sha256[:12]}, fidelity {fidelity:g}"
    size = " x ".join(f"{step:.3g}" for step in plan.high_spacing)
    return scan.with_grid(data, affine, f"upscaled to {size} mm by {how}").reoriented(orientation)


def _restored(
    observed: torch.Tensor,
    plan: _Plan,
    model: Model | None,
    fidelity: float,
    tile: Shape,
    progress: Callable[[int, int], None] | None,
) -> torch.Tensor:
    """Normalised low-resolution voxels (1, 1, ...) in the network's axis order to high-resolution ones."""
    low_shape: Shape = (observed.shape[2], observed.shape[3], observed.shape[4])
    trained = model.config["acquisition"] if model is not None else {}
    regularisation = trained.get("regularisation")
    acquisition = Acquisition.between(
        _permuted(plan.high_shape, plan.order),
        low_shape,
        high_spacing=_permuted(plan.high_spacing, plan.order),
        thickness=_permuted(plan.thickness, plan.order),
        profile=trained.get("profile", "gaussian"),
        **({} if regularisation is None else {"regularisation": regularisation}),
    )
    if model is None:
        return acquisition.inverse(observed)
    network: nn.Module = model.network(fidelity=fidelity)
    start = acquisition.inverse(observed.to(model.device))
    return apply_tiled(
        network,
        start,
        tile=tile,
        halo=network.receptive_field,  # type: ignore[arg-type]
        multiple=network.multiple,  # type: ignore[arg-type]
        progress=progress,
    )


def _planned(
    scan: Volume,
    model: Model | None,
    factor: Sequence[float] | None,
    spacing: Sequence[float] | None,
    thickness: float | None,
) -> _Plan:
    """Grids, thickness and axis order for a RAS scan."""
    factors = _factors(scan, model, factor, spacing)
    shape = scan.shape
    high_shape = (
        max(shape[0], round(shape[0] * factors[0])),
        max(shape[1], round(shape[1] * factors[1])),
        max(shape[2], round(shape[2] * factors[2])),
    )
    x, y, z = (step * n / many for step, n, many in zip(scan.spacing, shape, high_shape, strict=True))
    slice_axis = int(np.argmax(scan.spacing))
    given = thickness if thickness is not None else scan.metadata.get("slice_thickness")
    lengths = list(scan.spacing)
    if given is not None:
        if not 0 < float(given) <= 10 * lengths[slice_axis]:
            raise MedganError(
                f"a slice thickness of {given} mm does not go with slices every {lengths[slice_axis]:.3g} mm",
                hint="Give --thickness in mm.",
            )
        lengths[slice_axis] = float(given)
    order = (0, 1, 2) if model is None else _axis_order(factors, model.config["acquisition"]["factor"])
    return _Plan(high_shape, (x, y, z), (lengths[0], lengths[1], lengths[2]), order)


def _factors(
    scan: Volume, model: Model | None, factor: Sequence[float] | None, spacing: Sequence[float] | None
) -> tuple[float, float, float]:
    """Voxels per voxel along each RAS axis."""
    if factor is not None and spacing is not None:
        raise MedganError("give a factor or a spacing, not both")
    wanted = factor if factor is not None else spacing
    if wanted is not None and (len(wanted) != 3 or not all(np.isfinite(wanted)) or min(wanted) <= 0):
        raise MedganError(f"{tuple(wanted)} are not three numbers above 0", hint="Write them as 1,1,2.")
    if factor is not None:
        factors = tuple(float(f) for f in factor)
        if min(factors) < 1:
            raise MedganError(f"factors are {factors}; upscaling needs 1 or more along each axis")
    elif spacing is not None:
        factors = tuple(have / want for have, want in zip(scan.spacing, spacing, strict=True))
        if min(factors) < 0.999:
            shown = ", ".join(f"{step:.3g}" for step in scan.spacing)
            raise MedganError(
                f"the wanted spacing is coarser than the scan's own ({shown} mm)", hint="Ask for finer voxels."
            )
    else:
        factors = tuple(step / min(scan.spacing) for step in scan.spacing)
        if max(factors) < 1.1:
            trained = model.config["acquisition"]["factor"] if model is not None else (2.0, 2.0, 2.0)
            factors = tuple(float(f) for f in trained)
    return factors[0], factors[1], factors[2]


def _axis_order(factors: Sequence[float], trained: Sequence[float]) -> tuple[int, int, int]:
    """The permutation of the scan's axes that brings its factors closest to those of the training; none if that is
    as close.
    """
    wanted = np.log(np.asarray(trained, dtype=np.float64))
    have = np.log(np.asarray(factors, dtype=np.float64))
    a, b, c = min(permutations(range(3)), key=lambda order: float(np.abs(have[list(order)] - wanted).sum().round(6)))
    return a, b, c


def _permuted(values: Sequence, order: Sequence[int]) -> tuple:
    return tuple(values[axis] for axis in order)
