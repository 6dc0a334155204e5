"""Small volumes laid over each other by affine maps, in milliseconds.

A map is a 4 x 4 matrix from places in the fixed volume to places in the moving one, both in voxels from their middles.
Correlation is climbed by Gauss-Newton steps whose derivatives are those of the fixed volume, computed once (the inverse
compositional algorithm; Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from medgan.evaluation.edges import Map, unit

Matrix = NDArray[np.float64]

_LARGEST_STRETCH, _LARGEST_SHIFT = 0.12, 1.5
_LEAST_GAIN, _LARGEST_LOSS = 1e-3, 0.03
_RIDGE = 1e-3


def moved(volume: Map, matrix: Matrix, shape: tuple[int, ...] | None = None) -> Map:
    """The volume on the fixed one's grid, by linear interpolation; zero outside.

    Args:
        volume: (X, Y, Z).
        matrix: 4 x 4, from the fixed volume's places to this one's.
        shape: of the fixed volume; the same without it.
    """
    wanted = shape or volume.shape
    middle, target = ((np.array(sides) - 1) / 2 for sides in (volume.shape, wanted))
    linear = matrix[:3, :3]
    offset = matrix[:3, 3] + middle - linear @ target
    return np.asarray(ndimage.affine_transform(volume, linear, offset, output_shape=wanted, order=1, output=np.float32))


def on_finer(matrix: Matrix, coarse: tuple[int, ...], fine: tuple[int, ...]) -> Matrix:
    """The same map between volumes with the same field of view and more voxels."""
    factors = np.array([*(many / few for many, few in zip(fine, coarse, strict=True)), 1.0])
    return np.asarray(matrix * factors[:, None] / factors[None])


def mirror() -> Matrix:
    """Exchanges left and right."""
    return np.diag([-1.0, 1.0, 1.0, 1.0])


class FixedVolume:
    """A volume that others are laid over.

    Args:
        volume: (X, Y, Z), with contrast.
        rigid: only shifts, rotations and one scale, rather than all affine maps.
    """

    def __init__(self, volume: Map, *, rigid: bool = False) -> None:
        self.volume = unit(volume)
        slopes = np.asarray(np.gradient(self.volume), dtype=np.float32)
        changes = np.empty((3, 4, *volume.shape), dtype=np.float32)
        for axis, side in enumerate(volume.shape):
            place = np.arange(side, dtype=np.float32) - (side - 1) / 2
            changes[:, axis] = slopes * place.reshape([-1 if axis == other else 1 for other in range(3)])
        changes[:, 3] = slopes
        self._changes = changes.reshape(12, -1)
        basis = _similarities() if rigid else np.eye(12)
        hessian = basis.T @ (self._changes @ self._changes.T).astype(np.float64) @ basis
        size = np.sqrt(np.maximum(np.diag(hessian), 1e-12))
        inverse = np.linalg.inv(hessian / np.outer(size, size) + _RIDGE * np.eye(len(size))) / np.outer(size, size)
        self._inverse = basis @ inverse @ basis.T

    def aligned(self, moving: Map, start: Matrix, *, steps: int) -> tuple[float, Matrix]:
        """The map from `start` on that makes the volumes correlate best, and how well they do."""
        best, matrix, last = (-2.0, start), start, -2.0
        for step in range(steps + 1):
            seen = unit(moved(moving, matrix, self.volume.shape))
            found = float(np.vdot(seen, self.volume))
            if found > best[0]:
                best = found, matrix
            if step == steps or found < best[0] - _LARGEST_LOSS or (step > 2 and found < last + _LEAST_GAIN):
                break
            last = found
            matrix = matrix @ self._step(seen, found)
        return best

    def _step(self, seen: Map, correlation: float) -> Matrix:
        """One Gauss-Newton step, not too long, as a map that is to be applied first."""
        residual = (max(correlation, 0.05) * seen - self.volume).ravel()
        step = (self._inverse @ (self._changes @ residual)).reshape(3, 4)
        length = max(np.abs(step[:, :3]).max() / _LARGEST_STRETCH, np.abs(step[:, 3]).max() / _LARGEST_SHIFT, 1.0)
        change = np.eye(4)
        change[:3] += step / length
        return np.asarray(np.linalg.inv(change))


class PoseFinder:
    """How scans lie in space: flips, rotation, scale and shift against a template.

    Left and right are not told apart, since most of the body looks much the same in a mirror.

    Args:
        template: edge map of what all scans have in common, (X, Y, Z).
    """

    def __init__(self, template: Map) -> None:
        self._fixed = FixedVolume(template, rigid=True)
        self._spectrum = np.conj(fft.rfftn(self._fixed.volume))

    def pose(self, scan: Map) -> Matrix:
        """The map from the template to an edge map of the scan."""
        scales = (1.0, 1 / 0.88, 1 / 1.13)
        flips = [np.diag([s, s * a, s * b, 1.0]) for s in scales for a in (1, -1) for b in (1, -1)]
        best = max((self._fitted(scan, start) for start in flips), key=lambda found: found[0])
        # Twice: a rotation about an oblique axis is one about two of the axes, nearly.
        for _ in range(2):
            turned = [_without_shift(best[1]) @ _rotation(axis, angle) for axis in range(3) for angle in (-10, 10)]
            best = max([best, *(self._fitted(scan, start) for start in turned)], key=lambda found: found[0])
        return self._fixed.aligned(scan, best[1], steps=15)[1]

    def shift(self, scan: Map) -> Matrix:
        """The map from the template to an edge map of the scan that is a shift alone."""
        return self._fitted(scan, np.eye(4))[1]

    def _fitted(self, scan: Map, linear: Matrix) -> tuple[float, Matrix]:
        """The best shift to go with a linear map: all of them at once, by the Fourier transform."""
        seen = unit(moved(scan, linear, self._fixed.volume.shape))
        correlations = fft.irfftn(fft.rfftn(seen) * self._spectrum, seen.shape)
        best = np.unravel_index(int(np.argmax(correlations)), correlations.shape)
        shift = np.eye(4)
        shift[:3, 3] = [k if k <= side // 2 else k - side for k, side in zip(best, seen.shape, strict=True)]
        return float(correlations[best]), linear @ shift


def _similarities() -> Matrix:
    """(12, 7): how shifts, rotations and a scale change the 3 x 4 entries of a map, at the identity."""
    columns = []
    for axis in range(3):
        shift, turn = np.zeros((3, 4)), np.zeros((3, 4))
        first, second = (other for other in range(3) if other != axis)
        shift[axis, 3], turn[first, second], turn[second, first] = 1, -1, 1
        columns += [shift, turn]
    columns.append(np.eye(3, 4))
    return np.stack([column.ravel() for column in columns], axis=1)


def _rotation(axis: int, degrees: float) -> Matrix:
    first, second = (other for other in range(3) if other != axis)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def _without_shift(matrix: Matrix) -> Matrix:
    result = np.eye(4)
    result[:3, :3] = matrix[:3, :3]
    return result
