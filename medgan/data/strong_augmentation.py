"""Strong ordinary augmentation of scans and their label maps: places, shapes and intensities.

Synthetic data are worth what they add to this. Every random number is drawn on the CPU from one generator, so that a
batch is the same on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from medgan.geometry import Spacing


@dataclass(frozen=True)
class Strengths:
    """How much each augmentation may change; 0 leaves it out.

    Args:
        rotation: largest angle about each axis, degrees.
        scaling: largest factor of size in either direction, minus 1.
        translation: largest share of the field of view.
        bending: root mean square displacement of the random deformation, as a share of the field of view.
        gamma: largest logarithm of the exponent of intensities.
        contrast: largest change of contrast and of brightness, in units of the scan's range.
        bias: largest logarithm of the smooth gain across the scan.
        noise: largest standard deviation.
        blur: largest weight of the mean over the neighbours.
        flip: mirror left to right half of the time.
    """

    rotation: float = 20.0
    scaling: float = 0.2
    translation: float = 0.06
    bending: float = 0.03
    gamma: float = 0.4
    contrast: float = 0.2
    bias: float = 0.3
    noise: float = 0.08
    blur: float = 0.8
    flip: bool = False


def augmented(
    volumes: Tensor, labels: Tensor | None, spacing: Spacing, strengths: Strengths, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Scans and their label maps moved and bent alike, and the scans with other intensities.

    Args:
        volumes: (B, 1, X, Y, Z), about 0 to 1.
        labels: (B, X, Y, Z) of whole numbers, or None.
        spacing: mm along X, Y and Z.
        strengths: how much.
        generator: on the CPU.

    Returns:
        The same shapes; labels by nearest neighbour. What comes from outside the volume repeats its border.
    """
    places = _places(volumes, spacing, strengths, generator)
    moved = F.grid_sample(volumes, places, mode="bilinear", padding_mode="border", align_corners=False)
    if labels is not None:
        numbers = labels[:, None].to(volumes.dtype)
        found = F.grid_sample(numbers, places, mode="nearest", padding_mode="border", align_corners=False)
        labels = found[:, 0].round().to(labels.dtype)
    return _other_intensities(moved, strengths, generator), labels


def _places(volumes: Tensor, spacing: Spacing, strengths: Strengths, generator: torch.Generator) -> Tensor:
    """Where each voxel of the result comes from, (B, X, Y, Z, 3) as `grid_sample` takes it: the last axis first."""
    count, shape = len(volumes), volumes.shape[2:]
    sides = torch.tensor([size * step for size, step in zip(shape, spacing, strict=True)])
    axes = [(torch.arange(size) + 0.5) / size * 2 - 1 for size in shape]
    # Rotations are rotations in mm only.
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) * sides / 2
    linear = _linear(count, strengths, generator)
    shift = strengths.translation * sides * _uniform((count, 3), generator)
    at = torch.einsum("bij,xyzj->bxyzi", linear, grid) + shift[:, None, None, None]
    if strengths.bending:
        coarse = torch.randn((count, 3, 4, 4, 4), generator=generator)
        bent = F.interpolate(coarse, tuple(shape), mode="trilinear", align_corners=True)
        bent = bent / bent.square().mean(dim=(2, 3, 4), keepdim=True).sqrt()
        size = strengths.bending * torch.rand((count, 1, 1, 1, 1), generator=generator) * 2
        at = at + (size * bent).movedim(1, -1) * sides / math.sqrt(3)
    if strengths.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        at[mirrored, ..., 0] *= -1
    return (at / (sides / 2)).flip(-1).to(volumes)


def _linear(count: int, strengths: Strengths, generator: torch.Generator) -> Tensor:
    """Rotations about the three axes with a scaling along each, (B, 3, 3)."""
    angles = math.radians(strengths.rotation) * _uniform((count, 3), generator)
    turned = torch.eye(3).expand(count, 3, 3)
    for axis in range(3):
        first, second = [other for other in range(3) if other != axis]
        turn = torch.eye(3).repeat(count, 1, 1)
        turn[:, first, first] = turn[:, second, second] = angles[:, axis].cos()
        turn[:, first, second], turn[:, second, first] = -angles[:, axis].sin(), angles[:, axis].sin()
        turned = turned @ turn
    scales = torch.exp(math.log1p(strengths.scaling) * _uniform((count, 3), generator))
    return turned @ torch.diag_embed(scales)


def _other_intensities(volumes: Tensor, strengths: Strengths, generator: torch.Generator) -> Tensor:
    """Blur, gamma, gain across the scan, contrast, brightness, noise; each for half of the scans."""
    count = len(volumes)

    def amounts(largest: float) -> Tensor:
        """Of each scan from -largest to largest, zero for half of them."""
        chosen = (torch.rand(count, generator=generator) < 0.5).float()
        return (largest * chosen * _uniform((count,), generator)).view(count, 1, 1, 1, 1).to(volumes)

    mean = F.avg_pool3d(F.pad(volumes, (1,) * 6, mode="replicate"), 3, stride=1)
    changed = volumes.lerp(mean, amounts(strengths.blur).abs())
    # Powers of what lies within the range; what lies beyond keeps its distance to it.
    inside = changed.clamp(0, 1)
    changed = changed + (inside.clamp(min=1e-6) ** amounts(strengths.gamma).exp() - inside)
    coarse = _uniform((count, 1, 3, 3, 3), generator)
    gain = F.interpolate(coarse, tuple(volumes.shape[2:]), mode="trilinear", align_corners=True).to(volumes)
    changed = changed * (amounts(strengths.bias) * gain).exp()
    changed = changed * (1 + amounts(strengths.contrast)) + amounts(strengths.contrast) / 2
    noise = torch.randn(volumes.shape, generator=generator).to(volumes)
    return changed + amounts(strengths.noise).abs() * noise


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """From -1 to 1."""
    return 2 * torch.rand(shape, generator=generator) - 1
