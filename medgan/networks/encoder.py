"""A small convolutional encoder: a volume of any size to a short vector that describes it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.networks.haar import haar

_BANDS = 8
_SLOPE = 0.2
# The mean sub-band of normalised scans is about ten times larger than the others, which hold texture.
_MEAN_SCALE, _DETAIL_SCALE = 0.35, 8.0
_FLOOR = 1e-6


class FeatureEncoder(nn.Module):
    """Volumes to descriptors: convolutions on Haar sub-bands, and of every stage the channels' means and deviations.

    The first stage works at half the resolution, and each further one at half of the one before: a strided convolution
    and a residual one, without normalisation, because contrast and level are among the things to be described. A
    perceptron turns the means and the logarithms of the standard deviations over space into the descriptor, whose
    length therefore does not depend on the volume's size. They are standardised before by what they were in training;
    in evaluation mode nothing mixes the volumes of a batch.

    Args:
        channels: feature channels of each stage.
        hidden: width of the perceptron.
        descriptor: numbers that describe a volume.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 96, 96), hidden: int = 192, descriptor: int = 96) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"channels": list(channels), "hidden": hidden, "descriptor": descriptor}
        if not channels or min(*channels, hidden, descriptor) < 1:
            raise ValueError(f"every size must be at least 1: {self.arguments}")
        self.size = descriptor
        self.first = _convolution(_BANDS, channels[0])
        pairs = list(pairwise(channels))
        self.halvings = nn.ModuleList(_convolution(before, after, stride=2) for before, after in pairs)
        self.refinements = nn.ModuleList(_convolution(after, after) for _, after in pairs)
        moments = 2 * (_BANDS + sum(channels))
        self.perceptron = nn.Sequential(
            nn.BatchNorm1d(moments, affine=False),
            nn.Linear(moments, hidden),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(hidden, descriptor),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for refinement in self.refinements:
            with torch.no_grad():
                refinement.weight.mul_(0.5)  # type: ignore[operator]

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes (B, 1, X, Y, Z), normalised to about [0, 1], to descriptors (B, descriptor)."""
        return self.perceptron(self.statistics(volumes))

    def statistics(self, volumes: Tensor) -> Tensor:
        """Volumes (B, 1, X, Y, Z) to the means and logarithms of the standard deviations of the sub-bands' and all
        stages' channels, (B, 2 * (8 + sum of channels)).
        """
        scale = volumes.new_tensor([_MEAN_SCALE] + [_DETAIL_SCALE] * (_BANDS - 1)).view(1, -1, 1, 1, 1)
        bands = haar(_even(volumes)) * scale
        x = F.leaky_relu(self.first(bands), _SLOPE)
        found = _moments(bands) + _moments(x)
        for halving, refinement in zip(self.halvings, self.refinements, strict=True):
            x = F.leaky_relu(halving(x), _SLOPE)
            x = x + F.leaky_relu(refinement(x), _SLOPE)
            found += _moments(x)
        return torch.cat(found, dim=1)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, padding_mode="replicate")


def _even(volumes: Tensor) -> Tensor:
    """The volumes with odd sides lengthened by their last voxels."""
    x, y, z = volumes.shape[2:]
    if x % 2 or y % 2 or z % 2:
        return F.pad(volumes, (0, z % 2, 0, y % 2, 0, x % 2), mode="replicate")
    return volumes


def _moments(x: Tensor) -> list[Tensor]:
    """Mean and logarithm of the standard deviation of each channel of (B, C, X, Y, Z): two of (B, C)."""
    flat = x.flatten(2).float()
    mean = flat.mean(2)
    variance = (flat - mean[:, :, None]).square().mean(2)
    return [mean, 0.5 * (variance + _FLOOR).log()]
