"""Laying a template's brain over a scan of a head by an affine map, template mm to scan RAS mm."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from medgan.geometry import Affine
from medgan.volume import Volume

# An affine map as 12 numbers of about equal reach at the brain's edge: translations (mm), then rotations about the
# three axes, logarithms of the three scales, and three shears, all in hundredths.
Parameters = NDArray[np.float64]
_START = np.array([0.0, 0, 0, 0, 0, 0, -8, -8, -8, 0, 0, 0])

# Where the search begins: nodding, height and depth of the head about a guess by its outline.
_NODS = np.arange(-50.0, 51.0, 12.5)
_HEIGHTS = np.arange(-40.0, 41.0, 8.0)
_DEPTHS = np.arange(-16.0, 17.0, 8.0)
_FINALISTS = 4

# The template's crown of the head and the middle of its length, seen from its origin, in mm.
_CROWN, _MIDDLE = 92.0, -16.0

# Fat and contrast agents are brighter than the brain, and would otherwise be most of what there is to explain.
_BRIGHTEST = 1.35

_LEVELS = 24
_RIM = 3


@dataclass(frozen=True)
class Fit:
    """The best map found.

    Args:
        matrix: 4x4, template mm to scan RAS mm.
        match: correlation ratio over the template's brain and rim, 0 to 1; its outline counts most.
        inner_match: correlation ratio over the template's brain alone, 0 to 1: do its tissues lie where they should?
        seen: share of them inside the scan's field of view.
        tilt: largest angle of a template axis with the scan's, in radians.
    """

    matrix: Affine
    match: float
    inner_match: float
    seen: float
    tilt: float


def fit(volume: Volume, template: NDArray[np.float32], brain: NDArray[np.bool_], affine: Affine) -> Fit:
    """The affine map under which the template explains most of the scan's variance.

    Args:
        volume: of whose first channel the outline gives the first guess.
        template: grey values (X, Y, Z), 0 outside the brain.
        brain: its mask.
        affine: 4x4, template index to mm.
    """
    scan = _reduced(volume)
    coarse = _Likeness(scan, template, brain, affine, step=4, blur=4.0)
    guess = _guess(scan)
    starts = [
        _START + np.array([guess[0], guess[1] + depth, guess[2] + height, nod, 0, 0, 0, 0, 0, 0, 0, 0])
        for nod, height, depth in product(_NODS, _HEIGHTS, _DEPTHS)
    ]
    starts.sort(key=coarse.cost)
    alike = [
        optimize.minimize(
            lambda few: coarse.cost(_evenly_scaled(few)),
            start[:7],
            method="Powell",
            options={"maxiter": 6, "xtol": 0.3, "ftol": 1e-4, "direc": 3 * np.eye(7)},
        )
        for start in starts[:_FINALISTS]
    ]
    best = _evenly_scaled(min(alike, key=lambda found: found.fun).x)
    fine = _Likeness(scan, template, brain, affine, step=3, blur=2.0)
    parameters = optimize.minimize(
        fine.cost, best, method="Powell", options={"maxiter": 8, "xtol": 0.1, "ftol": 1e-5, "direc": np.eye(12)}
    ).x
    matrix = _matrix(parameters)
    match, inner_match, seen = fine.of(matrix)
    turned = np.linalg.svd(matrix[:3, :3])
    axes = np.diag(turned[0] @ turned[2])
    return Fit(matrix, match, inner_match, seen, float(np.arccos(np.clip(axes, -1, 1)).max()))


class _Likeness:
    """How well a map brings scan and template together, at one coarseness.

    Args:
        scan: grey values (X, Y, Z) and the affine of their grid.
        template: as in `fit`.
        brain: as in `fit`.
        affine: as in `fit`.
        step: every how many template voxels the two are compared.
        blur: standard deviation of the smoothing of both, in mm.
    """

    def __init__(
        self,
        scan: tuple[NDArray[np.float32], Affine],
        template: NDArray[np.float32],
        brain: NDArray[np.bool_],
        affine: Affine,
        *,
        step: int,
        blur: float,
    ) -> None:
        voxels, grid = scan
        self.voxels = ndimage.gaussian_filter(voxels, blur / np.linalg.norm(grid[:3, :3], axis=0))
        self.into_scan = np.linalg.inv(grid)
        rim = ndimage.binary_dilation(brain, iterations=_RIM)
        index = step * np.argwhere(rim[::step, ::step, ::step])
        self.in_brain = brain[tuple(index.T)]
        self.points = affine @ np.c_[index, np.ones(len(index))].T
        soft = ndimage.gaussian_filter(template, blur / 2 / np.linalg.norm(affine[:3, :3], axis=0))
        grey = soft[tuple(index.T)]
        self.levels = np.minimum((grey / grey.max() * _LEVELS).astype(int), _LEVELS - 1)

    def of(self, matrix: Affine) -> tuple[float, float, float]:
        """The correlation ratios with the rim and without it, and the share of points that lie in the scan."""
        place = (self.into_scan @ matrix @ self.points)[:3]
        limits = np.array(self.voxels.shape)[:, None] - 0.5
        inside = ((place >= -0.5) & (place <= limits)).all(axis=0)
        seen = float(inside.mean())
        if seen < 0.5:
            return 0.0, 0.0, seen
        values = ndimage.map_coordinates(self.voxels, place[:, inside], order=1, mode="nearest").astype(np.float64)
        levels, in_brain = self.levels[inside], self.in_brain[inside]
        return _correlation_ratio(values, levels), _correlation_ratio(values[in_brain], levels[in_brain]), seen

    def cost(self, parameters: Parameters) -> float:
        """To be minimised: what is unexplained or out of sight, and a little for distorting the template.

        The rim keeps the brain inside the skull, the tissues within keep its outline from settling on the scalp.
        """
        match, inner_match, seen = self.of(_matrix(parameters))
        scales, shears = parameters[6:9], parameters[9:]
        bend = 2e-5 * float(((scales - scales.mean()) ** 2).sum() + (shears**2).sum())
        size = 2e-6 * float((scales.mean() - _START[6]) ** 2)
        return 2 - match - inner_match + max(0.0, 0.85 - seen) + bend + size


def _correlation_ratio(values: NDArray[np.float64], levels: NDArray[np.intp]) -> float:
    """The share of the values' variance that the levels explain; 0 if there is none to explain."""
    if len(values) < 2:
        return 0.0
    counts = np.bincount(levels, minlength=_LEVELS)
    means = np.bincount(levels, values, minlength=_LEVELS) / np.maximum(counts, 1)
    mean = values.mean()
    whole = float(((values - mean) ** 2).sum())
    return float((counts * (means - mean) ** 2).sum()) / whole if whole > 0 else 0.0


