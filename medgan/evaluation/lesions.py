"""Whether lesions survive a restoration: their contrast and volume inside a mask, and small ones that were planted.

Planted lesions are put into the high-resolution scan before it is degraded, so that their truth is known. The scan is
restored with them and without them; what a method does to a lesion is the difference of the two, and what it does to
tissue without lesions shows at control places in the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medgan.errors import MedganError
from medgan.evaluation.restoration import Mask, foreground_mask

Point = tuple[float, float, float]

DIAMETERS = (1.0, 2.0, 3.0, 4.0, 6.0)
"""Diameters in mm of planted lesions unless told otherwise."""
ERASED_BELOW = 0.5
"""A planted lesion of which less than this part of its contrast is left counts as erased."""
INVENTED_ABOVE = 0.5
"""A control place where contrast of more than this part of a lesion's appears counts as an invented lesion."""

_OVERSAMPLING = 10


@dataclass(frozen=True)
class LesionFigures:
    """What is left of the lesions in a mask.

    Args:
        contrast_kept: slope of the restored over the true contrasts to the surroundings, through zero, lesions
            weighted by their size; 1 is right.
        volume_kept: volume above half of each lesion's own height, restored over true, all lesions together.
        lesions: how many were counted.
    """

    contrast_kept: float
    volume_kept: float
    lesions: int


def lesion_figures(
    reference: ArrayLike, restored: ArrayLike, mask: ArrayLike, *, smallest: int = 3
) -> LesionFigures | None:
    """Contrast and volume of real lesions, restored against true.

    A lesion is a connected component of the mask. Its contrast is its mean less that of its surroundings: the voxels
    two to four voxels away from it that touch no lesion.

    Args:
        reference: (X, Y, Z).
        restored: (X, Y, Z), the same grid.
        mask: (X, Y, Z), non-zero in lesions.
        smallest: lesions of fewer voxels are left out.

    Returns:
        None where no lesion is large enough or none has surroundings.

    Raises:
        MedganError: the shapes differ.
    """
    truth, result = np.asarray(reference, dtype=np.float64), np.asarray(restored, dtype=np.float64)
    inside = np.asarray(mask) != 0
    if not truth.shape == result.shape == inside.shape:
        raise MedganError(f"the shapes differ: {truth.shape}, {result.shape} and a mask of {inside.shape}")
    labels, _ = ndimage.label(inside, structure=np.ones((3, 3, 3)))
    clear = ~ndimage.binary_dilation(inside)
    rows = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        wide = tuple(slice(max(0, side.start - 5), side.stop + 5) for side in box)
        lesion = labels[wide] == number
        ring = _shell(lesion) & clear[wide]
        if lesion.sum() >= smallest and ring.any():
            near = ndimage.binary_dilation(lesion, iterations=2)
            measured = [_contrast_and_volume(voxels[wide], lesion, ring, near) for voxels in (truth, result)]
            rows.append((float(lesion.sum()), *measured[0], *measured[1]))
    if not rows:
        return None
    size, true_contrast, true_volume, contrast, volume = np.array(rows).T
    weight = float((size * true_contrast**2).sum())
    kept = float((size * true_contrast * contrast).sum()) / weight if weight else float("nan")
    return LesionFigures(kept, float(volume.sum() / max(true_volume.sum(), 1.0)), len(rows))


def _shell(lesion: Mask) -> Mask:
    """The voxels two to four voxels away from a lesion."""
    outer = ndimage.binary_dilation(lesion, iterations=4)
    return np.asarray(outer & ~ndimage.binary_dilation(lesion), dtype=bool)


def _contrast_and_volume(voxels: NDArray[np.float64], lesion: Mask, ring: Mask, near: Mask) -> tuple[float, float]:
    """Contrast to the ring, and how many voxels near the lesion lie above half its height."""
    level = float(voxels[ring].mean())
    contrast = float(voxels[lesion].mean()) - level
    height = (voxels - level) * (1.0 if contrast >= 0 else -1.0)
    top = float(np.percentile(height[lesion], 95))
    return contrast, float(np.count_nonzero(height[near] >= 0.5 * top)) if top > 0 else 0.0


