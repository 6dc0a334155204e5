"""The classic convolutional generator and discriminator (Radford et al. 2015, arXiv:1511.06434), in 3D.

Two things differ from the paper, both known to harm volumes: the generator grows by linear interpolation and a
convolution instead of transposed convolutions, whose uneven overlap draws checkerboards, and its last layer has no
tanh, because scans reach a little beyond the range to which they were normalised.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan.networks.layers import (
    ACTIVATION_GAIN,
    activated,
    as_shape,
    checked_stages,
    convolution,
    head_from_volume,
    linear,
    minibatch_layer,
    start_in_air,
    start_without_detail,
    volume_from_head,
)
from medgan.networks.resample import Resample
from medgan.networks.stages import strides

NORMALISATIONS = ("batch", "instance", "none", "spectral")
# Standard deviation of untrained samples: a scan normalised to [-1, 1] has about that.
_START = 0.5


def _centres(normalisation: str) -> bool:
    """Whether it takes away what a bias before it would add."""
    return normalisation in ("batch", "instance")


class _Rectified(nn.Sequential):
    """Layers in a row, and the leaky rectifier behind them."""

    recomputable = True

    def forward(self, x: Tensor) -> Tensor:
        return activated(super().forward(x))


def _normalised(layer: nn.Module, channels: int, normalisation: str) -> _Rectified:
    """A layer with its normalisation, behind it or of its weights, and the rectifier."""
    if normalisation == "batch":
        return _Rectified(layer, nn.BatchNorm3d(channels))
    if normalisation == "instance":
        return _Rectified(layer, nn.InstanceNorm3d(channels, affine=True))
    if normalisation == "spectral":
        return _Rectified(spectral_norm(layer))
    if normalisation == "none":
        return _Rectified(layer)
    raise ValueError(f"normalisation is '{normalisation}', it must be one of {', '.join(NORMALISATIONS)}")


class DCGANGenerator(nn.Module):
    """Latent vectors to volumes.

    Args:
        shapes: spatial shapes of the stages, coarsest first; the last is that of the volume, or of its sub-bands with
            the Haar head.
        channels: feature channels of each stage, coarsest first.
        out_shape: spatial shape of the volume.
        latent_size: length of the latent vector.
        normalisation: "batch", "instance", "none", or "spectral" (of the weights; Miyato et al. 2018).
        haar_head: whether the last layer predicts the eight Haar sub-bands of the volume.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        latent_size: int = 64,
        normalisation: str = "batch",
        haar_head: bool = False,
    ) -> None:
        super().__init__()
        stages = checked_stages(shapes, channels)
        self.arguments: dict[str, Any] = {
            "shapes": [list(shape) for shape in stages],
            "channels": list(channels),
            "out_shape": list(out_shape),
            "latent_size": latent_size,
            "normalisation": normalisation,
            "haar_head": haar_head,
        }
        self.latent_size, self.haar_head = latent_size, haar_head
        self.out_shape, self.base = as_shape(out_shape), (channels[0], *stages[0])
        unfold = linear(latent_size, math.prod(self.base), gain=ACTIVATION_GAIN)
        self.unfold = spectral_norm(unfold) if normalisation == "spectral" else unfold
        # The vector becomes a small volume before it is normalised, so that a channel has one scale everywhere.
        self.first = _normalised(nn.Identity(), channels[0], "none" if normalisation == "spectral" else normalisation)
        self.grow = nn.ModuleList(Resample(before, after) for before, after in itertools.pairwise(stages))
        self.stages = nn.ModuleList(
            _normalised(
                convolution(before, after, 3, gain=ACTIVATION_GAIN, bias=not _centres(normalisation)),
                after,
                normalisation,
            )
            for before, after in itertools.pairwise(channels)
        )
        self.head = convolution(channels[-1], 8 if haar_head else 1, 3, gain=_START)
        if haar_head:
            start_without_detail(self.head.weight)
        start_in_air(self.head.bias, haar_head=haar_head)  # type: ignore[arg-type]

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_size), standard normal, to volumes (B, 1, X, Y, Z) in about [-1, 1]."""
        x = self.unfold(latents).unflatten(1, self.base).contiguous(memory_format=torch.channels_last_3d)
        x = self.first(x)
        for grow, stage in zip(self.grow, self.stages, strict=True):
            x = stage(grow(x).contiguous(memory_format=torch.channels_last_3d))
        return volume_from_head(self.head(x), self.out_shape, haar_head=self.haar_head)


class DCGANDiscriminator(nn.Module):
    """Volumes to one logit each, by convolutions with strides.

    Args:
        shapes: as in `DCGANGenerator`.
        channels: as in `DCGANGenerator`.
        out_shape: spatial shape of the volumes that it judges.
        normalisation: as in `DCGANGenerator`; batch statistics tie the volumes of a batch together, which gradient
            penalties do not allow for. The first and the last layer have none (Radford et al. 2015, section 3).
        minibatch_statistics: what it sees of the other volumes in the batch: "none", "deviation" or "discrimination".
        haar_head: whether it looks at the eight Haar sub-bands of the volume.
        outputs: numbers for each volume; more than one make it an encoder.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        normalisation: str = "none",
        minibatch_statistics: str = "none",
        haar_head: bool = False,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        stages, widths = checked_stages(shapes, channels)[::-1], list(channels)[::-1]
        self.arguments: dict[str, Any] = {
            "shapes": [list(shape) for shape in shapes],
            "channels": list(channels),
            "out_shape": list(out_shape),
            "normalisation": normalisation,
            "minibatch_statistics": minibatch_statistics,
            "haar_head": haar_head,
            "outputs": outputs,
        }
        self.haar_head = haar_head
        self.mixes_batch = normalisation == "batch" or minibatch_statistics != "none"
        outer = "spectral" if normalisation == "spectral" else "none"
        stem = convolution(8 if haar_head else 1, widths[0], 3, gain=ACTIVATION_GAIN)
        layers: list[nn.Module] = [_normalised(stem, widths[0], outer)]
        for (before, after), (wide, wider) in zip(itertools.pairwise(stages), itertools.pairwise(widths), strict=True):
            stride = strides(before, after)
            layer = convolution(wide, wider, 3, stride=stride, gain=ACTIVATION_GAIN, bias=not _centres(normalisation))
            layers.append(_normalised(layer, wider, normalisation))
        self.layers = nn.ModuleList(layers)
        self.described = [(widths[-1], *stages[-1])]
        self.statistics, added = minibatch_layer(minibatch_statistics, widths[-1], stages[-1])
        score = linear((widths[-1] + added) * math.prod(stages[-1]), outputs)
        self.score = spectral_norm(score) if normalisation == "spectral" else score

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes (B, 1, X, Y, Z) in about [-1, 1] to logits (B, 1), or (B, outputs)."""
        return self.features(volumes)[-1]

    def features(self, volumes: Tensor) -> list[Tensor]:
        """What each stage makes of volumes (B, 1, X, Y, Z): (B, channels, ...), finest first; then the logits."""
        x = head_from_volume(volumes, haar_head=self.haar_head)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        seen = []
        for layer in self.layers:
            x = layer(x)
            seen.append(x)
        return [*seen, self.score(self.statistics(x).flatten(1))]
