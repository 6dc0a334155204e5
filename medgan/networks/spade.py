"""A generator of scans from label maps, by spatially adaptive normalisation (Park et al. 2019, arXiv:1903.07291).

Features are normalised and then scaled and shifted by what a small network makes of the label map at each voxel, so
that the labels are not washed out by the normalisation. MONAI's block of that name is not used: it normalises scale and
shift as well (MONAI 1.6), which takes out what a label says wherever it fills the volume, it picks label maps for
coarser stages by the nearest corner, which displaces them by up to half a coarse voxel, and the derivative of that is
not deterministic on a GPU. Here label maps are averaged over coarse voxels, for any pair of sizes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.geometry import Shape, Spacing
from medgan.networks.layers import (
    ACTIVATION_GAIN,
    activated,
    as_shape,
    checked_stages,
    convolution,
    head_from_volume,
    inner_shape,
    linear,
    pixel_norm,
    start_without_detail,
    volume_from_head,
)
from medgan.networks.resample import linear_matrix
from medgan.networks.stages import stage_shapes

NORMALISATIONS = ("instance", "pixel")
# Standard deviation of untrained samples: a scan normalised to [-1, 1] has about that.
_START = 0.5
# Channels in which every voxel is told the latent vector, besides the pattern that it begins with.
_STYLE = 8
# A second convolution that begins small lets blocks begin near the identity.
_LAST_GAIN = 0.1
_BANDS = 8


def spade_arguments(
    shape: Shape, spacing: Spacing, *, width: int, max_width: int, base_size: int, haar_head: bool
) -> dict[str, Any]:
    """The arguments of `SpadeGenerator` that derive from a cohort's shape (voxels) and spacing (mm).

    Raises:
        MedganError: the volumes are too small for the coarsest stage.
    """
    shapes = stage_shapes(inner_shape(shape, haar_head=haar_head), spacing, base_size=base_size)
    widths = [min(max_width, width * 2**level) for level in range(len(shapes))]
    return {"shapes": [list(one) for one in shapes], "channels": widths[::-1], "haar_head": haar_head}


def one_hot(labels: Tensor, count: int) -> Tensor:
    """Label numbers (B, 1, X, Y, Z), whole numbers below `count` of any type, to float32 (B, count, X, Y, Z)."""
    return F.one_hot(labels[:, 0].long(), count).movedim(-1, 1).float()


class SpatialModulation(nn.Module):
    """Normalises features and scales and shifts them at each voxel as a label map's embedding asks.

    Args:
        channels: of the features.
        embedding: channels of the embedding.
        normalisation: "instance" (of each channel over the volume) or "pixel" (of each voxel over the channels).
    """

    def __init__(self, channels: int, embedding: int, normalisation: str) -> None:
        super().__init__()
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation is '{normalisation}', it must be one of {', '.join(NORMALISATIONS)}")
        self.normalisation = normalisation
        self.modulate = convolution(embedding, 2 * channels, 3)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """x (B, channels, X, Y, Z) and the embedding (B, embedding, X, Y, Z) to the shape of x."""
        normal = F.instance_norm(x) if self.normalisation == "instance" else pixel_norm(x)
        scale, shift = self.modulate(embedded).chunk(2, dim=1)
        return torch.addcmul(shift, normal, 1 + scale)


class _Stage(nn.Module):
    """A residual block at one resolution, both of whose convolutions follow a modulation."""

    recomputable = True

    def __init__(self, before: int, channels: int, condition: int, embedding: int, normalisation: str) -> None:
        super().__init__()
        self.widen = convolution(before, channels, 1, bias=False) if before != channels else nn.Identity()
        self.embed = convolution(condition, embedding, 3, gain=ACTIVATION_GAIN)
        self.modulations = nn.ModuleList(SpatialModulation(channels, embedding, normalisation) for _ in range(2))
        self.convolutions = nn.ModuleList(
            convolution(channels, channels, 3, gain=gain * ACTIVATION_GAIN) for gain in (1.0, _LAST_GAIN)
        )

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, before, X, Y, Z) and what is told of labels and style (B, condition, X, Y, Z) to the features of
        this stage and the embedding of what it was told.
        """
        x = features = self.widen(x)
        embedded = activated(self.embed(condition))
        for modulate, convolve in zip(self.modulations, self.convolutions, strict=True):
            features = convolve(activated(modulate(features, embedded)))
        return x + features, embedded


