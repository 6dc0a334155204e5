"""A network applied to a volume that does not fit through it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medgan.geometry import Shape


class Span(NamedTuple):
    """One tile along one axis: what goes into the network and what is kept of the result, as indices of the whole
    volume.
    """

    read: slice
    kept: slice

    @property
    def crop(self) -> slice:
        """The kept part, as indices of the tile's own result."""
        return slice(self.kept.start - self.read.start, self.kept.stop - self.read.start)


def axis_spans(size: int, *, tile: int, halo: int, multiple: int) -> list[Span]:
    """How one axis of `size` voxels is cut: `kept` parts that cover it once, each read with `halo` voxels around it.

    Every part starts at a multiple of `multiple`, the parts are as even as that allows, and no read reaches beyond
    the volume, so that the network meets the volume's true borders and no others.

    Args:
        size: voxels along the axis.
        tile: largest kept part; rounded down to a multiple, at least one multiple.
        halo: voxels read on each side; rounded up to a multiple.
        multiple: alignment.
    """
    cells = -(-size // multiple)
    count = -(-cells // max(1, tile // multiple))
    margin = -(-halo // multiple) * multiple
    edges = [min(size, cells * i // count * multiple) for i in range(count + 1)]
    return [
        Span(slice(max(0, start - margin), min(size, stop + margin)), slice(start, stop))
        for start, stop in pairwise(edges)
    ]


def _tiles(shape: Sequence[int], tile: Shape, halo: Shape, multiple: Shape) -> Iterator[tuple[Span, Span, Span]]:
    """All tiles of a volume, the last axis varying fastest."""
    x, y, z = (
        axis_spans(size, tile=side, halo=around, multiple=step)
        for size, side, around, step in zip(shape, tile, halo, multiple, strict=True)
    )
    return product(x, y, z)


def per_axis(value: int | Sequence[int]) -> Shape:
    """One number for all three axes, or three, as three."""
    x, y, z = (value,) * 3 if isinstance(value, int) else value
    return x, y, z


def apply_tiled(
    network: nn.Module,
    x: Tensor,
    *,
    tile: Shape,
    halo: int | Sequence[int],
    multiple: int | Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """`network(x)`, tile by tile: equal to the undivided pass if `halo` is at least the network's receptive field.

    Nothing is blended: each tile is read with its surroundings and only the part that no cut can have influenced is
    kept. Beside input and output, one tile at a time is in memory. No gradients are recorded; the network's mode (train
    or eval) is left alone.

    Args:
        network: maps (B, C, X, Y, Z) to (B, C', X, Y, Z).
        x: (B, C, X, Y, Z), on any device; each tile is moved to the network's device.
        tile: largest kept part of a tile along each axis, in voxels, not counting the halo.
        halo: voxels read around the kept part, one number for all axes or three. The network's receptive field
            (half-width) makes the result exact; the influence of distant voxels fades long before that in deep
            residual networks.
        multiple: tiles start at multiples of this many voxels, one number for all axes or three.
        progress: called after each tile with (tiles done, tiles in all).

    Returns:
        (B, C', X, Y, Z) on the CPU.

    Raises:
        ValueError: `tile`, `halo` or `multiple` is out of range, or the network changes the size of a tile.
    """
    halos, multiples = per_axis(halo), per_axis(multiple)
    if min(tile) < 1 or min(halos) < 0 or min(multiples) < 1:
        raise ValueError(f"impossible tiling: tile {tile}, halo {halo}, multiple {multiple}")
    device = next((parameter.device for parameter in network.parameters()), x.device)
    tiles = list(_tiles(x.shape[-3:], tile, halos, multiples))
    restored: Tensor | None = None
    for done, (across, along, up) in enumerate(tiles, start=1):
        inside = x[..., across.read, along.read, up.read]
        with torch.inference_mode():
            result = network(inside.to(device))
        if result.shape[-3:] != inside.shape[-3:]:
            raise ValueError(
                f"the network turned {tuple(inside.shape)} into {tuple(result.shape)}: tiles must keep their size"
            )
        if restored is None:
            restored = torch.empty(*result.shape[:2], *x.shape[-3:], dtype=result.dtype)
        restored[..., across.kept, along.kept, up.kept] = result[..., across.crop, along.crop, up.crop].cpu()
        if progress is not None:
            progress(done, len(tiles))
    assert restored is not None
    return restored
