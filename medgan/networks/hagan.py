"""A hierarchical generator for large volumes: trained on sub-volumes, used on whole ones (the idea of Sun et al. 2022,
"HA-GAN", arXiv:2008.01910).

A trunk makes features of the whole volume at a quarter of the resolution. One branch turns them into the whole volume
at that resolution, the other into the volume at full resolution. In training, the second branch only runs on a box of
the trunk's features, at another place in each volume, along all axes. Boxes carry a halo as wide as the branch can see,
so that a sub-volume is exactly what the full pass has there; `HierarchicalGenerator.assembled` relies on it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.geometry import Shape
from medgan.networks.layers import (
    ACTIVATION_GAIN,
    activated,
    as_shape,
    checked_stages,
    convolution,
    linear,
    minibatch_layer,
    pixel_norm,
    start_in_air,
)
from medgan.networks.resample import Resample

FINE_STAGES = 2
"""Stages of the branch at full resolution; the others are the trunk's."""
_START = 0.5


def enlargements(shapes: Sequence[Shape]) -> list[Shape]:
    """How many times larger each stage is than the one before, along each axis: 1 or 2."""
    return [
        as_shape([2 if fine > coarse else 1 for coarse, fine in zip(before, after, strict=True)])
        for before, after in itertools.pairwise(shapes)
    ]


def total_enlargement(shapes: Sequence[Shape]) -> Shape:
    """How many times larger the last stage is than the first, along each axis, but for rounding."""
    return as_shape([math.prod(factor[axis] for factor in enlargements(shapes)) for axis in range(3)])


def halo(factors: Sequence[Shape]) -> Shape:
    """Voxels of the trunk, beyond a box, that the branch at full resolution sees along each axis.

    Args:
        factors: of its stages, coarsest first; each has one convolution of three voxels, and there is one at the end.
    """
    reach = [1, 1, 1]
    for factor in reversed(factors):
        reach = [math.ceil((r + 1) / f) for r, f in zip(reach, factor, strict=True)]
    return as_shape(reach)


class _Boxes:
    """Boxes of `size` voxels of a trunk's grid, with what surrounds them.

    Args:
        grid: voxels of the trunk.
        size: of a box along each axis.
        margin: voxels around it that are taken along; less where the grid ends.
    """

    def __init__(self, grid: Shape, size: Shape, margin: Shape) -> None:
        self.grid, self.size = grid, size
        self.window = as_shape([min(n, s + 2 * m) for n, s, m in zip(grid, size, margin, strict=True)])
        self.margin = margin

    def windows(self, features: Tensor, starts: Sequence[Sequence[int]]) -> tuple[Tensor, list[list[int]]]:
        """The window around the box of each volume, (B, C, *window), and where the box begins inside it."""
        cut, offsets = [], []
        for volume, start in zip(features, starts, strict=True):
            first = [
                min(max(s - m, 0), n - w) for s, m, n, w in zip(start, self.margin, self.grid, self.window, strict=True)
            ]
            cut.append(volume[(slice(None), *_box(first, self.window))])
            offsets.append([s - f for s, f in zip(start, first, strict=True)])
        return torch.stack(cut), offsets

    def all_starts(self) -> list[list[int]]:
        """Starts of boxes that cover the grid; the last ones along an axis end where it ends."""
        axes = [
            sorted({min(start, n - s) for start in range(0, n, s)}) for n, s in zip(self.grid, self.size, strict=True)
        ]
        return [list(start) for start in itertools.product(*axes)]


def _box(start: Sequence[int], size: Sequence[int], factor: Sequence[int] = (1, 1, 1)) -> tuple[slice, ...]:
    return tuple(slice(f * s, f * (s + n)) for s, n, f in zip(start, size, factor, strict=True))


def _repeated(x: Tensor, factor: Shape) -> Tensor:
    """Each voxel of (B, C, X, Y, Z) `factor` times along each axis."""
    for axis, times in enumerate(factor, start=2):
        if times > 1:
            sizes = [-1] * (x.ndim + 1)
            sizes[axis + 1] = times
            x = x.unsqueeze(axis + 1).expand(sizes).flatten(axis, axis + 1)
    return x


