"""A fixed random encoder: turns volumes into a few hundred numbers in which sets of scans can be compared.

Distances between sets of medical volumes usually borrow a network that someone trained on something else. Its weights
must be downloaded, its licence read, and its values change with every release. Random convolutional features need none
of that and still see texture, edges and their arrangement, because every stage mixes the non-linear responses of the
stage before over twice the distance (Naeem et al., "Reliable fidelity and diversity metrics for generative models",
ICML 2020, found random networks the fairer judges away from natural photographs). They see no diagnosis: a small
distance says that two sets look alike, not that a reader could use them alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

if TYPE_CHECKING:
    import torch

Features = NDArray[np.float64]

SMALLEST_SIDE = 8
_COARSEST_SIDE = 4
_CHANNELS = (16, 32, 48, 64, 64, 64, 64, 64)
_SLOPE = 0.2
_SEED = 20180108
_VOXELS_AT_ONCE = 1 << 21
_FEATURES_AT_ONCE = 1 << 20
_ROUNDING = 1e-5


class RandomEncoder:
    """Fixed random 3D convolutions; the features are channel means and standard deviations of every stage.

    A stage is a 3x3x3 convolution with orthonormal filters and a leaky rectifier; between stages every axis longer than
    four voxels is averaged in pairs. Stages follow until no axis is longer than four voxels, so that the last one sees
    the whole volume: four stages and 320 features at 24 to 32 voxels a side, six and 576 at 128. The weights come from
    the bit stream of PCG64, which numpy promises never to change, are made orthonormal in float64 and kept as float32.
    """

    name = "random-conv3d-v1"

    def extract(self, volumes: Iterable[NDArray[Any]], batch: int = 8) -> Features:
        """The features of each volume.

        Args:
            volumes: arrays (X, Y, Z) or (1, X, Y, Z), all of one shape with at least 8 voxels a side, normalised to
                about 0..1.
            batch: how many go through the encoder at once; large volumes go through in fewer.

        Returns:
            (N, D), one row for each volume, not yet standardised (see `Standardisation`).

        Raises:
            MedganError: there are no volumes, their shapes differ, a side is too short, or a voxel is not finite.
        """
        import torch

        rows = []
        with torch.no_grad():
            for stack in volume_stacks(volumes, batch):
                rows.append(self._pooled(torch.from_numpy(stack)).numpy().astype(np.float64))
        return np.concatenate(rows)

    def stages(self, shape: Sequence[int]) -> int:
        """How many stages a volume of this shape passes."""
        longest, count = max(shape), 1
        while longest > _COARSEST_SIDE and count < len(_CHANNELS):
            longest, count = -(-longest // 2), count + 1
        return count

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, X, Y, Z) to (N, D)."""
        import torch

        features, stages = [], self.stages(x.shape[2:])
        for stage in range(stages):
            means, deviations, x = _stage(x, self._filters[stage], is_last=stage + 1 == stages)
            features += [means, deviations]
        return torch.cat(features, 1)

    @cached_property
    def _filters(self) -> list[torch.Tensor]:
        import torch

        return [torch.from_numpy(filters) for filters in random_filters()]