@dataclass(frozen=True)
class PlantedLesion:
    """One ellipsoid of even contrast.

    Args:
        centre: voxel index, fractional.
        radii: semi-axes in mm along the array axes.
        contrast: what it adds to the tissue, in the scan's units.
        diameter: nominal diameter in mm: that of the ball of the same volume.
    """

    centre: Point
    radii: Point
    contrast: float
    diameter: float


@dataclass(frozen=True)
class LesionPlan:
    """Where lesions are planted, and control places of the same kind where none is."""

    lesions: tuple[PlantedLesion, ...]
    controls: tuple[PlantedLesion, ...]


def plan_lesions(
    reference: ArrayLike,
    *,
    spacing: Sequence[float],
    seed: int,
    count: int = 30,
    controls: int = 100,
    diameters: Sequence[float] = DIAMETERS,
    contrast: float = 0.25,
    apart: float = 14.0,
    mask: Mask | None = None,
) -> LesionPlan:
    """Choose places for small lesions in even tissue (`even_tissue`), as a function of the seed alone.

    Args:
        reference: the high-resolution scan, (X, Y, Z).
        spacing: mm between voxel centres.
        seed: decides places, shapes and order.
        count: lesions wanted; fewer where the tissue holds no more.
        controls: control places wanted; they may lie near lesions, but 4 mm from each other.
        diameters: in mm, in turn; bright and dark lesions of each alternate.
        contrast: of a lesion, as a part of the scan's range (99.5th minus 0.5th percentile).
        apart: least distance of two lesions in mm; should exceed what the restoration spreads a lesion over.
        mask: where lesions may lie at all; None: everywhere in the object.

    Raises:
        MedganError: there is no even tissue.
    """
    voxels = np.asarray(reference, dtype=np.float32)
    steps = np.array([float(step) for step in spacing])
    tissue = even_tissue(voxels, spacing=steps.tolist())
    places = np.argwhere(tissue if mask is None else tissue & mask)
    if not len(places):
        raise MedganError(
            "no even tissue was found to plant lesions in", hint="Use a larger part of the scan, or plant no lesions."
        )
    random = np.random.default_rng(seed)
    low, high = np.percentile(voxels, (0.5, 99.5))
    strength = contrast * float(high - low)

    def drawn(wanted: int, distance: float) -> tuple[PlantedLesion, ...]:
        chosen = _apart(random.permutation(places), steps, wanted, distance)
        return tuple(_ellipsoid(place, index, diameters, strength, random) for index, place in enumerate(chosen))

    return LesionPlan(drawn(count, apart), drawn(controls, 4.0))


