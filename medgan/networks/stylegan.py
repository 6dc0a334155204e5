"""A style-based generator and its discriminator (Karras et al. 2018, 2019), in 3D.

A mapping network turns the latent vector into a style, which scales the features of every convolution; noise adds what
differs between two scans of the same style. Modulation scales activations before the convolution and demodulates them
after it, which is the same function as modulated weights, but shares one kernel in the batch: grouped 3D convolutions
are slow everywhere.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.networks.layers import (
    ACTIVATION_GAIN,
    SLOPE,
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

# The mapping network learns this much slower than the rest (Karras et al. 2018, appendix C).
_MAPPING_RATE = 0.01
# Weight of the past in the moving average of styles, per batch.
_STYLE_MEMORY = 0.995
_START = 0.5


class MappingNetwork(nn.Module):
    """Latent vectors (B, latent_size) to styles (B, style_size).

    Args:
        latent_size: length of the latent vector.
        style_size: length of a style.
        layers: fully connected layers.
    """

    def __init__(self, latent_size: int, style_size: int, layers: int) -> None:
        super().__init__()
        sizes = [latent_size] + [style_size] * layers
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(after, before) / _MAPPING_RATE) for before, after in itertools.pairwise(sizes)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes[1:])

    def forward(self, latents: Tensor) -> Tensor:
        """Directions of the latent vectors alone count: they are normalised first."""
        x = pixel_norm(latents)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            gain = ACTIVATION_GAIN * _MAPPING_RATE / math.sqrt(weight.shape[1])
            x = activated(F.linear(x, weight * gain, bias * _MAPPING_RATE))
        return x


class ModulatedConvolution(nn.Module):
    """A convolution whose input channels are scaled by the style, its output brought back to unit variance.

    Args:
        source: channels in.
        target: channels out.
        kernel: voxels along each axis, odd.
        style_size: length of a style.
        demodulate: whether the output is divided by the norm of the scaled weights.
        gain: factor on the initial weights.
    """

    def __init__(
        self, source: int, target: int, kernel: int, *, style_size: int, demodulate: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(gain * torch.randn(target, source, *[kernel] * 3) / math.sqrt(source * kernel**3))
        self.scale = linear(style_size, source)
        nn.init.ones_(self.scale.bias)
        self.padding, self.demodulate = kernel // 2, demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Shape (B, source, X, Y, Z) and styles (B, style_size) to (B, target, X, Y, Z)."""
        scale = self.scale(style)
        x = x * scale[:, :, None, None, None].to(x.dtype)
        x = F.conv3d(x, self.weight, padding=self.padding)
        if self.demodulate:
            # The norm of the modulated weights, without ever making them.
            squares = self.weight.square().sum(dim=(2, 3, 4))
            norm = (scale.float().square() @ squares.float().t() + 1e-8).rsqrt()
            x = x * norm[:, :, None, None, None].to(x.dtype)
        return x


class _StyledLayer(nn.Module):
    """Modulated convolution, noise, bias, rectifier."""

    recomputable = True

    def __init__(self, source: int, target: int, *, style_size: int, noise: bool) -> None:
        super().__init__()
        self.convolution = ModulatedConvolution(source, target, 3, style_size=style_size)
        self.bias = nn.Parameter(torch.zeros(target))
        self.strength = nn.Parameter(torch.zeros(())) if noise else None

    def forward(self, x: Tensor, style: Tensor, noise: Noise | None) -> Tensor:
        x = self.convolution(x, style)
        if self.strength is not None and noise is not None:
            x = x + (self.strength * noise.like(x)).to(x.dtype)
        return ACTIVATION_GAIN * activated(x + self.bias.to(x.dtype).view(-1, 1, 1, 1))


class Noise:
    """Standard normal volumes (B, 1, X, Y, Z), one after the other: from PyTorch's state, or a stream per sample."""

    def __init__(self, streams: Sequence[np.random.Generator] | None) -> None:
        self.streams = streams

    def like(self, x: Tensor) -> Tensor:
        """Noise for features (B, C, X, Y, Z)."""
        size = x.shape[2:]
        if self.streams is None:
            return torch.randn(len(x), 1, *size, device=x.device)
        drawn = np.stack([stream.standard_normal(tuple(size), dtype=np.float32) for stream in self.streams])
        return torch.from_numpy(drawn)[:, None].to(x.device)


