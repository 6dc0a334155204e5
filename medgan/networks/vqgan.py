"""Scans as codes (Esser et al. 2020, arXiv:2012.09841, in 3D): an autoencoder with a codebook, and a prior that draws
codes.

An encoder turns a volume into a small grid of codes, a decoder turns codes into a volume. The prior is trained on the
codes of scans, and what it draws is decoded. Each code is drawn by one number of the latent vector, so that a sample is
a function of its latent vector here too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medgan.networks.code_prior import CodePrior
from medgan.networks.codebook import Codebook
from medgan.networks.layers import (
    ACTIVATION_GAIN,
    activated,
    as_shape,
    checked_stages,
    convolution,
    head_from_volume,
    start_in_air,
    start_without_detail,
    volume_from_head,
)
from medgan.networks.resample import Resample
from medgan.networks.stages import strides

_START = 0.5
"""Standard deviation of untrained volumes; see `medgan.networks.dcgan`."""
_QUIET = 0.1
"""Gain of the layers that end a residual unit, so that deep stacks begin near the identity."""


class Reconstruction(NamedTuple):
    """What an autoencoder makes of volumes.

    Args:
        volumes: (B, 1, X, Y, Z).
        codes: (B, x, y, z), whole numbers.
        commitment: distance of the encoder's features from the codes' vectors, a scalar.
    """

    volumes: Tensor
    codes: Tensor
    commitment: Tensor


class _Unit(nn.Module):
    """Two convolutions, added to what came in."""

    recomputable = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels, 3, gain=ACTIVATION_GAIN)
        self.second = convolution(channels, channels, 3, gain=_QUIET)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, channels, X, Y, Z) to the same."""
        return x + self.second(activated(self.first(activated(x))))


def _units(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(_Unit(channels) for _ in range(blocks)))