def even_tissue(reference: ArrayLike, *, spacing: Sequence[float]) -> Mask:
    """Voxels in the most common even tissue, in brain scans the white matter; (X, Y, Z).

    Inside the object (4 mm from its border), the quarter of voxels whose surroundings (a Gaussian of 2 mm) have the
    smallest mean gradient; of these, those whose smoothed intensity lies within 6 % of the scan's range of the most
    common one.
    """
    voxels = np.asarray(reference, dtype=np.float32)
    steps = np.asarray(spacing, dtype=np.float64)
    inside = ndimage.distance_transform_edt(foreground_mask(voxels, dilation=0), sampling=steps) > 4.0
    # Beyond the volume's border nothing is known: lesions there would be cut.
    for axis, step in enumerate(steps):
        edge = min(int(np.ceil(4.0 / step)), voxels.shape[axis] // 2)
        np.moveaxis(inside, axis, 0)[:edge] = False
        np.moveaxis(inside, axis, 0)[voxels.shape[axis] - edge :] = False
    if not inside.any():
        return inside
    smooth = ndimage.gaussian_filter(voxels, 1.0 / steps)
    gradient = np.sqrt(sum(np.square(np.gradient(smooth, step, axis=axis)) for axis, step in enumerate(steps)))
    roughness = ndimage.gaussian_filter(gradient, 2.0 / steps)
    even = inside & (roughness <= np.quantile(roughness[inside], 0.25))
    low, high = np.percentile(voxels, (0.5, 99.5))
    counts, edges = np.histogram(smooth[even], bins=128, range=(float(voxels.min()), float(voxels.max())))
    common = float(edges[counts.argmax() : counts.argmax() + 2].mean())
    return np.asarray(even & (np.abs(smooth - common) <= 0.06 * (high - low)))


def _apart(
    places: NDArray[np.int_], steps: NDArray[np.float64], wanted: int, distance: float
) -> list[NDArray[np.int_]]:
    """The first `wanted` places in order that keep `distance` mm from those before them."""
    chosen: list[NDArray[np.int_]] = []
    left = places
    while len(left) and len(chosen) < wanted:
        chosen.append(left[0])
        left = left[np.linalg.norm((left - left[0]) * steps, axis=1) >= distance]
    return chosen


def _ellipsoid(
    place: NDArray[np.int_], index: int, diameters: Sequence[float], strength: float, random: np.random.Generator
) -> PlantedLesion:
    """A lesion around a voxel, off its centre by a random part of a voxel."""
    diameter = float(diameters[(index // 2) % len(diameters)])
    shape = random.uniform(0.8, 1.25, 3)
    a, b, c = (diameter / 2 * shape / shape.prod() ** (1 / 3)).tolist()
    x, y, z = (place + random.uniform(-0.5, 0.5, 3)).tolist()
    return PlantedLesion((x, y, z), (a, b, c), strength if index % 2 == 0 else -strength, diameter)


def with_lesions(scan: ArrayLike, lesions: Sequence[PlantedLesion], *, spacing: Sequence[float]) -> NDArray[np.float32]:
    """The scan with lesions added, each voxel by the part of it that the lesion fills; (X, Y, Z), float32."""
    planted = np.array(scan, dtype=np.float32)
    for lesion in lesions:
        box, part = lesion_parts(lesion, planted.shape, spacing=spacing, margin=0.0)
        planted[box] += (lesion.contrast * part).astype(np.float32)
    return planted


def lesion_parts(
    lesion: PlantedLesion, shape: Sequence[int], *, spacing: Sequence[float], margin: float
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """Which part of each voxel a lesion fills, 0 to 1: a box of the volume wider by `margin` mm, and the parts in it.

    Counted on a lattice of points in each voxel: at least 10 along an axis, and 12 along each radius.
    """
    box, wide, distances, cells = [], [], [], []
    for axis, (centre, radius, step, size) in enumerate(zip(lesion.centre, lesion.radii, spacing, shape, strict=True)):
        inner, outer = (_reach(centre, reach / step, size) for reach in (radius, radius + margin))
        fine = max(_OVERSAMPLING, int(np.ceil(12 * step / radius)))
        points = inner.start - 0.5 + (np.arange((inner.stop - inner.start) * fine) + 0.5) / fine
        along = [1, 1, 1]
        along[axis] = len(points)
        box.append(inner)
        wide.append(outer)
        cells += [inner.stop - inner.start, fine]
        distances.append((((points - centre) * step / radius) ** 2).reshape(along))
    filled = (distances[0] + distances[1] + distances[2] <= 1.0).astype(np.float64)
    around = [(side.start - whole.start, whole.stop - side.stop) for side, whole in zip(box, wide, strict=True)]
    return tuple(wide), np.pad(filled.reshape(cells).mean(axis=(1, 3, 5)), around)


def _reach(centre: float, reach: float, size: int) -> slice:
    """The voxels of an axis that `centre` plus or minus `reach` touches."""
    return slice(max(0, int(np.floor(centre - reach + 0.5))), min(size, int(np.ceil(centre + reach - 0.5)) + 1))


@dataclass(frozen=True)
class DiameterOutcome:
    """What became of the planted lesions of one diameter (mm): how many, how many erased, medians of what is kept."""

    diameter: float
    lesions: int
    erased: int
    contrast_kept: float
    volume_kept: float


@dataclass(frozen=True)
class LesionOutcomes:
    """What became of planted lesions.

    Args:
        lesions: how many were planted.
        erased: of these, how many left less of their contrast than `ERASED_BELOW`.
        controls: lesion-free places looked at.
        invented: of these, how many gained contrast, bright or dark, of more than `INVENTED_ABOVE`.
        contrast_kept: median part of the contrast that is left; 1 is right.
        volume_kept: median volume above half of a lesion's mean height, restored over true.
        by_diameter: the same for each diameter.
    """

    lesions: int
    erased: int
    controls: int
    invented: int
    contrast_kept: float
    volume_kept: float
    by_diameter: tuple[DiameterOutcome, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def lesion_outcomes(
    plan: LesionPlan,
    *,
    spacing: Sequence[float],
    reference: ArrayLike,
    reference_with: ArrayLike,
    restored: ArrayLike,
    restored_with: ArrayLike,
) -> LesionOutcomes:
    """Find each planted lesion by a filter matched to its shape, and count what was erased and invented.

    The filter is the least-squares height of the lesion's own shape over an even background, within 3 mm around it.
    A lesion's height is measured in the difference of the restorations with and without lesions. At control places it
    is measured in the difference of the lesion-free restoration and its truth. Both are parts of the lesion's contrast.

    Args:
        plan: from `plan_lesions`.
        spacing: mm between voxel centres.
        reference: the true scan without the lesions, (X, Y, Z).
        reference_with: with them (`with_lesions`).
        restored: the restoration of the degraded scan without the lesions.
        restored_with: of that with them.

    Raises:
        MedganError: shapes differ.
    """
    scans = [np.asarray(scan, dtype=np.float64) for scan in (reference, reference_with, restored, restored_with)]
    if len({scan.shape for scan in scans}) != 1:
        raise MedganError(f"the shapes of the scans differ: {', '.join(str(scan.shape) for scan in scans)}")
    true_change, change, error = scans[1] - scans[0], scans[3] - scans[2], scans[2] - scans[0]
    noise = np.array([_height(error, place, spacing) for place in plan.controls])
    kept = np.array([_height(change, lesion, spacing) for lesion in plan.lesions])
    volumes = np.array([_volume_ratio(true_change, change, lesion, spacing) for lesion in plan.lesions])
    sizes = np.array([lesion.diameter for lesion in plan.lesions])
    rows = tuple(
        DiameterOutcome(
            float(size),
            int((sizes == size).sum()),
            int((kept[sizes == size] < ERASED_BELOW).sum()),
            float(np.median(kept[sizes == size])),
            float(np.median(volumes[sizes == size])),
        )
        for size in np.unique(sizes)
    )
    return LesionOutcomes(
        lesions=len(kept),
        erased=int((kept < ERASED_BELOW).sum()),
        controls=len(noise),
        invented=int((np.abs(noise) > INVENTED_ABOVE).sum()),
        contrast_kept=float(np.median(kept)),
        volume_kept=float(np.median(volumes)),
        by_diameter=rows,
    )


def _height(change: NDArray[np.float64], lesion: PlantedLesion, spacing: Sequence[float]) -> float:
    """Least-squares height of the lesion's shape in `change`, as a part of its contrast."""
    box, part = lesion_parts(lesion, change.shape, spacing=spacing, margin=3.0)
    shape = part - part.mean()
    return float((shape * change[box]).sum() / max(float((shape**2).sum()), 1e-12)) / lesion.contrast


def _volume_ratio(
    true_change: NDArray[np.float64], change: NDArray[np.float64], lesion: PlantedLesion, spacing: Sequence[float]
) -> float:
    """Volume above half of the mean height within the lesion, restored over true; 0 where nothing is left."""
    box, part = lesion_parts(lesion, change.shape, spacing=spacing, margin=6.0)
    volumes = []
    for difference in (true_change, change):
        height = difference[box] / lesion.contrast
        top = float((height * part).sum() / part.sum())
        volumes.append(float(np.count_nonzero(height >= 0.5 * top)) if top > 1e-6 else 0.0)
    return volumes[1] / max(volumes[0], 1.0)