def _matrix(parameters: Parameters) -> Affine:
    """The 4x4 map of 12 parameters: scaled, sheared, turned about x, y and z, then moved."""
    hundredths = parameters[3:] / 100
    turned = np.eye(3)
    for axis, angle in enumerate(hundredths[:3]):
        one, other = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[other, one] = np.sin(angle)
        turn[one, other] = -turn[other, one]
        turned = turn @ turned
    shear = np.eye(3)
    shear[0, 1], shear[0, 2], shear[1, 2] = hundredths[6:9]
    matrix = np.eye(4)
    matrix[:3, :3] = turned @ shear @ np.diag(np.exp(hundredths[3:6]))
    matrix[:3, 3] = parameters[:3]
    return matrix


def _evenly_scaled(few: NDArray[np.float64]) -> Parameters:
    """All parameters of a map that only moves, turns and scales, from its seven."""
    return np.concatenate([few[:6], np.repeat(few[6], 3), np.zeros(3)])


def _reduced(volume: Volume) -> tuple[NDArray[np.float32], Affine]:
    """The first channel in blocks of about 2 mm in RAS order, clipped above the head's median, and its affine."""
    upright = volume.reoriented("RAS")
    voxels, affine = upright.data[0], upright.affine
    blocks = [max(1, min(round(2.0 / step), size)) for step, size in zip(upright.spacing, upright.shape, strict=True)]
    size = [count // block for count, block in zip(upright.shape, blocks, strict=True)]
    kept = voxels[tuple(slice(0, count * block) for count, block in zip(size, blocks, strict=True))]
    split = kept.reshape(size[0], blocks[0], size[1], blocks[1], size[2], blocks[2])
    means = split.mean(axis=(1, 3, 5), dtype=np.float32)
    grid = affine.copy()
    grid[:3, :3] = affine[:3, :3] * blocks
    grid[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((np.array(blocks) - 1) / 2)
    means = np.clip(means, *np.percentile(means, (0.5, 99.5)))
    head = means[_not_air(means)]
    return np.minimum(means, _BRIGHTEST * np.median(head) if len(head) else np.inf), grid


def _guess(scan: tuple[NDArray[np.float32], Affine]) -> NDArray[np.float64]:
    """Where the template's origin may fall, in RAS mm: by the crown, the width and the length of what is not air."""
    voxels, affine = scan
    largest = _largest_part(ndimage.binary_opening(_not_air(voxels)))
    points = np.argwhere(largest) @ affine[:3, :3].T + affine[:3, 3]
    crown = np.percentile(points[:, 2], 99.9)
    upper = points[points[:, 2] > crown - 110]
    low, high = np.percentile(upper, (1, 99), axis=0)
    return np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2 - _MIDDLE, crown - _CROWN])


def _not_air(voxels: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(voxels > 0.6 * _threshold(voxels))


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part; everything if there is none."""
    labels, count = ndimage.label(mask)
    if not count:
        return np.ones(mask.shape, bool)
    return np.asarray(labels == 1 + np.bincount(labels.ravel())[1:].argmax())


def _threshold(voxels: NDArray[np.float32]) -> float:
    """Otsu's threshold between air and body: the value that parts the grey values into the two most even groups."""
    counts, edges = np.histogram(voxels, bins=128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return float(centres[np.nanargmax(np.where(above > 0, apart, 0))])
