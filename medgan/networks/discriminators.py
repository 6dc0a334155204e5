"""Discriminators that judge local texture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Volumes to a grid of logits, one for each overlapping neighbourhood (Isola et al. 2017), with spectral
    normalisation.

    It sees the candidate beside the volume that it was made from, so that it judges whether the added detail fits; with
    one channel, the candidate alone.

    Args:
        width: feature channels of the first convolution; they double with each halving.
        halvings: how many times the resolution is halved.
        in_channels: channels of candidate and condition together.
    """

    def __init__(self, *, width: int = 32, halvings: int = 2, in_channels: int = 2) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"width": width, "halvings": halvings, "in_channels": in_channels}
        layers: list[nn.Module] = [nn.Conv3d(in_channels, width, 3, padding=1)]
        for _ in range(halvings):
            layers += [
                nn.LeakyReLU(_SLOPE),
                spectral_norm(nn.Conv3d(width, 2 * width, 4, stride=2, padding=1)),
            ]
            width *= 2
        layers += [nn.LeakyReLU(_SLOPE), spectral_norm(nn.Conv3d(width, 1, 3, padding=1))]
        self.layers = nn.Sequential(*layers)

    def forward(self, candidate: Tensor, condition: Tensor | None = None) -> Tensor:
        """One or two volumes (B, 1, X, Y, Z) of one shape to logits (B, 1, X/2^h, Y/2^h, Z/2^h)."""
        return self.features(candidate, condition)[-1]

    def features(self, candidate: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """What each convolution makes of one or two volumes (B, 1, X, Y, Z): tensors (B, channels, ...) from the finest
        to the coarsest resolution, after their activation; the last one are the logits.
        """
        x = candidate if condition is None else torch.cat((candidate, condition), dim=1)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        seen = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                seen.append(x)
        return [*seen, x]