class BlendedNoise(Noise):
    """The same noise for every sample of a batch: that of several seeds, weighted; none at all without seeds.

    Args:
        parts: weight and seed of each; squares of the weights that add up to one keep the noise standard normal.
    """

    def __init__(self, parts: Sequence[tuple[float, int]]) -> None:
        super().__init__([seeded_stream(seed) for _, seed in parts])
        self.weights = [weight for weight, _ in parts]

    def like(self, x: Tensor) -> Tensor:
        """Shape (1, 1, X, Y, Z) for features (B, C, X, Y, Z)."""
        if not self.streams:
            return torch.zeros(1, 1, *x.shape[2:], device=x.device)
        drawn = [
            weight * stream.standard_normal(tuple(x.shape[2:]), dtype=np.float32)
            for weight, stream in zip(self.weights, self.streams, strict=True)
        ]
        return torch.from_numpy(sum(drawn[1:], start=drawn[0]))[None, None].to(x.device)


def seeded_stream(seed: int) -> np.random.Generator:
    """The stream of one sample's noise."""
    return np.random.Generator(np.random.Philox(seed))


def noise_seeds(latents: Tensor) -> list[int]:
    """One seed for each latent vector (B, latent_size), a function of its values in float32 alone."""
    rows = latents.detach().float().cpu().numpy()
    return [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little") for row in rows]


class StyleGenerator(nn.Module):
    """Latent vectors to volumes.

    Two modulated convolutions per stage; each stage adds to a volume that grows along (the "skip" generator of Karras
    et al. 2019). In training, noise comes from PyTorch's random state and styles of two latent vectors are mixed; in
    evaluation a sample is a function of its latent vector (or its noise seed) alone, whatever else is in the batch.

    Args:
        shapes: spatial shapes of the stages, coarsest first; the last is that of the volume, or of its sub-bands with
            the Haar head.
        channels: feature channels of each stage, coarsest first.
        out_shape: spatial shape of the volume.
        latent_size: length of the latent vector.
        style_size: length of a style.
        mapping_layers: fully connected layers of the mapping network.
        noise: whether layers get noise.
        style_mixing: share of the training samples that are made of two styles.
        haar_head: whether the network predicts the eight Haar sub-bands of the volume.
    """

    truncates_styles = True
    """`forward` takes `truncation`, which pulls styles towards their mean; latent vectors are not to be scaled."""
    mean_style: Tensor

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        latent_size: int = 64,
        style_size: int = 64,
        mapping_layers: int = 4,
        noise: bool = True,
        style_mixing: float = 0.5,
        haar_head: bool = False,
    ) -> None:
        super().__init__()
        stages = checked_stages(shapes, channels)
        self.arguments: dict[str, Any] = {
            "shapes": [list(shape) for shape in stages],
            "channels": list(channels),
            "out_shape": list(out_shape),
            "latent_size": latent_size,
            "style_size": style_size,
            "mapping_layers": mapping_layers,
            "noise": noise,
            "style_mixing": style_mixing,
            "haar_head": haar_head,
        }
        self.latent_size, self.haar_head, self.style_mixing = latent_size, haar_head, style_mixing
        # The last entries of a latent vector that style mixing keeps: embedded labels, which hold for the whole sample.
        self.held_latents = 0
        self.out_shape = as_shape(out_shape)
        self.mapping = MappingNetwork(latent_size, style_size, mapping_layers)
        self.register_buffer("mean_style", torch.zeros(style_size))
        self.constant = nn.Parameter(torch.randn(1, channels[0], *stages[0]))
        steps = list(itertools.pairwise(channels))
        options: dict[str, Any] = {"style_size": style_size, "noise": noise}
        # The first convolution of a stage runs before growing: it reduces the channels at an eighth of the voxels.
        self.before = nn.ModuleList(_StyledLayer(wide, narrow, **options) for wide, narrow in steps)
        self.after = nn.ModuleList(_StyledLayer(width, width, **options) for width in channels)
        self.grow = nn.ModuleList(Resample(coarse, fine) for coarse, fine in itertools.pairwise(stages))
        bands, gain = 8 if haar_head else 1, _START / math.sqrt(len(channels))
        self.heads = nn.ModuleList(
            ModulatedConvolution(width, bands, 1, style_size=style_size, demodulate=False, gain=gain)
            for width in channels
        )
        if haar_head:
            for head in self.heads:
                start_without_detail(head.weight)  # type: ignore[arg-type]
        # Modulated heads have no bias of their own.
        self.level = nn.Parameter(torch.zeros(bands))
        start_in_air(self.level, haar_head=haar_head)
        self.layers = len(self.before) + len(self.after)

    def styles(self, latents: Tensor, *, truncation: float = 1.0, centre: Tensor | None = None) -> Tensor:
        """Latent vectors (B, latent_size) to styles (B, style_size).

        Args:
            latents: standard normal.
            truncation: 1 keeps the style, 0 gives the centre, which is the most typical sample.
            centre: (style_size,) or (B, style_size); the mean style of the training when None.
        """
        styles = self.mapping(latents)
        centre = self.mean_style if centre is None else centre
        return styles if truncation == 1.0 else centre.lerp(styles, truncation)

    def forward(
        self,
        latents: Tensor,
        *,
        truncation: float = 1.0,
        seeds: Sequence[int] | None = None,
        centre: Tensor | None = None,
    ) -> Tensor:
        """Latents (B, latent_size), standard normal, to volumes (B, 1, X, Y, Z) in about [-1, 1].

        Args:
            latents: one per volume.
            truncation: see `styles`.
            seeds: of the noise of each volume in evaluation, so that it can be held while the latent vector moves.
            centre: see `styles`.
        """
        styles = self.styles(latents, truncation=truncation, centre=centre)
        if self.training:
            with torch.no_grad():
                self.mean_style.lerp_(styles.detach().float().mean(dim=0), 1 - _STYLE_MEMORY)
            return self.synthesise(self._mixed(styles, latents[:, self.latent_size - self.held_latents :]))
        return self.synthesise(styles[:, None].expand(-1, self.layers, -1), self.noise_of(latents, seeds))

    def noise_of(self, latents: Tensor, seeds: Sequence[int] | None = None) -> Noise:
        """The noise of samples in evaluation: of these seeds, or of those that latent vectors (B, latent_size) have."""
        return Noise([seeded_stream(seed) for seed in seeds or noise_seeds(latents)])

    def _mixed(self, styles: Tensor, held: Tensor | None = None) -> Tensor:
        """One style per layer (B, layers, style_size): in some samples, the later layers get another one."""
        repeated = styles[:, None].expand(-1, self.layers, -1)
        if self.style_mixing == 0 or self.layers < 2:
            return repeated
        other = torch.randn(len(styles), self.latent_size - self.held_latents, device=styles.device)
        others = self.mapping(other if held is None else torch.cat((other, held), dim=1))
        first = torch.randint(1, self.layers, (len(styles), 1), device=styles.device)
        mixed = torch.rand(len(styles), 1, device=styles.device) < self.style_mixing
        chosen = mixed & (torch.arange(self.layers, device=styles.device) >= first)
        return torch.where(chosen[:, :, None], others[:, None].to(styles.dtype), repeated)

    def synthesise(self, styles: Tensor, noise: Noise | None = None) -> Tensor:
        """Styles per layer (B, layers, style_size) to volumes (B, 1, X, Y, Z).

        Args:
            styles: coarsest layer first; the number of layers is the attribute `layers`.
            noise: where the noise comes from; PyTorch's random state when None.
        """
        noise = noise or Noise(None)
        x = self.constant.expand(len(styles), -1, -1, -1, -1).contiguous(memory_format=torch.channels_last_3d)
        x = self.after[0](x, styles[:, 0], noise)
        out = self.heads[0](x, styles[:, 0])
        later = zip(self.before, self.grow, list(self.after)[1:], list(self.heads)[1:], strict=True)
        for level, (before, grow, after, head) in enumerate(later):
            x = before(x, styles[:, 2 * level + 1], noise)
            x = grow(x).contiguous(memory_format=torch.channels_last_3d)
            x = after(x, styles[:, 2 * level + 2], noise)
            out = grow(out) + head(x, styles[:, 2 * level + 2])
        return volume_from_head(
            out + self.level.to(out.dtype).view(-1, 1, 1, 1), self.out_shape, haar_head=self.haar_head
        )


