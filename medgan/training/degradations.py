"""Ways in which a scan can be worse than it was, of known strength: what an encoder learns to recognise.

Every kind takes volumes (B, 1, X, Y, Z), normalised to about [0, 1], and strengths (B,) in [0, 1]; 0 is the weakest
that is worth seeing, 1 plain to everyone, with equal ratios between equal steps. Random numbers are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from medgan.acquisition.bias import bias_field

Degrade = Callable[[Tensor, Tensor], Tensor]
_BLOCKS = (4, 6, 8, 12)
_CONTROL_POINTS = (4, 9)


@dataclass(frozen=True)
class Degradation:
    """One kind.

    Args:
        weakest: amount at strength 0, in the unit of `apply`.
        strongest: amount at strength 1.
        apply: volumes (B, 1, X, Y, Z) and amounts (B,) to volumes.
    """

    weakest: float
    strongest: float
    apply: Degrade

    def __call__(self, volumes: Tensor, strengths: Tensor) -> Tensor:
        """The volumes at these strengths."""
        return self.apply(volumes, self.weakest * (self.strongest / self.weakest) ** strengths)


def blurred(volumes: Tensor, sigmas: Tensor) -> Tensor:
    """A Gaussian of standard deviation `sigmas` voxels along each axis; what lies outside is like the border."""
    for axis in (2, 3, 4):
        volumes = _smoothed(volumes, sigmas, axis)
    return volumes


def blurred_along_one(volumes: Tensor, sigmas: Tensor) -> Tensor:
    """The same along one axis, drawn for all volumes together, as by thick slices."""
    return _smoothed(volumes, sigmas, int(torch.randint(2, 5, ())))


def noisy(volumes: Tensor, deviations: Tensor) -> Tensor:
    """White Gaussian noise."""
    return volumes + _per_volume(deviations) * torch.randn_like(volumes)


def shaded(volumes: Tensor, strengths: Tensor) -> Tensor:
    """Another bias field for each volume, whose logarithm has about `strengths` as root mean square."""
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    fields = bias_field(volumes.shape, generator=generator, strength=1.0, device=volumes.device, dtype=volumes.dtype)
    return volumes * fields ** _per_volume(strengths)


def shuffled(volumes: Tensor, shares: Tensor) -> Tensor:
    """A share of the volume's blocks, all of one size of 4 to 12 voxels, exchange their places."""
    side = _BLOCKS[int(torch.randint(len(_BLOCKS), ()))]
    counts = [size // side for size in volumes.shape[2:]]
    if 0 in counts:
        return volumes
    x, y, z = counts
    inside = volumes[:, 0, : x * side, : y * side, : z * side]
    blocks = inside.reshape(len(volumes), x, side, y, side, z, side)
    blocks = blocks.permute(0, 1, 3, 5, 2, 4, 6).reshape(len(volumes), x * y * z, side, side, side)
    mixed = torch.stack([_exchanged(one, float(share)) for one, share in zip(blocks, shares, strict=True)])
    mixed = mixed.reshape(len(volumes), x, y, z, side, side, side).permute(0, 1, 4, 2, 5, 3, 6)
    result = volumes.clone()
    result[:, 0, : x * side, : y * side, : z * side] = mixed.reshape(inside.shape)
    return result


def warped(volumes: Tensor, amplitudes: Tensor) -> Tensor:
    """Displaced by a smooth random field of root mean square `amplitudes` voxels."""
    shape = volumes.shape[2:]
    points = max(_CONTROL_POINTS[0], int(torch.randint(*_CONTROL_POINTS, ())))
    field = torch.randn(len(volumes), 3, points, points, points, device=volumes.device, dtype=volumes.dtype)
    field = F.interpolate(field, size=shape, mode="trilinear", align_corners=True)
    field = field / field.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt() * _per_volume(amplitudes)
    # Coordinates of grid_sample run from -1 to 1 and are ordered (z, y, x).
    scale = torch.tensor([2.0 / size for size in shape], device=volumes.device, dtype=volumes.dtype)
    offsets = (field * scale.view(1, 3, 1, 1, 1)).flip(1).permute(0, 2, 3, 4, 1)
    identity = torch.eye(3, 4, device=volumes.device, dtype=volumes.dtype).expand(len(volumes), 3, 4)
    places = F.affine_grid(identity, list(volumes.shape), align_corners=False) + offsets
    return F.grid_sample(volumes, places, padding_mode="border", align_corners=False)


def recontrasted(volumes: Tensor, exponents: Tensor) -> Tensor:
    """A power law whose exponent is e to the power of `exponents`, up or down."""
    signs = torch.randint(0, 2, exponents.shape, device=exponents.device) * 2 - 1
    return volumes.sign() * (volumes.abs() + 1e-6) ** _per_volume((signs * exponents).exp())


DEGRADATIONS: Mapping[str, Degradation] = {
    "warp": Degradation(0.15, 3.0, warped),
    "shuffle": Degradation(0.02, 1.0, shuffled),
    "contrast": Degradation(0.03, 0.7, recontrasted),
    "shading": Degradation(0.03, 0.6, shaded),
    "blur": Degradation(0.25, 2.0, blurred),
    "thickness": Degradation(0.35, 3.0, blurred_along_one),
    "noise": Degradation(0.004, 0.2, noisy),
}
"""In the order in which they are applied: what the object does first, what the scanner does last."""


def drawn_strengths(count: int, chance: float) -> Tensor:
    """Strengths (count, kinds) in [0, 1] of volumes; -1 where a kind is absent, present with probability `chance`."""
    shape = (count, len(DEGRADATIONS))
    return torch.where(torch.rand(shape) < chance, torch.rand(shape), -torch.ones(shape))


def degraded(volumes: Tensor, strengths: Tensor) -> Tensor:
    """Volumes (B, 1, X, Y, Z) after all kinds at strengths (B, kinds); those below 0 are left out."""
    result = volumes.clone()
    for column, degradation in enumerate(DEGRADATIONS.values()):
        rows = _present(strengths[:, column])
        if len(rows):
            amounts = strengths[rows, column].to(volumes.device, volumes.dtype)
            result[rows] = degradation(result[rows], amounts)
    return result


def _present(strengths: Tensor) -> Tensor:
    """Numbers of the volumes that have a degradation; of tensors without values, whose memory is estimated, all."""
    if isinstance(strengths, FakeTensor):
        return torch.arange(len(strengths), device=strengths.device)
    return torch.nonzero(strengths >= 0)[:, 0]


def _per_volume(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1, 1)


def _smoothed(volumes: Tensor, sigmas: Tensor, axis: int) -> Tensor:
    """Gaussian smoothing along one axis by a matrix for each volume; its rows sum to one."""
    size = volumes.shape[axis]
    place = torch.arange(size, device=volumes.device, dtype=volumes.dtype)
    distances = (place[:, None] - place[None, :]).square()
    kernels = torch.exp(-0.5 * distances / sigmas.view(-1, 1, 1).square())
    kernels = kernels / kernels.sum(dim=2, keepdim=True)
    last = volumes.movedim(axis, -1)
    flat = last.reshape(len(volumes), -1, size) @ kernels.transpose(1, 2)
    return flat.reshape(last.shape).movedim(-1, axis)


def _exchanged(blocks: Tensor, share: float) -> Tensor:
    """Blocks (N, ...) of which a share, at least two, went to each other's places."""
    moved = torch.randperm(len(blocks))[: max(2, round(share * len(blocks)))].to(blocks.device)
    result = blocks.clone()
    result[moved] = blocks[moved.roll(1)]
    return result