class _Block(nn.Module):
    """Convolution, rectifier, normalisation over the channels of each voxel, which knows no neighbours."""

    recomputable = True

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.convolution = convolution(source, target, 3, gain=ACTIVATION_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        return pixel_norm(activated(self.convolution(x.contiguous(memory_format=torch.channels_last_3d))))


class HierarchicalGenerator(nn.Module):
    """Latent vectors to volumes.

    Args:
        shapes: spatial shapes of the stages, coarsest first, at least three; the last is that of the volume.
        channels: feature channels of each stage, coarsest first.
        out_shape: spatial shape of the volume.
        latent_size: length of the latent vector.
        box: voxels of the trunk, along each axis, on which the branch at full resolution is trained.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        box: Sequence[int],
        latent_size: int = 64,
    ) -> None:
        super().__init__()
        stages = checked_stages(shapes, channels)
        self.arguments: dict[str, Any] = {
            "shapes": [list(shape) for shape in stages],
            "channels": list(channels),
            "out_shape": list(out_shape),
            "box": list(box),
            "latent_size": latent_size,
        }
        self.latent_size, self.out_shape = latent_size, as_shape(out_shape)
        coarse = len(stages) - FINE_STAGES
        self.base = (channels[0], *stages[0])
        self.factors = enlargements(stages[coarse - 1 :])
        self.factor = total_enlargement(stages[coarse - 1 :])
        self.boxes = _Boxes(stages[coarse - 1], as_shape(box), halo(self.factors))
        self.unfold = linear(latent_size, math.prod(self.base), gain=ACTIVATION_GAIN)
        sources = [channels[0], *channels[:-1]]
        blocks = [_Block(source, target) for source, target in zip(sources, channels, strict=True)]
        self.trunk = nn.ModuleList(blocks[:coarse])
        self.grow = nn.ModuleList(Resample(a, b) for a, b in itertools.pairwise(stages[:coarse]))
        self.low_head = convolution(channels[coarse - 1], 1, 3, gain=_START)
        self.fine = nn.ModuleList(blocks[coarse:])
        self.high_head = convolution(channels[-1], 1, 3, gain=_START)
        for head in (self.low_head, self.high_head):
            start_in_air(head.bias, haar_head=False)  # type: ignore[arg-type]

    def features(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_size) to the trunk's features (B, C, *grid)."""
        x = pixel_norm(activated(self.unfold(latents).unflatten(1, self.base)))
        x = self.trunk[0](x)
        for grow, block in zip(self.grow, list(self.trunk)[1:], strict=True):
            x = block(grow(x))
        return x

    def enlarged(self, features: Tensor) -> Tensor:
        """Trunk features (B, C, X, Y, Z) of the whole grid or of a window, to volumes (B, 1, fX, fY, fZ).

        Voxels are repeated, not interpolated: a window then needs no neighbours but those of the convolutions.
        """
        x = features
        for factor, block in zip(self.factors, self.fine, strict=True):
            x = block(_repeated(x, factor))
        return self.high_head(x)

    def boxed(self, features: Tensor, starts: Sequence[Sequence[int]]) -> Tensor:
        """The part of the volume over one box in each sample's trunk features, (B, 1, *box times factor)."""
        windows, offsets = self.boxes.windows(features, starts)
        made = self.enlarged(windows)
        size = self.boxes.size
        return torch.stack(
            [volume[(slice(None), *_box(o, size, self.factor))] for volume, o in zip(made, offsets, strict=True)]
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_size), standard normal, to volumes (B, 1, X, Y, Z) in about [-1, 1]."""
        return self._trimmed(self.enlarged(self.features(latents)))

    def assembled(self, latents: Tensor) -> Tensor:
        """What `forward` gives, made box by box: the memory of one box beside that of the volumes."""
        features = self.features(latents)
        full = [f * n for f, n in zip(self.factor, self.boxes.grid, strict=True)]
        out = features.new_empty(len(latents), 1, *full)
        for start in self.boxes.all_starts():
            part = self.boxed(features, [start] * len(latents))
            out[(slice(None), slice(None), *_box(start, self.boxes.size, self.factor))] = part
        return self._trimmed(out)

    def _trimmed(self, volumes: Tensor) -> Tensor:
        x, y, z = self.out_shape
        return volumes[:, :, :x, :y, :z]


class _Judge(nn.Module):
    """A pyramid of strided convolutions and a logit, which may be told `extra` numbers beside the volume."""

    def __init__(
        self, shapes: Sequence[Shape], channels: Sequence[int], *, extra: int, minibatch_statistics: str
    ) -> None:
        super().__init__()
        stages, widths = list(shapes)[::-1], list(channels)[::-1]
        layers = [convolution(1, widths[0], 3, gain=ACTIVATION_GAIN, rectified=True)]
        for factor, wide, wider in zip(enlargements(shapes)[::-1], widths, widths[1:], strict=False):
            layers.append(convolution(wide, wider, 3, stride=factor, gain=ACTIVATION_GAIN, rectified=True))
        self.layers = nn.ModuleList(layers)
        self.statistics, added = minibatch_layer(minibatch_statistics, widths[-1], stages[-1])
        self.summary = linear((widths[-1] + added) * math.prod(stages[-1]), widths[-1], gain=ACTIVATION_GAIN)
        self.mixing = linear(widths[-1] + extra, widths[-1], gain=ACTIVATION_GAIN)
        self.score = linear(widths[-1], 1)

    def described(self, volumes: Tensor, extra: Tensor) -> Tensor:
        """What the logit is made of, (B, channels)."""
        x = volumes.contiguous(memory_format=torch.channels_last_3d)
        for layer in self.layers:
            x = layer(x)
        x = activated(self.summary(self.statistics(x).flatten(1)))
        return activated(self.mixing(torch.cat((x, extra.to(x.dtype)), dim=1)))

    def forward(self, volumes: Tensor, extra: Tensor) -> Tensor:
        return self.score(self.described(volumes, extra))


class BoxedViews(nn.Module):
    """What of a volume is judged: the whole at the trunk's resolution, and a box at full resolution.

    Both travel in one row of numbers per volume, with the place of the box behind them, so that losses, penalties and
    averages treat them as they treat volumes. Real volumes are low-pass filtered on their way to the low resolution.

    Args:
        out_shape: voxels of the volumes.
        grid: voxels of the trunk.
        box: voxels of a box of the trunk.
        factor: how many times finer the volume is than the trunk.
    """

    # Places are whole numbers of voxels; far apart, they survive any noise on the views.
    _STEP = 64.0

    def __init__(self, *, out_shape: Shape, grid: Shape, box: Shape, factor: Shape) -> None:
        super().__init__()
        self.grid, self.box, self.factor = grid, box, factor
        self.full = as_shape([n * f for n, f in zip(grid, factor, strict=True)])
        self.fine_box = as_shape([n * f for n, f in zip(box, factor, strict=True)])
        self.padding = [
            extra for n, have in zip(reversed(self.full), reversed(out_shape), strict=True) for extra in (0, n - have)
        ]
        self.reduce = Resample(self.full, grid)
        self.judged: Shape = (math.prod(grid) + math.prod(self.fine_box), 1, 1)

    def real(self, volumes: Tensor) -> Tensor:
        """Volumes (B, 1, X, Y, Z) to packed views (B, N), with boxes at random places (by PyTorch's random state)."""
        if any(self.padding):
            volumes = F.pad(volumes, self.padding, mode="replicate")
        room = torch.tensor([n - b + 1 for n, b in zip(self.grid, self.box, strict=True)])
        starts = (torch.rand(len(volumes), 3) * room).long().minimum(room - 1)
        cut = torch.stack(
            [
                volume[(slice(None), *_box([f * s for f, s in zip(self.factor, start, strict=True)], self.fine_box))]
                for volume, start in zip(volumes, starts.tolist(), strict=True)
            ]
        )
        return self.packed(self.reduce(volumes), cut, starts.to(volumes.device))

    def generated(self, generator: nn.Module, latents: Tensor, real: Tensor) -> Tensor:
        """Packed views (B, N) of generated volumes, with boxes at the places of the real ones."""
        assert isinstance(generator, HierarchicalGenerator)
        starts = self.unpacked(real)[2]
        features = generator.features(latents)
        high = generator.boxed(features, starts.long().tolist())
        return self.packed(generator.low_head(features), high, starts)

    def packed(self, low: Tensor, high: Tensor, starts: Tensor) -> Tensor:
        """The whole at low resolution, the box and its place (B, 3) in trunk voxels, in one row per volume."""
        return torch.cat((low.flatten(1), high.flatten(1), (self._STEP * starts).to(low.dtype)), dim=1)

    def unpacked(self, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The inverse of `packed`; places carry no gradient."""
        low, high, starts = views.split([math.prod(self.grid), math.prod(self.fine_box), 3], dim=1)
        places = (starts.detach() / self._STEP).round()
        return low.unflatten(1, (1, *self.grid)), high.unflatten(1, (1, *self.fine_box)), places

    def places(self, starts: Tensor) -> Tensor:
        """Starts (B, 3) in trunk voxels as numbers between -1 and 1; 0 along an axis with only one place."""
        room = starts.new_tensor([max(1, n - b) for n, b in zip(self.grid, self.box, strict=True)])
        fixed = starts.new_tensor([float(n > b) for n, b in zip(self.grid, self.box, strict=True)])
        return (2 * starts / room - 1) * fixed


class HierarchicalDiscriminator(nn.Module):
    """Views of volumes to two logits each: of the whole at low resolution, and of a box at full resolution, with its
    place known. Losses and penalties count both alike.

    Args:
        shapes: as in `HierarchicalGenerator`.
        channels: as in `HierarchicalGenerator`.
        out_shape: spatial shape of the volumes.
        box: as in `HierarchicalGenerator`.
        box_shapes: spatial shapes of the stages for a box, coarsest first; the last is the box at full resolution.
        minibatch_statistics: what it sees of the other volumes in the batch: "none", "deviation" or "discrimination".
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        box: Sequence[int],
        box_shapes: Sequence[Sequence[int]],
        minibatch_statistics: str = "none",
    ) -> None:
        super().__init__()
        stages, boxes = checked_stages(shapes, channels), [as_shape(shape) for shape in box_shapes]
        self.arguments: dict[str, Any] = {
            "shapes": [list(shape) for shape in stages],
            "channels": list(channels),
            "out_shape": list(out_shape),
            "box": list(box),
            "box_shapes": [list(shape) for shape in boxes],
            "minibatch_statistics": minibatch_statistics,
        }
        self.mixes_batch = minibatch_statistics != "none"
        coarse = len(stages) - FINE_STAGES
        factor = total_enlargement(stages[coarse - 1 :])
        self.views = BoxedViews(
            out_shape=as_shape(out_shape), grid=stages[coarse - 1], box=as_shape(box), factor=factor
        )
        # A box has fewer stages than the volume; its finest are as wide as the volume's.
        widths = [channels[max(0, len(channels) - len(boxes) + level)] for level in range(len(boxes))]
        self.low = _Judge(stages[:coarse], channels[:coarse], extra=0, minibatch_statistics=minibatch_statistics)
        self.high = _Judge(boxes, widths, extra=3, minibatch_statistics=minibatch_statistics)
        self.described = [(channels[0],), (widths[0],)]

    def forward(self, views: Tensor) -> Tensor:
        """Packed views (B, N) of `BoxedViews` to logits (B, 2)."""
        return self.judged(views)[1]

    def judged(self, views: Tensor) -> tuple[list[Tensor], Tensor]:
        """What each of the two logits is made of, (B, channels), and the logits (B, 2)."""
        low, high, starts = self.views.unpacked(views)
        places = self.views.places(starts)
        seen = [self.low.described(low, places[:, :0]), self.high.described(high, places)]
        logits = [judge.score(one) for judge, one in zip((self.low, self.high), seen, strict=True)]
        return seen, torch.cat(logits, dim=1)
