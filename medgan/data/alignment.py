"""Whether pairs of volumes lie where they should: the displacement of one against the other, to a hundredth of a voxel.

A network that learns from displaced pairs learns to displace, and loses decibels doing so. The usual causes are
decimation that keeps the first voxel of each block (`x[..., ::2]`), which shifts, and resizing that aligns the centres
of the corner voxels (`align_corners=True`), which stretches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medgan.errors import MedganError

TOLERANCE = 0.1
"""Displacement in voxels above which pairs are refused; several times what estimates from a few patches scatter."""
_AXES = "XYZ"
_LEAST_SIZE = 8
# Low-resolution samples along an axis; with fewer, what the faces do to the inverse is most of it.
_LEAST_SAMPLES = 5.5
_ITERATIONS = 8
_ENOUGH = 2e-3
# A displacement is only believed if it stands out from the scatter between pairs.
_STANDARD_ERRORS = 3.0

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Alignment:
    """How far the content of the first volumes lies from that of the second, in voxels, positive towards higher
    indices; NaN along axes that are too thin or too flat to tell.

    Args:
        shift: at the centre of the volumes, along X, Y and Z.
        stretch: what comes to it at the upper end of the axis; its negative at the lower end.
        shift_error: standard error of the shift, from the scatter between pairs (jackknife); NaN for one pair.
        stretch_error: the same for the stretch.
        pairs: how many were measured.
    """

    shift: Triple
    stretch: Triple
    shift_error: Triple
    stretch_error: Triple
    pairs: int

    @property
    def largest(self) -> float:
        """The largest displacement found along any axis, centre or ends, in voxels; 0 if none could be measured."""
        found = [abs(value) for value in (*self.shift, *self.stretch) if not isnan(value)]
        return max(found, default=0.0)

    @property
    def unmeasured(self) -> str:
        """The axes without an answer, such as "XZ"; empty if there is none."""
        return "".join(name for name, value in zip(_AXES, self.shift, strict=True) if isnan(value))


def alignment_of(pairs: Iterable[tuple[ArrayLike, ArrayLike]], *, factor: Sequence[float] | None = None) -> Alignment:
    """The displacement that all pairs share, a shift and a linear stretch along each axis.

    Least squares on the intensity gradients (Lucas and Kanade 1981), pooled over the pairs, each with a contrast and a
    brightness of its own. Only the first volume's gradient is used, so that its (symmetric) blur does not bias the
    answer. Meant for displacements of up to about three voxels.

    Args:
        pairs: (start, truth), each (X, Y, Z), all of one shape.
        factor: high-resolution voxels per low-resolution voxel along each axis. What only the truth can hold is
            smoothed away before, which makes the estimate several times steadier for factors of 4 and more.

    Raises:
        MedganError: there is no pair, or shapes differ.
    """
    volumes = [_checked(start, truth) for start, truth in pairs]
    if not volumes:
        raise MedganError("there is no pair of volumes whose alignment could be measured")
    shape = volumes[0][0].shape
    if any(start.shape != shape for start, _ in volumes):
        raise MedganError("the pairs differ in shape", hint="Measure pairs of one shape at a time.")
    factors = tuple(factor) if factor is not None else (1.0, 1.0, 1.0)
    axes = [axis for axis, n in enumerate(shape) if n >= max(_LEAST_SIZE, _LEAST_SAMPLES * factors[axis])]
    smooth = [max(1.0, factors[axis] / 2) if axis in axes else 0.0 for axis in range(3)]
    margin = [max(2, n // 8) if axis in axes else 0 for axis, n in enumerate(shape)]
    blurred = [tuple(ndimage.gaussian_filter(v, smooth, mode="nearest") for v in pair) for pair in volumes]

    displacement = np.zeros(6)
    for _ in range(_ITERATIONS):
        moves = [_move(size, displacement[axis], displacement[axis + 3]) for axis, size in enumerate(shape)]
        inside = _inside(shape, margin, displacement)
        systems = [_equations(_moved(moving, moves), still, axes, inside) for moving, still in blurred]
        matrix, right = (sum(part) for part in zip(*systems, strict=True))
        known = _known(matrix)
        step = _solved(matrix, right, known)
        displacement += step
        if np.abs(step).max() < _ENOUGH:
            break
    errors = _jackknife(systems, known)
    displacement[~known], errors[~known] = nan, nan
    return Alignment(
        _triple(displacement[:3]), _triple(displacement[3:]), _triple(errors[:3]), _triple(errors[3:]), len(volumes)
    )


def require_aligned(
    alignment: Alignment, *, factor: Sequence[float] | None = None, tolerance: float = TOLERANCE
) -> None:
    """Refuse pairs that are displaced by more than `tolerance` voxels along any axis, if that is beyond doubt.

    A stretch has to reach half of what aligned corners cause, half of (factor - 1) / 2: what small smooth patches lose
    at their faces can look like a stretch of a fifth of a voxel.

    Args:
        alignment: as measured.
        factor: high-resolution voxels per low-resolution voxel along each axis, if it is one for all pairs; it helps to
            name the cause.
        tolerance: in voxels.

    Raises:
        MedganError: naming displacement, axis and likely cause.
    """
    for kind, values, errors in (
        ("shift", alignment.shift, alignment.shift_error),
        ("stretch", alignment.stretch, alignment.stretch_error),
    ):
        for axis, (value, error) in enumerate(zip(values, errors, strict=True)):
            doubt = 0.0 if isnan(error) else _STANDARD_ERRORS * error
            usual = 2.0 if factor is None else factor[axis]
            allowed = tolerance if kind == "shift" else max(tolerance, (usual - 1.0) / 4.0)
            if abs(value) > max(allowed, doubt):
                raise MedganError(
                    f"the low-resolution volumes are displaced against the true ones: {_told(kind, value)} along "
                    f"{_AXES[axis]} (at most {allowed:g} is allowed)",
                    hint=_likely_cause(kind, value, None if factor is None else factor[axis]),
                )


def _told(kind: str, value: float) -> str:
    return f"by {value:+.2f} voxel" + (" at the upper end and the opposite at the lower" if kind == "stretch" else "")


def _likely_cause(kind: str, value: float, factor: float | None) -> str:
    """What mostly makes displacements of this kind and sign, and how to mend it."""
    half = None if factor is None else (factor - 1) / 2
    expected = half is None or abs(abs(value) - half) < max(0.1, 0.35 * half)
    if kind == "stretch":
        how = "One of the grids seems to be resized with the centres of the corner voxels aligned (align_corners=True)"
        return f"{how}: resize so that the outer faces coincide."
    if expected:
        end = "first" if value > 0 else "last"
        how = f"The low-resolution samples seem to be taken at the {end} voxel of each block, as x[..., ::2] does"
        return f"{how}: sample the middle of the block."
    return "The volumes do not seem to be registered with each other: register them first."


def _checked(start: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 (X, Y, Z) of one shape."""
    first, second = np.asarray(start, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if first.ndim != 3 or first.shape != second.shape:
        raise MedganError(
            f"a pair of volumes must have one shape, not {first.shape} and {second.shape}",
            hint="Bring the low-resolution volume onto the high-resolution grid first.",
        )
    return first, second


def _inside(shape: Sequence[int], margin: Sequence[int], displacement: NDArray[np.float64]) -> tuple[slice, ...]:
    """The voxels that are compared: away from the faces, and read from inside the displaced volume."""
    reach = np.ceil(np.abs(displacement[:3]) + np.abs(displacement[3:])).astype(int)
    cut = [min(m + int(r), (n - 2) // 2) if m else 0 for n, m, r in zip(shape, margin, reach, strict=True)]
    return tuple(slice(c, n - c) for n, c in zip(shape, cut, strict=True))


def _equations(
    current: NDArray[np.float64], still: NDArray[np.float64], axes: Sequence[int], inside: tuple[slice, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The normal equations (6, 6) and (6,) of one pair for a change of the displacement; zeros along other axes.

    The voxels `inside` count, away from the faces, where the inverse of an acquisition has seen one side only.
    """
    matrix, right = np.zeros((6, 6)), np.zeros(6)
    # From -1 at the lower to 1 at the upper end of each axis.
    places = [np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in still.shape]
    unknowns, columns = [], []
    for axis in axes:
        slope = np.gradient(current, axis=axis)[inside]
        place = places[axis][inside[axis]].reshape([-1 if other == axis else 1 for other in range(3)])
        unknowns += [axis, axis + 3]
        columns += [slope.ravel(), (slope * place).ravel()]
    if not columns:
        return matrix, right
    # Contrast and brightness may differ: what they explain counts neither for nor against a displacement.
    region = current[inside].ravel()
    nuisance = np.linalg.qr(np.stack([np.ones_like(region), region - region.mean()], axis=1))[0]
    system = np.stack(columns, axis=1)
    system -= nuisance @ (nuisance.T @ system)
    error = (still - current)[inside].ravel()
    matrix[np.ix_(unknowns, unknowns)] = system.T @ system
    right[unknowns] = system.T @ error
    return matrix, right


def _move(size: int, shift: float, stretch: float) -> NDArray[np.float64] | None:
    """The matrix (size, size) that reads an axis at each voxel plus the displacement there (cubic B-spline); None where
    there is none.
    """
    if not (shift or stretch):
        return None
    middle = (size - 1) / 2
    slope = stretch / max(middle, 1)
    zoom, offset = np.array([1 + slope, 1.0]), np.array([shift - slope * middle, 0.0])
    return np.asarray(ndimage.affine_transform(np.eye(size), zoom, offset, order=3, mode="nearest"))


def _moved(volume: NDArray[np.float64], moves: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """The matrices of the three axes applied to a volume."""
    for axis, matrix in enumerate(moves):
        if matrix is not None:
            volume = np.moveaxis(np.tensordot(matrix, volume, (1, axis)), 0, axis)
    return volume


def _known(matrix: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the six unknowns the volumes have any gradient for."""
    strength = np.diag(matrix)
    return np.asarray(strength > 1e-9 * max(float(strength.max()), 1e-12))


def _solved(matrix: NDArray[np.float64], right: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The least-squares answer for the known unknowns; zeros elsewhere."""
    answer = np.zeros(6)
    if known.any():
        answer[known] = np.linalg.lstsq(matrix[np.ix_(known, known)], right[known], rcond=1e-12)[0]
    return answer


def _jackknife(
    systems: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Standard errors (6,) of the pooled answer, from leaving out one pair at a time."""
    count = len(systems)
    if count < 2:
        return np.full(6, nan)
    matrix, right = (sum(part) for part in zip(*systems, strict=True))
    without = np.stack([_solved(matrix - m, right - r, known) for m, r in systems])
    return np.asarray(np.sqrt((count - 1) / count * np.square(without - without.mean(axis=0)).sum(axis=0)))


def _triple(values: NDArray[np.float64]) -> Triple:
    x, y, z = (float(value) for value in values)
    return x, y, z
