"""Twenty ways to disguise a copy of a scan, each at several strengths: what an audit has to see through.

Every disguise is a function of (volume, strength, random numbers, another scan). Volumes are arrays (X, Y, Z) from Left
to Right, Posterior to Anterior, Inferior to Superior, in about 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Array = NDArray[np.float32]
Disguise = Callable[[Array, float, np.random.Generator, Array], NDArray[Any]]
_BLOCK = 8


@dataclass(frozen=True)
class Kind:
    """One kind of disguise.

    Args:
        apply: from volume, strength, random numbers and another scan to the disguised copy.
        strengths: from mild to strong.
        unit: what they are.
        beyond: strengths at which the audit promises nothing, for where its limits are.
    """

    apply: Disguise
    strengths: tuple[float, ...]
    unit: str
    beyond: tuple[float, ...] = ()


def resampled(volume: Array, matrix: NDArray[np.float64], shift: NDArray[np.float64] | float = 0.0) -> Array:
    """The volume moved by a linear map about its centre; zeros come in from outside."""
    centre = (np.array(volume.shape) - 1) / 2
    inverse = np.linalg.inv(matrix)
    offset = centre - inverse @ (centre + shift)
    return ndimage.affine_transform(volume, inverse, offset, order=1, output=np.float32)


def rotation(degrees: float, random: np.random.Generator) -> NDArray[np.float64]:
    """A rotation about a random axis."""
    axis = random.standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def smooth_field(shape: tuple[int, ...], waves: int, random: np.random.Generator) -> Array:
    """A random sum of the longest `waves` cosines along each axis, of standard deviation one."""
    field = random.standard_normal((waves, waves, waves)).astype(np.float32)
    for axis, n in enumerate(shape):
        cosines = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(waves)) / n).astype(np.float32)
        field = np.moveaxis(np.tensordot(cosines, field, axes=(1, axis)), 0, axis)
    return field / field.std()


def _plain(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return volume


def _mirrored(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return volume[::-1]


def _flipped(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return np.flip(volume, int(strength))


def _shifted(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    direction = random.standard_normal(3)
    return resampled(volume, np.eye(3), strength * direction / np.linalg.norm(direction))


def _rotated(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return resampled(volume, rotation(strength, random))


def _scaled(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return resampled(volume, strength * np.eye(3))


def _contrast(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return strength * volume + (1 - strength) / 2


def _gamma(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return np.clip(volume, 0, None) ** strength


def _inverted(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    # Of the second strength, air stays dark as it does in most contrasts.
    return 1 - volume if strength == 1 else np.where(volume > 0.1, 1.1 - np.clip(volume, 0, 1), volume)


def _biased(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return volume * np.exp(strength * smooth_field(volume.shape, 3, random))


def _blurred(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return ndimage.gaussian_filter(volume, strength)


def _noisy(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return volume + strength * random.standard_normal(volume.shape, dtype=np.float32)


def _cut_out(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    size = [round(strength * n) for n in volume.shape]
    # Around a point of the middle half, so that something of the anatomy goes.
    middle = [random.uniform(0.25, 0.75) * n for n in volume.shape]
    box = tuple(slice(max(0, int(m - s / 2)), int(m + s / 2)) for m, s in zip(middle, size, strict=True))
    result = volume.copy()
    result[box] = 0
    return result


def _cropped(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    starts = [round(random.uniform(0, 1 - strength) * n) for n in volume.shape]
    box = tuple(slice(a, a + round(strength * n)) for a, n in zip(starts, volume.shape, strict=True))
    result = np.zeros_like(volume)
    result[box] = volume[box]
    return result


def _resampled(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    coarse = [max(2, round(n / strength)) for n in volume.shape]
    low = ndimage.zoom(volume, np.array(coarse) / volume.shape, order=1, grid_mode=True, mode="nearest")
    return ndimage.zoom(low, np.array(volume.shape) / low.shape, order=1, grid_mode=True, mode="nearest")


def _compressed(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    """Cosine transform of blocks of 8 x 8 x 8, as JPEG's of squares, with one step for all coefficients."""
    padded = np.pad(volume, [(0, -n % _BLOCK) for n in volume.shape], mode="edge")
    a, b, c = (n // _BLOCK for n in padded.shape)
    blocks = padded.reshape(a, _BLOCK, b, _BLOCK, c, _BLOCK)
    coefficients = fft.dctn(blocks, axes=(1, 3, 5), norm="ortho")
    decoded = fft.idctn(np.round(coefficients / strength) * strength, axes=(1, 3, 5), norm="ortho")
    return decoded.reshape(padded.shape)[tuple(slice(n) for n in volume.shape)]


def _warped(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    places = np.indices(volume.shape, dtype=np.float32)
    moved = [place + strength * smooth_field(volume.shape, 6, random) for place in places]
    return ndimage.map_coordinates(volume, moved, order=1)


def _mixed(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    return strength * volume + (1 - strength) * other


def _truncated(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    """The middle share of k-space along each axis alone: ringing."""
    spectrum = fft.fftn(volume)
    for axis, n in enumerate(volume.shape):
        kept = np.abs(fft.fftfreq(n)) <= strength / 2
        spectrum *= kept.reshape([-1 if i == axis else 1 for i in range(3)])
    return np.abs(fft.ifftn(spectrum))


def _combined(volume: Array, strength: float, random: np.random.Generator, other: Array) -> NDArray[Any]:
    turned = resampled(volume[::-1], (1 + 0.05 * strength) * rotation(4 * strength, random), 2 * strength)
    bright = np.clip(_biased(turned, 0.15 * strength, random, other), 0, None) ** (1 + 0.3 * strength)
    return _noisy(_blurred(bright, 0.5 * strength, random, other), 0.04 * strength, random, other)


KINDS: dict[str, Kind] = {
    "plain": Kind(_plain, (1,), ""),
    "mirrored left-right": Kind(_mirrored, (1,), ""),
    "flipped": Kind(_flipped, (1, 2), "axis"),
    "shifted": Kind(_shifted, (3, 6, 10), "voxels", (15,)),
    "rotated": Kind(_rotated, (5, 10, 15), "degrees", (25,)),
    "scaled": Kind(_scaled, (0.95, 0.88, 1.12), "factor"),
    "brightness and contrast": Kind(_contrast, (0.7, 0.4), "contrast"),
    "gamma": Kind(_gamma, (0.7, 1.5, 2.2), "exponent"),
    "inverted": Kind(_inverted, (1, 2), "variant"),
    "bias field": Kind(_biased, (0.2, 0.4), "SD of the logarithm"),
    "blurred": Kind(_blurred, (1, 1.5, 2), "SD, voxels", (3,)),
    "noisy": Kind(_noisy, (0.05, 0.1, 0.2), "SD", (0.4,)),
    "cut out": Kind(_cut_out, (0.3, 0.45), "share of each side"),
    "cropped": Kind(_cropped, (0.9, 0.8), "share of each side", (0.7,)),
    "resampled": Kind(_resampled, (2, 3, 4), "factor"),
    "compressed": Kind(_compressed, (0.3, 1.0), "step"),
    "warped": Kind(_warped, (0.7, 1, 1.5), "SD, voxels", (2, 3)),
    "mixed with another": Kind(_mixed, (0.8, 0.7, 0.6), "share", (0.5,)),
    "truncated k-space": Kind(_truncated, (0.6, 0.4), "share"),
    "several at once": Kind(_combined, (1, 2), "times"),
}


def disguised(kind: str, volume: Array, strength: float, random: np.random.Generator, other: Array) -> Array:
    """A copy of a scan, disguised.

    Args:
        kind: one of `KINDS`.
        volume: (X, Y, Z).
        strength: one of the kind's, or between them.
        random: for directions, positions, fields and noise.
        other: another scan of the same shape, for mixtures.
    """
    return np.ascontiguousarray(KINDS[kind].apply(volume, strength, random, other), dtype=np.float32)