def _stage(x: torch.Tensor, filters: torch.Tensor, *, is_last: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One stage of the encoder: channel means (N, C) and standard deviations (N, C), and what the next stage sees.

    Large volumes go through the first stage in slabs that stay in the processor's cache, which halves its time.

    Args:
        x: (N, channels, X, Y, Z).
        filters: (C, channels, 3, 3, 3).
        is_last: whether there is no next stage: what it would see is empty then.
    """
    import torch
    import torch.nn.functional as F

    width = [2 if side > _COARSEST_SIDE else 1 for side in x.shape[2:]]
    padded, depth = F.pad(x, (1,) * 6, mode="replicate"), _slab_depth(x.shape, len(filters))
    parts: list[_Moments] = []
    following = []
    for start in range(0, x.shape[2], depth):
        slab = padded[:, :, start : start + depth + 2]
        seen = F.leaky_relu_(F.conv3d(slab, filters) if depth == x.shape[2] else _convolved(slab, filters), _SLOPE)
        if not is_last:
            following.append(_halved(seen, width))
        parts.append(_moments(seen.flatten(2)))
    means, lengths = _together(parts)
    deviations = lengths / (x.shape[2] * x.shape[3] * x.shape[4]) ** 0.5
    return means, deviations, torch.cat(following, 2) if following else x[:, :, :0]


def _convolved(slab: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """(N, 1, X + 2, Y + 2, Z + 2) to (N, C, X, Y, Z); as a product of matrices, because PyTorch's own convolutions are
    slow on one channel.
    """
    import torch

    x, y, z = (side - 2 for side in slab.shape[2:])
    places = itertools.product(range(3), repeat=3)
    seen = torch.stack([slab[:, 0, i : i + x, j : j + y, k : k + z] for i, j, k in places], dim=1)
    return (filters.flatten(1) @ seen.flatten(2)).unflatten(2, (x, y, z))


def _halved(features: torch.Tensor, width: Sequence[int]) -> torch.Tensor:
    """Means of so many neighbours along each axis of (N, C, X, Y, Z); what is left over at the end is a mean of less.

    Axis by axis, which is three times as fast as PyTorch's pooling.
    """
    import torch

    for axis, count in enumerate(width, start=2):
        if count == 2:
            side = features.shape[axis] // 2 * 2
            even = features.narrow(axis, 0, side).unflatten(axis, (side // 2, 2))
            pairs = (even.select(axis + 1, 0) + even.select(axis + 1, 1)).mul_(0.5)
            rest = features.narrow(axis, side, features.shape[axis] - side)
            features = torch.cat((pairs, rest), axis) if rest.shape[axis] else pairs
    return features


def _slab_depth(shape: Sequence[int], channels: int) -> int:
    """Voxels along the first axis that go through a stage at once: a whole number of the pairs that are averaged."""
    count, inputs, x, y, z = shape
    if inputs > 1 or count * channels * x * y * z <= _FEATURES_AT_ONCE:
        return x
    return max(2, _FEATURES_AT_ONCE // (count * channels * y * z) // 2 * 2)


class _Moments(NamedTuple):
    """Of the voxels of each channel: how many, means (N, C), and lengths (N, C) of the centred values."""

    voxels: int
    means: torch.Tensor
    lengths: torch.Tensor


def _moments(flat: torch.Tensor) -> _Moments:
    """Of (N, C, voxels), which is centred in place."""
    import torch

    means = flat.mean(2, keepdim=True)
    # The norm of the centred values is many times faster than torch's own standard deviation; centring in place spares
    # a copy of all channels.
    return _Moments(flat.shape[2], means.squeeze(2), torch.linalg.vector_norm(flat.sub_(means), dim=2))


def _together(parts: Sequence[_Moments]) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and lengths of all parts' voxels (Chan, Golub and LeVeque 1979)."""
    if len(parts) == 1:
        return parts[0].means, parts[0].lengths
    total = sum(part.voxels for part in parts)
    means = sum((part.means.double() * part.voxels for part in parts), start=parts[0].means.double() * 0) / total
    squares = [part.lengths.double() ** 2 + part.voxels * (part.means.double() - means) ** 2 for part in parts]
    return means.float(), sum(squares[1:], start=squares[0]).sqrt().float()


def random_filters() -> list[NDArray[np.float32]]:
    """The filters (out, in, 3, 3, 3) of every stage, the same on every machine."""
    bits = np.random.PCG64(_SEED)
    stages, inputs = [], 1
    # The gain makes up for what the rectifier takes away, so that deep stages keep the scale of the input.
    gain = np.sqrt(2 / (1 + _SLOPE**2))
    for outputs in _CHANNELS:
        filters = gain * _orthonormal_rows(_normal_numbers(bits, (outputs, inputs * 27)))
        stages.append(filters.reshape(outputs, inputs, 3, 3, 3).astype(np.float32))
        inputs = outputs
    return stages


def _normal_numbers(bits: np.random.PCG64, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Nearly normal numbers, sums of twelve uniform ones: numpy promises the bit stream only, not its own normals."""
    uniform = (bits.random_raw((12, *shape)) >> np.uint64(32)).astype(np.float64) * 2.0**-32
    return np.asarray(uniform.sum(axis=0) - 6.0)


def _orthonormal_rows(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gram-Schmidt on the rows, with the signs that the rows came with (QR routines differ in theirs)."""
    q, r = np.linalg.qr(matrix.T)
    return np.asarray((q * np.sign(np.diag(r))).T)


@dataclass(frozen=True)
class Standardisation:
    """Centre and scale of each feature over the real reference set.

    Args:
        mean: (D,).
        scale: (D,), the standard deviation; features that never vary there have been given a scale of one.
    """

    mean: Features
    scale: Features

    @classmethod
    def fitted(cls, reference: Features) -> Standardisation:
        """From the features (N, D) of the reference set.

        Raises:
            MedganError: there are fewer than two scans.
        """
        if len(reference) < 2:
            raise MedganError(
                f"{len(reference)} scan gives no spread to standardise by", hint="Give at least two scans."
            )
        scale = reference.std(axis=0)
        varies = scale > _ROUNDING * np.abs(reference).max(axis=0)
        return cls(reference.mean(axis=0), np.where(varies, scale, 1.0))

    def applied(self, features: Features) -> Features:
        """Standard scores, compressed by the inverse hyperbolic sine.

        The compression leaves ordinary scores alone and grows as the logarithm beyond, so that a set far from the real
        one gets a number that can be read and plotted, and no single feature that hardly varies in the reference
        decides everything.
        """
        return np.asarray(np.arcsinh((features - self.mean) / self.scale))


def volume_stacks(volumes: Iterable[NDArray[Any]], batch: int) -> Iterator[NDArray[np.float32]]:
    """Batches (n, 1, X, Y, Z) of checked volumes, small enough for the memory of a laptop.

    Args:
        volumes: arrays (X, Y, Z) or (1, X, Y, Z), all of one shape with at least 8 voxels a side.
        batch: how many at most.

    Raises:
        MedganError: there are no volumes, their shapes differ, a side is too short, or a voxel is not finite.
    """
    shape: tuple[int, ...] | None = None
    waiting: list[NDArray[np.float32]] = []
    for number, volume in enumerate(volumes):
        array = _checked(volume, number, shape)
        shape = array.shape
        waiting.append(array)
        if len(waiting) >= min(batch, max(1, _VOXELS_AT_ONCE // array.size)):
            yield np.stack(waiting)[:, np.newaxis]
            waiting = []
    if waiting:
        yield np.stack(waiting)[:, np.newaxis]
    if shape is None:
        raise MedganError("there are no volumes to encode", hint="Give at least one.")


def _checked(volume: NDArray[Any], number: int, shape: tuple[int, ...] | None) -> NDArray[np.float32]:
    """(X, Y, Z) float32, or the reason why not."""
    array = np.asarray(volume, dtype=np.float32)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or min(array.shape) < SMALLEST_SIDE:
        raise MedganError(
            f"volume {number} has shape {array.shape}; features need (X, Y, Z), at least {SMALLEST_SIDE} a side",
            hint="Prepare the scans on a grid with more voxels.",
        )
    if shape is not None and array.shape != shape:
        raise MedganError(
            f"volume {number} has shape {array.shape}, the ones before it have {shape}",
            hint="Resample all scans to one grid before they are compared.",
        )
    if not np.isfinite(array).all():
        raise MedganError(f"volume {number} holds voxels that are not finite", hint="Leave this volume out.")
    return array
