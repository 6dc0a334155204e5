"""A 3D generator and discriminator without normalisation, after Huang et al. 2024 ("The GAN is dead; long live the
GAN!").

Residual blocks whose last convolution starts at zero, linear resampling between stages, a learned basis at the
coarsest stage. Two kinds of block: the paper's inverted bottleneck with grouped convolutions, and a dense pair of
convolutions that runs several times faster on a CPU. With the Haar head the networks work on eight sub-bands at half
the resolution.
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
    head_from_volume,
    minibatch_layer,
    volume_from_head,
)
from medgan.networks.resample import Resample

# Initial standard deviation, over latent vectors, of the weight of a basis pattern whose mean weight is one.
_VARIATION = 0.5


def _convolution(source: int, target: int, kernel: int, *, groups: int = 1, gain: float = 1.0) -> nn.Conv3d:
    """A same-size convolution without bias whose weights keep the variance, times `gain` squared."""
    layer = nn.Conv3d(source, target, kernel, padding=kernel // 2, groups=groups, bias=False)
    fan_in = source // groups * kernel**3
    nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in)) if gain else nn.init.zeros_(layer.weight)
    return layer


class _BiasedActivation(nn.Module):
    """Leaky rectifier after a learned bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return activated(x + self.bias.to(x.dtype).view(-1, 1, 1, 1))


