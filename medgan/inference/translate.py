"""A scan in another contrast: the same voxels in the same places, with other values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.data.intensity import denormalise, normalise
from medgan.errors import MedganError
from medgan.geometry import Shape
from medgan.inference.inputs import require_finite
from medgan.inference.memory import Footprint, tile_for
from medgan.inference.model import Model, require_task
from medgan.inference.tiling import apply_tiled, per_axis
from medgan.inference.upscale import intensity_range
from medgan.networks.translation import ResidualUNet
from medgan.volume import Volume

THERE, BACK = "there", "back"
# Voxels longer or shorter than those of the training by more than this show another anatomy to the network.
_TOLD_RATIO, _REFUSED_RATIO = 1.1, 1.5
# What a file said of the acquisition is not true of a contrast that nobody acquired.
_OF_ACQUISITION = ("echo_time", "repetition_time", "inversion_time", "flip_angle")


def translate(
    volume: Volume,
    model: Model,
    *,
    reverse: bool = False,
    tile: Shape | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Volume:
    """A scan as it would look in another contrast.

    Args:
        volume: any orientation; several channels are translated one by one.
        model: trained for translation.
        reverse: from the model's target contrast to its source, of models that were trained without pairs.
        tile: voxels that the network sees at once along R, A and S, halo apart; as many as take little more than 1 GiB
            when None. With a halo of the network's receptive field the result is that of the undivided scan.
        progress: called with (tiles done, tiles in all).

    Returns:
        A float32 volume on the very grid of the input, in the units of the scans of the wanted contrast that the model
        was trained on. `metadata["made_contrast"]` says that nobody acquired it; it still shows a real person.

    Raises:
        MedganError: voxels are not finite, their size is far from that of the training, the model has no such
            direction, or its network cannot work in tiles.
    """
    require_task(model, "translation", "translate")
    require_finite(volume)
    source, target = contrasts(model, reverse)
    scan = volume.reoriented("RAS")
    network = translator(model, reverse)
    note = _spacing_note(scan, model)
    ranges = _ranges(model, reverse)
    data = np.empty(scan.data.shape, np.float32)
    for channel, voxels in enumerate(scan.data):
        data[channel] = _translated(voxels, network, model.config["margin"], ranges, tile, progress)
    back = scan.with_data(data).reoriented(volume.orientation)
    history = (*volume.history, *note, f"translated from {source} to {target} by model {model.sha256[:12]}")
    metadata = {key: value for key, value in volume.metadata.items() if key not in _OF_ACQUISITION}
    return Volume(back.data, volume.affine, history, {**metadata, "made_contrast": True})


def contrasts(model: Model, reverse: bool) -> tuple[str, str]:
    """What a model translates from and to.

    Raises:
        MedganError: it was trained in one direction only.
    """
    source, target = str(model.config["source"]), str(model.config["target"])
    if reverse and BACK not in model.config["directions"]:
        raise MedganError(
            f"this model was trained from {source} to {target} alone",
            file=model.folder,
            hint="Leave out --reverse, or train one with source and target exchanged.",
        )
    return (target, source) if reverse else (source, target)


def translator(model: Model, reverse: bool) -> ResidualUNet:
    """The network of one direction, ready to use."""
    network = model.network(direction=BACK if reverse else THERE)
    assert isinstance(network, ResidualUNet)
    return network


def footprint(network: ResidualUNet) -> Footprint:
    """What decides how much memory a translating network takes: its finest features rule."""
    arguments = network.arguments
    folded = 8.0 if arguments["haar_head"] else 1.0
    # Coarser levels add less than a third, kept features of the way down as much as the widest at work.
    return Footprint(2 * arguments["channels"], folded, per_axis(network.receptive_field))


def tile_of(network: ResidualUNet, shape: Shape, wanted: Shape | None = None) -> Shape:
    """The tiles in which a volume of `shape` goes through the network.

    Raises:
        MedganError: tiles are wanted of a network whose voxels all depend on each other.
    """
    if network.is_local:
        return wanted or tile_for(shape, footprint(network))
    if wanted is not None and any(side < size for side, size in zip(wanted, shape, strict=True)):
        raise MedganError(
            "this network has instance normalisation, whose statistics are those of the whole scan: tiles would "
            "change the result",
            hint="Leave out the tile, or train with network.normalisation=none.",
        )
    return shape


def _translated(
    voxels: NDArray[Any],
    network: ResidualUNet,
    margin: int,
    ranges: tuple[Mapping[str, float] | None, Mapping[str, float]],
    tile: Shape | None,
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    """One channel of a RAS scan (X, Y, Z)."""
    fixed, made = ranges
    if fixed is None:
        low, length = intensity_range(voxels)
    else:
        low, length = fixed["low"], fixed["high"] - fixed["low"]
    normalised = normalise(voxels.astype(np.float32, copy=False), low, low + length)
    # In training no judged voxel lay at the face of a patch; so none may lie at the face of what the network sees.
    around = torch.from_numpy(np.pad(normalised, margin, mode="edge"))[None, None]
    shape: Shape = (around.shape[2], around.shape[3], around.shape[4])
    result = apply_tiled(
        network,
        around,
        tile=tile_of(network, shape, tile),
        halo=network.receptive_field if network.is_local else 0,
        multiple=network.multiple,
        progress=progress,
    )
    inside = tuple(slice(margin, margin + size) for size in voxels.shape)
    units = denormalise(result[0, 0].float().numpy()[inside], made["low"], made["high"])
    return np.maximum(units, np.float32(made["minimum"]))


def _ranges(model: Model, reverse: bool) -> tuple[Mapping[str, float] | None, Mapping[str, float]]:
    """What is 0 and 1 before (None: by the scan's own percentiles) and after."""
    known = model.config["normalisation"]
    start, end = ("target", "source") if reverse else ("source", "target")
    return (known[start] if known[start]["kind"] == "cohort" else None), known[end]


def _spacing_note(scan: Volume, model: Model) -> tuple[str, ...]:
    """A phrase where the voxels are not as long as those of the training."""
    trained = model.config["spacing"]
    ratio = max(math.exp(abs(math.log(have / want))) for have, want in zip(scan.spacing, trained, strict=True))
    if ratio <= _TOLD_RATIO:
        return ()
    sizes = [" x ".join(f"{step:.3g}" for step in spacing) for spacing in (scan.spacing, trained)]
    said = f"voxels of {sizes[0]} mm (R, A, S), and the model was trained on {sizes[1]} mm"
    if ratio > _REFUSED_RATIO:
        raise MedganError(
            f"{said}: what it learned does not hold there",
            hint="Bring the scan to that spacing first (medgan.resampling.resampled), or train on scans like it.",
        )
    return (said,)