class CodeAutoencoder(nn.Module):
    """Volumes to codes and back.

    Args:
        shapes: spatial shapes of the stages, coarsest first: from the grid of codes to the volume, or to its sub-bands
            with the Haar head.
        channels: feature channels of each stage, coarsest first.
        out_shape: spatial shape of the volume.
        blocks: residual units of each stage but the finest.
        codebook_size: how many codes there are.
        code_channels: numbers that a code stands for.
        haar_head: whether it works on the eight Haar sub-bands of the volume.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        blocks: int = 2,
        codebook_size: int = 256,
        code_channels: int = 16,
        haar_head: bool = False,
    ) -> None:
        super().__init__()
        stages, bands = checked_stages(shapes, channels), 8 if haar_head else 1
        self.grid, self.out_shape, self.haar_head = stages[0], as_shape(out_shape), haar_head
        self.stem = convolution(bands, channels[-1], 3, gain=ACTIVATION_GAIN)
        self.shrink, self.encoding = nn.ModuleList(), nn.ModuleList()
        upwards, widths = stages[::-1], list(channels)[::-1]
        for (before, after), (wide, wider) in zip(itertools.pairwise(upwards), itertools.pairwise(widths), strict=True):
            stride = strides(before, after)
            self.shrink.append(convolution(wide, wider, 3, stride=stride, gain=ACTIVATION_GAIN))
            self.encoding.append(_units(wider, blocks))
        self.to_codes = convolution(channels[0], code_channels, 1, gain=ACTIVATION_GAIN)
        self.codebook = Codebook(codebook_size, code_channels)
        self.from_codes = convolution(code_channels, channels[0], 3)
        self.decoding = nn.ModuleList(_units(wide, blocks) for wide in channels[:-1])
        self.grow = nn.ModuleList(Resample(before, after) for before, after in itertools.pairwise(stages))
        self.narrow = nn.ModuleList(
            convolution(before, after, 3, gain=ACTIVATION_GAIN) for before, after in itertools.pairwise(channels)
        )
        self.head = convolution(channels[-1], bands, 3, gain=_START)
        if haar_head:
            start_without_detail(self.head.weight)
        start_in_air(self.head.bias, haar_head=haar_head)  # type: ignore[arg-type]

    def features(self, volumes: Tensor) -> Tensor:
        """Volumes (B, 1, X, Y, Z) in about [-1, 1] to the features that are quantised, (B, code_channels, *grid)."""
        x = head_from_volume(volumes, haar_head=self.haar_head)
        x = activated(self.stem(x.contiguous(memory_format=torch.channels_last_3d)))
        for shrink, units in zip(self.shrink, self.encoding, strict=True):
            x = units(shrink(x))
        return self.to_codes(activated(x))

    def codes(self, volumes: Tensor) -> Tensor:
        """Volumes (B, 1, X, Y, Z) in about [-1, 1] to codes (B, *grid), whole numbers; the codebook stays as it is."""
        return self.codebook.nearest(self.features(volumes))

    def decoded(self, codes: Tensor) -> Tensor:
        """Codes (B, *grid) to volumes (B, 1, X, Y, Z) in about [-1, 1]."""
        return self._volumes(self.codebook.looked_up(codes))

    def _volumes(self, features: Tensor) -> Tensor:
        x = self.from_codes(features)
        for units, grow, narrow in zip(self.decoding, self.grow, self.narrow, strict=True):
            x = activated(units(x))
            x = narrow(grow(x).contiguous(memory_format=torch.channels_last_3d))
        return volume_from_head(self.head(activated(x)), self.out_shape, haar_head=self.haar_head)

    def forward(self, volumes: Tensor, *, learn: bool = False) -> Reconstruction:
        """Volumes (B, 1, X, Y, Z) in about [-1, 1] to codes and back.

        Args:
            volumes: scans.
            learn: whether the codebook follows the encoder.
        """
        quantised = self.codebook(self.features(volumes), learn=learn)
        return Reconstruction(self._volumes(quantised.features), quantised.codes, quantised.commitment)


class CodeGenerator(nn.Module):
    """Latent vectors to volumes by way of codes.

    Args:
        shapes: see `CodeAutoencoder`, as all but the following.
        channels: see there.
        out_shape: see there.
        blocks: see there.
        codebook_size: see there.
        code_channels: see there.
        haar_head: see there.
        prior_width: see `CodePrior`, as the following.
        prior_layers: see there.
        prior_heads: see there.
        prior_dropout: see there.
    """

    truncates_codes = True
    """`forward` takes `truncation`, as a temperature: a factor on latent vectors would favour codes by their number."""
    prior_trained: Tensor

    def __init__(
        self, *, prior_width: int, prior_layers: int, prior_heads: int, prior_dropout: float = 0.0, **autoencoder: Any
    ) -> None:
        super().__init__()
        self.autoencoder = CodeAutoencoder(**autoencoder)
        self.prior = CodePrior(
            grid=self.autoencoder.grid,
            codebook_size=self.autoencoder.codebook.size,
            width=prior_width,
            layers=prior_layers,
            heads=prior_heads,
            dropout=prior_dropout,
        )
        self.latent_size = math.prod(self.autoencoder.grid)
        self.arguments: dict[str, Any] = {
            **autoencoder,
            "prior_width": prior_width,
            "prior_layers": prior_layers,
            "prior_heads": prior_heads,
            "prior_dropout": prior_dropout,
        }
        # Before its prior is trained it makes no samples that mean anything; it can only reconstruct.
        self.register_buffer("prior_trained", torch.zeros((), dtype=torch.uint8))

    def forward(self, latents: Tensor, *, truncation: float = 1.0) -> Tensor:
        """Latents (B, latent_size), standard normal, to volumes (B, 1, X, Y, Z) in about [-1, 1].

        A volume does not depend on the others in the batch: its codes are drawn in double precision, and it is decoded
        alone.

        Args:
            latents: one number for each code, in raster order.
            truncation: temperature of the codes' probabilities; below 1 samples are more typical and less diverse.
        """
        # Apple's devices have no double precision.
        exact = latents.cpu() if latents.device.type == "mps" else latents
        uniform = torch.special.ndtr(exact.double())
        codes = self.prior.drawn(uniform, temperature=truncation).to(latents.device)
        codes = codes.unflatten(1, self.autoencoder.grid)
        return torch.cat([self.autoencoder.decoded(one) for one in codes.split(1)])


def makes_samples(generator: nn.Module) -> bool:
    """Whether what a generator makes are samples already: not so while only the autoencoder of a `CodeGenerator` is
    trained.
    """
    return not isinstance(generator, CodeGenerator) or bool(generator.prior_trained)