class ResidualBlock(nn.Module):
    """Shape (B, C, X, Y, Z) to the same; the identity at initialisation.

    Args:
        channels: C.
        group_width: channels per group of the inner convolution; 0 for two dense convolutions without expansion.
        expansion: how many times wider the inner convolution of a grouped block is.
        depth: residual blocks in the whole network, which scales the initial weights (Zhang et al. 2019, "Fixup").
    """

    recomputable = True

    def __init__(self, channels: int, *, group_width: int, expansion: int, depth: int) -> None:
        super().__init__()
        if group_width:
            inner = max(group_width, channels * expansion // group_width * group_width)
            gain = ACTIVATION_GAIN * depth**-0.25
            self.body = nn.Sequential(
                _convolution(channels, inner, 1, gain=gain),
                _BiasedActivation(inner),
                _convolution(inner, inner, 3, groups=inner // group_width, gain=gain),
                _BiasedActivation(inner),
                _convolution(inner, channels, 1, gain=0.0),
            )
        else:
            self.body = nn.Sequential(
                _convolution(channels, channels, 3, gain=ACTIVATION_GAIN * depth**-0.5),
                _BiasedActivation(channels),
                _convolution(channels, channels, 3, gain=0.0),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, X, Y, Z) to the same."""
        return x + self.body(x)


def _stage(channels: int, blocks: int, options: dict[str, int]) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, **options) for _ in range(blocks)))


class R3Generator(nn.Module):
    """Latent vectors to volumes.

    Args:
        shapes: spatial shapes of the stages, coarsest first; the last is that of the volume, or of its sub-bands with
            the Haar head.
        channels: feature channels of each stage, coarsest first.
        out_shape: spatial shape of the volume; with the Haar head, sub-bands are cropped to it when it is odd.
        latent_size: length of the latent vector.
        blocks: residual blocks per stage.
        group_width: see `ResidualBlock`.
        expansion: see `ResidualBlock`.
        haar_head: whether the last stage predicts the eight Haar sub-bands of the volume.
        common_pattern: whether untrained samples are variations of one pattern, as scans of one anatomy are, which
            saves a short training much; for sets of several kinds of scan they had better begin apart.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        latent_size: int = 64,
        blocks: int = 2,
        group_width: int = 16,
        expansion: int = 2,
        haar_head: bool = False,
        common_pattern: bool = True,
    ) -> None:
        super().__init__()
        stages = checked_stages(shapes, channels)
        self.arguments: dict[str, Any] = {
            "shapes": [list(shape) for shape in stages],
            "channels": list(channels),
            "out_shape": list(out_shape),
            "latent_size": latent_size,
            "blocks": blocks,
            "group_width": group_width,
            "expansion": expansion,
            "haar_head": haar_head,
            "common_pattern": common_pattern,
        }
        self.latent_size, self.haar_head = latent_size, haar_head
        self.out_shape = as_shape(out_shape)
        options = {"group_width": group_width, "expansion": expansion, "depth": blocks * len(stages)}
        self.basis = nn.Parameter(torch.randn(1, channels[0], *stages[0]))
        self.mix = nn.Linear(latent_size, channels[0])
        nn.init.normal_(self.mix.weight, std=(_VARIATION if common_pattern else 1.0) / math.sqrt(latent_size))
        nn.init.constant_(self.mix.bias, float(common_pattern))
        self.stages = nn.ModuleList(_stage(width, blocks, options) for width in channels)
        self.widen = nn.ModuleList(
            _convolution(before, after, 1) if before != after else nn.Identity()
            for before, after in itertools.pairwise(channels)
        )
        self.grow = nn.ModuleList(Resample(before, after) for before, after in itertools.pairwise(stages))
        self.head = _convolution(channels[-1], 8 if haar_head else 1, 1)
        if haar_head:
            # Detail starts silent: equal energy in all sub-bands would be white noise, far from any scan.
            nn.init.zeros_(self.head.weight[1:])

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_size), standard normal, to volumes (B, 1, X, Y, Z) in about [-1, 1]."""
        x = self.mix(latents)[:, :, None, None, None] * self.basis
        x = x.contiguous(memory_format=torch.channels_last_3d)
        x = self.stages[0](x)
        for widen, grow, stage in zip(self.widen, self.grow, list(self.stages)[1:], strict=True):
            # Channels are reduced before growing: the same function of the input at an eighth of the cost.
            x = stage(grow(widen(x)).contiguous(memory_format=torch.channels_last_3d))
        return volume_from_head(self.head(x), self.out_shape, haar_head=self.haar_head)


class R3Discriminator(nn.Module):
    """Volumes to one logit each; the mirror of `R3Generator`, with the same arguments as far as they are named.

    Args:
        shapes: as in `R3Generator`.
        channels: as in `R3Generator`.
        out_shape: spatial shape of the volumes that it judges.
        blocks: residual blocks per stage.
        group_width: see `ResidualBlock`.
        expansion: see `ResidualBlock`.
        haar_head: whether it looks at the eight Haar sub-bands of the volume.
        minibatch_statistics: what it sees of the other volumes in the batch: "none", "deviation" or "discrimination".
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        blocks: int = 2,
        group_width: int = 16,
        expansion: int = 2,
        haar_head: bool = False,
        minibatch_statistics: str = "none",
    ) -> None:
        super().__init__()
        stages = checked_stages(shapes, channels)[::-1]
        widths = list(channels)[::-1]
        self.haar_head, self.mixes_batch = haar_head, minibatch_statistics != "none"
        options = {"group_width": group_width, "expansion": expansion, "depth": blocks * len(stages)}
        self.stem = _convolution(8 if haar_head else 1, widths[0], 1)
        self.stages = nn.ModuleList(_stage(width, blocks, options) for width in widths)
        self.shrink = nn.ModuleList(Resample(before, after) for before, after in itertools.pairwise(stages))
        self.widen = nn.ModuleList(
            _convolution(before, after, 1) if before != after else nn.Identity()
            for before, after in itertools.pairwise(widths)
        )
        self.described = [(widths[-1], *stages[-1])]
        self.statistics, added = minibatch_layer(minibatch_statistics, widths[-1], stages[-1])
        patterns, voxels = widths[-1] + added, math.prod(stages[-1])
        self.basis = nn.Parameter(torch.randn(1, patterns, *stages[-1]) / math.sqrt(voxels))
        self.score = nn.Linear(patterns, 1, bias=False)
        nn.init.normal_(self.score.weight, std=1 / math.sqrt(patterns))

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes (B, 1, X, Y, Z) in about [-1, 1] to logits (B, 1)."""
        return self.features(volumes)[-1]

    def features(self, volumes: Tensor) -> list[Tensor]:
        """What each stage makes of volumes (B, 1, X, Y, Z): (B, channels, ...), finest first; then the logits."""
        x = head_from_volume(volumes, haar_head=self.haar_head)
        x = self.stem(x.contiguous(memory_format=torch.channels_last_3d))
        seen = [self.stages[0](x)]
        for shrink, widen, stage in zip(self.shrink, self.widen, list(self.stages)[1:], strict=True):
            seen.append(stage(widen(shrink(seen[-1])).contiguous(memory_format=torch.channels_last_3d)))
        return [*seen, self.score((self.statistics(seen[-1]) * self.basis).sum(dim=(2, 3, 4)))]