class _ResidualStage(nn.Module):
    """Two convolutions and a shrinking beside a shrinking alone, at half the variance each."""

    recomputable = True

    def __init__(self, source: int, target: int, shrink: Resample) -> None:
        super().__init__()
        self.first = convolution(source, source, 3, gain=ACTIVATION_GAIN)
        self.second = convolution(source, target, 3, gain=ACTIVATION_GAIN)
        self.skip = convolution(source, target, 1, bias=False)
        self.shrink = shrink

    def forward(self, x: Tensor) -> Tensor:
        y = activated(self.second(activated(self.first(x))))
        total = self.shrink(y) + self.skip(self.shrink(x))
        return (total / math.sqrt(2)).contiguous(memory_format=torch.channels_last_3d)


class ResidualDiscriminator(nn.Module):
    """Volumes to one logit each, by residual stages (Karras et al. 2019).

    Args:
        shapes: as in `StyleGenerator`.
        channels: as in `StyleGenerator`.
        out_shape: spatial shape of the volumes that it judges.
        minibatch_statistics: what it sees of the other volumes in the batch: "none", "deviation" or "discrimination".
        haar_head: whether it looks at the eight Haar sub-bands of the volume.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        out_shape: Sequence[int],
        minibatch_statistics: str = "deviation",
        haar_head: bool = False,
    ) -> None:
        super().__init__()
        stages, widths = checked_stages(shapes, channels)[::-1], list(channels)[::-1]
        self.arguments: dict[str, Any] = {
            "shapes": [list(shape) for shape in shapes],
            "channels": list(channels),
            "out_shape": list(out_shape),
            "minibatch_statistics": minibatch_statistics,
            "haar_head": haar_head,
        }
        self.haar_head, self.mixes_batch = haar_head, minibatch_statistics != "none"
        self.stem = convolution(8 if haar_head else 1, widths[0], 1, gain=ACTIVATION_GAIN)
        self.stages = nn.ModuleList(
            _ResidualStage(wide, wider, Resample(before, after))
            for (wide, wider), (before, after) in zip(
                itertools.pairwise(widths), itertools.pairwise(stages), strict=True
            )
        )
        self.described = [(widths[-1], *stages[-1])]
        self.statistics, added = minibatch_layer(minibatch_statistics, widths[-1], stages[-1])
        self.last = convolution(widths[-1] + added, widths[-1], 3, gain=ACTIVATION_GAIN)
        self.score = nn.Sequential(
            linear(widths[-1] * math.prod(stages[-1]), widths[-1], gain=ACTIVATION_GAIN),
            nn.LeakyReLU(SLOPE),
            linear(widths[-1], 1),
        )

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes (B, 1, X, Y, Z) in about [-1, 1] to logits (B, 1)."""
        return self.features(volumes)[-1]

    def features(self, volumes: Tensor) -> list[Tensor]:
        """What each stage makes of volumes (B, 1, X, Y, Z): (B, channels, ...), finest first; then the logits."""
        x = head_from_volume(volumes, haar_head=self.haar_head)
        seen = [activated(self.stem(x.contiguous(memory_format=torch.channels_last_3d)))]
        for stage in self.stages:
            seen.append(stage(seen[-1]))
        last = activated(self.last(self.statistics(seen[-1])))
        return [*seen, self.score(last.flatten(1))]
