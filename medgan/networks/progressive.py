"""A generator and a discriminator that grow from coarse to fine during training (Karras et al. 2017,
arXiv:1710.10196), in 3D.

Both always take and give volumes of full size. At growth g the generator adds the volumes of its first stages,
interpolated; the discriminator looks at the least-squares pyramid of what it is given, from the same stage on. That
pyramid undoes the interpolation, so a generated stage arrives as it was made, and real volumes are low-pass filtered to
what the stage can hold. While a stage fades in, the discriminator sees its detail, of real and of generated volumes
alike, as faintly as it weighs it; the generator's detail starts silent. Nothing jumps when a stage is added.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medgan.networks.layers import (
    ACTIVATION_GAIN,
    activated,
    as_shape,
    checked_stages,
    convolution,
    head_from_volume,
    linear,
    minibatch_layer,
    pixel_norm,
    start_in_air,
    start_without_detail,
    volume_from_head,
)
from medgan.networks.resample import Resample

_START = 0.5


def growth_at(progress: float, *, stages: int, fading: float, stabilising: float) -> float:
    """How far a network has grown: k when stage k is whole, k - 1 + a while it fades in with weight a.

    Args:
        progress: of the training, in [0, 1].
        stages: of the network.
        fading: share of the training in which a stage fades in.
        stabilising: share of the training for which a stage is trained before the next one fades in.
    """
    stage, rest = divmod(progress, fading + stabilising)
    faded = min(1.0, max(0.0, (rest - stabilising) / fading)) if fading > 0 else 0.0
    return min(stage + faded, float(stages - 1))


class _Growing(nn.Module):
    """A network with stages and a `growth`, which training sets at each step; without training it is fully grown.

    Args:
        stages: how many.
        fading: see `growth_at`.
        stabilising: see `growth_at`.
    """

    growth: Tensor

    def __init__(self, stages: int, *, fading: float, stabilising: float) -> None:
        super().__init__()
        self.timing = {"stages": stages, "fading": fading, "stabilising": stabilising}
        # Not saved: a saved network is fully grown, and a resumed training sets it by its progress.
        self.register_buffer("growth", torch.tensor(float(stages - 1)), persistent=False)

    def advance(self, progress: float) -> None:
        """Grow to where a network is at `progress` of its training, in [0, 1]."""
        self.growth.fill_(growth_at(progress, **self.timing))  # type: ignore[arg-type]

    def active(self) -> tuple[int, float]:
        """The finest stage that takes part, and its weight in (0, 1]."""
        growth = float(self.growth)
        level = math.ceil(growth)
        return level, 1.0 if level == 0 else growth - (level - 1)


class _Block(nn.Module):
    """Two convolutions, with normalised features behind each in a generator."""

    recomputable = True

    def __init__(self, source: int, middle: int, target: int, *, normalised: bool) -> None:
        super().__init__()
        self.first = convolution(source, middle, 3, gain=ACTIVATION_GAIN)
        self.second = convolution(middle, target, 3, gain=ACTIVATION_GAIN)
        self.normalised = normalised

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second):
            x = activated(layer(x))
            x = pixel_norm(x) if self.normalised else x
        return x


class ProgressiveGenerator(_Growing):
    """Latent vectors to volumes.

    Args:
        shapes: spatial shapes of the stages, coarsest first; the last is that of the volume, or of its sub-bands with
            the Haar head.
        channels: feature channels of each stage, coarsest first.
        out_shape: spatial shape of the volume.
        latent_size: length of the latent vector.
        fading: see `growth_at`.
        stabilising: see `growth_at`.
        haar_head: whether the network predicts the eight Haar sub-bands of the volume.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        latent_size: int = 64,
        fading: float = 0.08,
        stabilising: float = 0.08,
        haar_head: bool = False,
    ) -> None:
        stages = checked_stages(shapes, channels)
        super().__init__(len(stages), fading=fading, stabilising=stabilising)
        self.arguments: dict[str, Any] = {
            "shapes": [list(shape) for shape in stages],
            "channels": list(channels),
            "out_shape": list(out_shape),
            "latent_size": latent_size,
            "fading": fading,
            "stabilising": stabilising,
            "haar_head": haar_head,
        }
        self.latent_size, self.haar_head, self.out_shape = latent_size, haar_head, as_shape(out_shape)
        self.base = (channels[0], *stages[0])
        self.unfold = linear(latent_size, math.prod(self.base), gain=ACTIVATION_GAIN)
        sources = [channels[0], *channels[:-1]]
        self.blocks = nn.ModuleList(
            _Block(source, width, width, normalised=True) for source, width in zip(sources, channels, strict=True)
        )
        bands = 8 if haar_head else 1
        # Detail starts silent, so that the volume stays what it was when a stage is added.
        self.heads = nn.ModuleList(
            convolution(width, bands, 1, gain=0.0 if level else _START) for level, width in enumerate(channels)
        )
        if haar_head:
            start_without_detail(self.heads[0].weight)  # type: ignore[arg-type]
        start_in_air(self.heads[0].bias, haar_head=haar_head)  # type: ignore[arg-type]
        self.grow = nn.ModuleList(Resample(coarse, fine) for coarse, fine in itertools.pairwise(stages))
        self.enlarge = nn.ModuleList(Resample(stage, stages[-1]) for stage in stages)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_size), standard normal, to volumes (B, 1, X, Y, Z) in about [-1, 1]."""
        finest, _ = self.active()
        x = pixel_norm(activated(self.unfold(latents).unflatten(1, self.base)))
        x = self.blocks[0](x.contiguous(memory_format=torch.channels_last_3d))
        out = self.enlarge[0](self.heads[0](x))
        for level in range(1, finest + 1):
            x = self.grow[level - 1](x).contiguous(memory_format=torch.channels_last_3d)
            x = self.blocks[level](x)
            out = out + self.enlarge[level](self.heads[level](x))
        return volume_from_head(out, self.out_shape, haar_head=self.haar_head)


class ProgressiveDiscriminator(_Growing):
    """Volumes to one logit each.

    Args:
        shapes: as in `ProgressiveGenerator`.
        channels: as in `ProgressiveGenerator`.
        out_shape: spatial shape of the volumes that it judges.
        fading: see `growth_at`.
        stabilising: see `growth_at`.
        minibatch_statistics: what it sees of the other volumes in the batch: "none", "deviation" or "discrimination".
        haar_head: whether it looks at the eight Haar sub-bands of the volume.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        fading: float = 0.08,
        stabilising: float = 0.08,
        minibatch_statistics: str = "deviation",
        haar_head: bool = False,
    ) -> None:
        stages = checked_stages(shapes, channels)
        super().__init__(len(stages), fading=fading, stabilising=stabilising)
        self.arguments: dict[str, Any] = {
            "shapes": [list(shape) for shape in stages],
            "channels": list(channels),
            "out_shape": list(out_shape),
            "fading": fading,
            "stabilising": stabilising,
            "minibatch_statistics": minibatch_statistics,
            "haar_head": haar_head,
        }
        self.haar_head, self.mixes_batch = haar_head, minibatch_statistics != "none"
        bands = 8 if haar_head else 1
        self.stems = nn.ModuleList(convolution(bands, width, 1, gain=ACTIVATION_GAIN) for width in channels)
        targets = [channels[0], *channels[:-1]]
        self.described = [(channels[0], *stages[0])]
        self.statistics, added = minibatch_layer(minibatch_statistics, channels[0], stages[0])
        sources = [channels[0] + added, *channels[1:]]
        middles = list(channels)
        self.blocks = nn.ModuleList(
            _Block(source, middle, target, normalised=False)
            for source, middle, target in zip(sources, middles, targets, strict=True)
        )
        self.shrink = nn.ModuleList(Resample(fine, coarse) for coarse, fine in itertools.pairwise(stages))
        self.reduce = nn.ModuleList(Resample(stages[-1], stage, least_squares=True) for stage in stages)
        self.enlarge = nn.ModuleList(Resample(stage, stages[-1]) for stage in stages)
        self.score = linear(channels[0] * math.prod(stages[0]), 1)

    def seen(self, volumes: Tensor) -> Tensor:
        """What the finest stage that takes part is shown of volumes (B, 1, X, Y, Z), on its own grid."""
        finest, weight = self.active()
        x = head_from_volume(volumes, haar_head=self.haar_head)
        if weight < 1.0:
            coarse = self.enlarge[finest - 1](self.reduce[finest - 1](x))
            x = coarse + weight * (x - coarse)
        return self.reduce[finest](x)

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes (B, 1, X, Y, Z) in about [-1, 1] to logits (B, 1)."""
        return self.features(volumes)[-1]

    def features(self, volumes: Tensor) -> list[Tensor]:
        """What each stage that takes part makes of volumes (B, 1, X, Y, Z): tensors (B, channels, ...), finest first;
        then the logits.
        """
        finest, weight = self.active()
        x = self._entered(finest, self.seen(volumes))
        seen = []
        for level in range(finest, 0, -1):
            x = self.shrink[level - 1](self.blocks[level](x)).contiguous(memory_format=torch.channels_last_3d)
            if level == finest and weight < 1.0:
                bands = head_from_volume(volumes, haar_head=self.haar_head)
                before = self._entered(level - 1, self.reduce[level - 1](bands))
                x = before + weight * (x - before)
            seen.append(x)
        x = self.blocks[0](self.statistics(x))
        return [*seen, x, self.score(x.flatten(1))]

    def _entered(self, level: int, bands: Tensor) -> Tensor:
        return activated(self.stems[level](bands.contiguous(memory_format=torch.channels_last_3d)))