class SpadeGenerator(nn.Module):
    """Latent vectors and label maps to volumes of the label maps' shape, whatever it is.

    What the last layer sees is modulated once more, so that labels reach every voxel by a short way.

    The latent vector decides what a label map leaves open: it becomes the coarse pattern that a volume grows from,
    stretched over its field of view, and is told to every voxel of every stage beside the labels (Schönfeld et al.
    2020, arXiv:2012.04781, tell noise in this way).

    Args:
        labels: how many different labels there are, background included.
        shapes: spatial shapes of the stages for the volumes that it is trained on, coarsest first; the last is that of
            the volume, or of its sub-bands with the Haar head. Other volumes are halved in the same way.
        channels: feature channels of each stage, coarsest first.
        latent_size: length of the latent vector.
        embedding: channels into which each stage turns the label map.
        normalisation: see `SpatialModulation`.
        haar_head: whether it works on Haar sub-bands, of the label map as well.
    """

    def __init__(
        self,
        *,
        labels: int,
        shapes: Sequence[Sequence[int]],
        channels: Sequence[int],
        latent_size: int = 64,
        embedding: int = 16,
        normalisation: str = "instance",
        haar_head: bool = False,
    ) -> None:
        super().__init__()
        stages = checked_stages(shapes, channels)
        self.arguments: dict[str, Any] = {
            "labels": labels,
            "shapes": [list(shape) for shape in stages],
            "channels": list(channels),
            "latent_size": latent_size,
            "embedding": embedding,
            "normalisation": normalisation,
            "haar_head": haar_head,
        }
        self.labels, self.latent_size, self.haar_head = labels, latent_size, haar_head
        self.base, self._strides = (channels[0], *stages[0]), _strides(stages)
        self.unfold = linear(latent_size, math.prod(self.base))
        self.style = linear(latent_size, _STYLE)
        condition = labels * (_BANDS if haar_head else 1) + _STYLE
        self.stages = nn.ModuleList(
            _Stage(before, after, condition, embedding, normalisation)
            for before, after in itertools.pairwise([channels[0], *channels])
        )
        self.last = SpatialModulation(channels[-1], embedding, normalisation)
        self.head = convolution(channels[-1], _BANDS if haar_head else 1, 3, gain=_START)
        if haar_head:
            start_without_detail(self.head.weight)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """A volume for each latent vector and label map.

        Args:
            latents: (B, latent_size), standard normal.
            labels: (B, 1, X, Y, Z), whole numbers below the count of labels, of any type.

        Returns:
            (B, 1, X, Y, Z) in about [-1, 1].
        """
        shape = as_shape(labels.shape[2:])
        finest = head_from_volume(one_hot(labels, self.labels), haar_head=self.haar_head)
        inner = as_shape(finest.shape[2:])
        style = self.style(latents)[:, :, None, None, None]
        x = self.unfold(latents).unflatten(1, self.base)
        embedded = style
        for stage, stride in zip(self.stages, self._strides, strict=True):
            size = as_shape([-(-n // s) for n, s in zip(inner, stride, strict=True)])
            told = torch.cat((_resized(finest, size), style.expand(-1, -1, *size)), dim=1)
            x, embedded = stage(_channels_last(_resized(x, size)), _channels_last(told))
        return volume_from_head(self.head(activated(self.last(x, embedded))), shape, haar_head=self.haar_head)


def _strides(stages: Sequence[Shape]) -> list[tuple[int, ...]]:
    """By how much each stage is coarser than the finest along each axis, coarsest first."""
    strides = [(1, 1, 1)]
    for small, large in itertools.pairwise(stages):
        halved = [2 if a < b else 1 for a, b in zip(small, large, strict=True)]
        strides.append(as_shape(halved))
    # Each entry so far is the step from the stage before; what counts is their product up to the finest.
    return [
        tuple(math.prod(step[axis] for step in strides[level + 1 :]) for axis in range(3))
        for level in range(len(strides))
    ]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


@lru_cache(maxsize=256)
def _matrix(source: int, target: int, device: torch.device) -> Tensor:
    # Made outside inference mode even there, because training may use it later.
    with torch.inference_mode(False):
        return torch.from_numpy(linear_matrix(source, target)).float().to(device)


def _resized(x: Tensor, shape: Shape) -> Tensor:
    """(B, C, X, Y, Z) on another grid of the same field of view, linearly between cell centres, or averaged over the
    larger cells.
    """
    ratios = {axis: shape[axis] / x.shape[axis + 2] for axis in range(3)}
    for axis in sorted(ratios, key=ratios.__getitem__):
        source, target = x.shape[axis + 2], shape[axis]
        if source != target:
            matrix = _matrix(source, target, x.device).to(x.dtype)
            x = torch.movedim(torch.movedim(x, axis + 2, -1) @ matrix.t(), -1, axis + 2)
    return x
