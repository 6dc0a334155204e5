"""Random changes to volumes before a discriminator sees them, differentiable, each volume on its own.

The pipeline of adaptive discriminator augmentation (Karras et al. 2020, arXiv:2006.06676) carried to volumes: what
moves voxels is one affine resampling in millimetres, so that anisotropic voxels do not shear what is rotated; what
changes intensities is what scanners do. Each change happens to each volume with a probability below 1, so that a
generator that shows the changes itself would be found out. All arithmetic is at least float32, whatever autocast asks
for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medgan.geometry import Spacing
from medgan.recipe import AugmentationOptions

# Below this intensity the gamma curve is a straight line: a power below one has no finite slope at zero.
_TOE = 0.02
# Half periods of the fastest cosine of a shading, along each axis.
_SHADING_ORDER = 2


def augmented(
    volumes: Tensor, probability: Tensor | float, options: AugmentationOptions, *, spacing: Spacing, flip: bool
) -> Tensor:
    """Volumes after random changes, drawn from PyTorch's random state.

    Args:
        volumes: (B, 1, X, Y, Z) in about [-1, 1], air at -1.
        probability: of each change at each volume, in [0, 1]; at 0 the volumes come back bit for bit.
        options: how large the changes may be; its `kind`, `probability` and controller are not used here.
        spacing: of the volumes, mm.
        flip: whether the first axis (left to right) may be mirrored.

    Returns:
        The same shape, at least float32, differentiable with respect to the volumes.
    """
    with torch.autocast(volumes.device.type, enabled=False):
        volumes = volumes.to(torch.promote_types(volumes.dtype, torch.float32))
        moved = _moved(volumes, probability, options, spacing=spacing, flip=flip)
        return _recoloured(moved, probability, options)


def _chosen(volumes: Tensor, probability: Tensor | float) -> Tensor:
    """For each volume whether a change happens to it, shape (B, 1, 1, 1, 1), boolean."""
    return (torch.rand(len(volumes), device=volumes.device) < probability).view(-1, 1, 1, 1, 1)


def _between(volumes: Tensor, low: float, high: float, *size: int) -> Tensor:
    """Uniform random numbers, shape (B, *size)."""
    return low + (high - low) * torch.rand(len(volumes), *size, device=volumes.device, dtype=volumes.dtype)


def _moved(
    volumes: Tensor, probability: Tensor | float, options: AugmentationOptions, *, spacing: Spacing, flip: bool
) -> Tensor:
    """Mirrored, rotated, scaled and shifted at random; those that nothing happens to are not interpolated."""
    if flip:
        # Mirroring takes voxels to voxels: interpolating there would only add rounding.
        volumes = torch.where(_chosen(volumes, 0.5 * probability), volumes.flip(2), volumes)
    if not (options.rotation or options.scale or options.shift):
        return volumes
    turned, resized, shifted = (_chosen(volumes, probability) for _ in range(3))
    limit, growth = math.radians(options.rotation), math.log1p(options.scale)
    angles = _between(volumes, -limit, limit, 3) * turned.view(-1, 1)
    factors = (_between(volumes, -growth, growth) * resized.flatten()).exp()
    shares = _between(volumes, -options.shift, options.shift, 3) * shifted.view(-1, 1)
    sizes = volumes.new_tensor([step * count for step, count in zip(spacing, volumes.shape[2:], strict=True)])
    matrices = rotation_matrices(angles) * factors.view(-1, 1, 1)
    resampled = affinely_resampled(volumes, matrices, shares * sizes, spacing=spacing)
    return torch.where(turned | resized | shifted, resampled, volumes)


def rotation_matrices(angles: Tensor) -> Tensor:
    """Rotations about the first, then the second, then the third axis.

    Args:
        angles: (B, 3), radians; positive ones turn the next axis (in cyclic order) towards the one after it.

    Returns:
        Shape (B, 3, 3), to be multiplied with column vectors.
    """
    cosines, sines = angles.cos().unbind(1), angles.sin().unbind(1)
    total = torch.eye(3, dtype=angles.dtype, device=angles.device).expand(len(angles), 3, 3)
    for axis, (c, s) in enumerate(zip(cosines, sines, strict=True)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.zeros_like(total)
        turn[:, axis, axis] = 1.0
        turn[:, first, first], turn[:, second, second] = c, c
        turn[:, first, second], turn[:, second, first] = -s, s
        total = turn @ total
    return total


def affinely_resampled(volumes: Tensor, matrices: Tensor, shifts: Tensor, *, spacing: Spacing) -> Tensor:
    """Linear interpolation where an affine map in millimetres leads; beyond its edges a volume is mirrored.

    Args:
        volumes: (B, C, X, Y, Z).
        matrices: (B, 3, 3). The output at offset q (mm) from the centre of the field of view is the input at
            `matrix @ q + shift`, as in scipy.ndimage.affine_transform.
        shifts: (B, 3), mm.
        spacing: of the volumes, mm.

    Returns:
        The same shape, differentiable with respect to the volumes, not to the map.
    """
    sizes = volumes.new_tensor([step * count for step, count in zip(spacing, volumes.shape[2:], strict=True)])
    # In units of half a field of view, which run from -1 to 1 between the outer edges of the outer voxels.
    matrices = matrices * sizes / sizes[:, None]
    shifts = 2 * shifts / sizes
    # The library names axes from the last to the first.
    theta = torch.cat((matrices.flip(1, 2), shifts.flip(1)[:, :, None]), dim=2)
    grid = F.affine_grid(theta.to(volumes.dtype), list(volumes.shape), align_corners=False)
    if volumes.is_cuda and torch.are_deterministic_algorithms_enabled():
        return _gathered(volumes, grid)
    return F.grid_sample(volumes, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _gathered(volumes: Tensor, grid: Tensor) -> Tensor:
    """The same as the library's grid sampling, whose backward pass has no deterministic form on a GPU.

    Args:
        volumes: (B, C, X, Y, Z).
        grid: (B, X, Y, Z, 3), in [-1, 1] between the outer edges, the last axis first.
    """
    batch, channels, *shape = volumes.shape
    corners = []
    for axis, count in enumerate(shape):
        place = ((grid[..., 2 - axis] + 1) * count - 1) / 2
        # Mirrored at the outer edges, over and over.
        place = count - 0.5 - ((place + 0.5).remainder(2 * count) - count).abs()
        place = place.clamp(0, count - 1)
        low = place.floor()
        share = place - low
        high = (low + 1).clamp_max(count - 1)
        corners.append(((low.long(), 1 - share), (high.long(), share)))
    flat, total = volumes.flatten(2), torch.zeros_like(volumes)
    for x, along_x in corners[0]:
        for y, along_y in corners[1]:
            for z, along_z in corners[2]:
                index = ((x * shape[1] + y) * shape[2] + z).view(batch, 1, -1).expand(-1, channels, -1)
                weight = (along_x * along_y * along_z)[:, None]
                total = total + weight * flat.gather(2, index).view_as(volumes)
    return total


def _recoloured(volumes: Tensor, probability: Tensor | float, options: AugmentationOptions) -> Tensor:
    """Other intensities at random: scale, gamma, shading, noise, cut-out; those without a change stay as they are."""
    intensity, touched = 0.5 * (volumes + 1), torch.zeros_like(volumes[:, :1, :1, :1, :1], dtype=torch.bool)

    if options.intensity:
        now, limit = _chosen(volumes, probability), math.log1p(options.intensity)
        factors = _between(volumes, -limit, limit, 1, 1, 1, 1).exp()
        intensity, touched = torch.where(now, intensity * factors, intensity), touched | now
    if options.gamma:
        now, limit = _chosen(volumes, probability), math.log1p(options.gamma)
        exponents = _between(volumes, -limit, limit, 1, 1, 1, 1).exp()
        intensity, touched = torch.where(now, gamma_curve(intensity, exponents), intensity), touched | now
    if options.bias_field:
        now = _chosen(volumes, probability)
        numbers = torch.randn(len(volumes), *[_SHADING_ORDER + 1] * 3, device=volumes.device, dtype=volumes.dtype)
        fields = shading(options.bias_field * numbers, volumes.shape[2:])
        intensity, touched = torch.where(now, intensity * fields, intensity), touched | now
    if options.noise:
        now, deviation = _chosen(volumes, probability), _between(volumes, 0.0, options.noise, 1, 1, 1, 1)
        noisy = intensity + deviation * torch.randn_like(intensity)
        intensity, touched = torch.where(now, noisy, intensity), touched | now
    if options.cutout:
        now = _chosen(volumes, probability)
        outside = ~boxes(_between(volumes, 0.0, 1.0, 3), volumes.shape[2:], side=options.cutout)
        intensity, touched = torch.where(now, intensity * outside, intensity), touched | now
    return torch.where(touched, 2 * intensity - 1, volumes)


def gamma_curve(intensity: Tensor, exponents: Tensor) -> Tensor:
    """Intensity to the power of `exponents`, which keeps 0 and 1; a straight line below 2 % and for negative values.

    Args:
        intensity: any shape, in about [0, 1].
        exponents: positive, of a shape that broadcasts.
    """
    power = intensity.clamp_min(_TOE) ** exponents
    return torch.where(intensity > _TOE, power, intensity * _TOE ** (exponents - 1))


def shading(numbers: Tensor, shape: Sequence[int]) -> Tensor:
    """Smooth positive fields with a geometric mean of one, shape (B, 1, X, Y, Z).

    The logarithm is a sum of half-period cosines across the field of view, each weighted by a number over 1 + the
    squared half periods in all; independent normal numbers of standard deviation s give it the root mean square s.

    Args:
        numbers: (B, n, n, n), for 0 to n - 1 half periods along each axis; the first one is not used.
        shape: voxels along each axis.
    """
    count = numbers.shape[1]
    periods = torch.arange(count, dtype=numbers.dtype, device=numbers.device)
    weights = 1 / (1 + periods[:, None, None] ** 2 + periods[:, None] ** 2 + periods**2)
    weights[0, 0, 0] = 0.0
    # The mean square of a cosine is one half, that of the constant one.
    power = torch.where(periods > 0, 0.5, 1.0).to(numbers.dtype)
    weights = weights / (weights.square() * power[:, None, None] * power[:, None] * power).sum().sqrt()
    bases = []
    for size in shape:
        places = (torch.arange(size, dtype=numbers.dtype, device=numbers.device) + 0.5) / size
        bases.append((math.pi * periods[:, None] * places).cos())
    return torch.einsum("nabc,ax,by,cz->nxyz", numbers * weights, *bases).exp()[:, None]


def boxes(centres: Tensor, shape: Sequence[int], *, side: float) -> Tensor:
    """One box per volume, shape (B, 1, X, Y, Z), true inside.

    Args:
        centres: (B, 3), as shares of the field of view.
        shape: voxels along each axis.
        side: of the box along each axis, as a share of the field of view; parts beyond its edge are lost.
    """
    inside = torch.ones(1, 1, 1, 1, 1, dtype=torch.bool, device=centres.device)
    for axis, size in enumerate(shape):
        places = (torch.arange(size, dtype=centres.dtype, device=centres.device) + 0.5) / size
        near = (places - centres[:, axis, None]).abs() < 0.5 * side
        view = [len(centres), 1, 1, 1, 1]
        view[axis + 2] = size
        inside = inside & near.view(view)
    return inside
