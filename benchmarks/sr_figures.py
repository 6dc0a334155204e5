"""The figures of one restoration in the super-resolution benchmark.

Intensities are scaled by the measured scan, so the data range is 1. Figures are taken in the foreground of the truth
widened by a voxel, without the f voxels at both borders of an axis that was degraded by f.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sr_cases import Problem, Scan, measured_again

from medgan.evaluation.consistency import data_consistency
from medgan.evaluation.lesions import LesionPlan, lesion_figures, lesion_outcomes, plan_lesions, with_lesions
from medgan.evaluation.resolution import effective_resolution, spectral_ratio
from medgan.evaluation.restoration import evaluate_restoration, foreground_mask, psnr
from medgan.geometry import default_affine
from medgan.volume import Volume

Voxels = NDArray[np.float32]

_MARGIN = 8


@dataclass(frozen=True)
class Planted:
    """A problem's planted lesions: the plan, the truth with them, and what was measured of it."""

    plan: LesionPlan
    truth: Voxels
    low: Volume


@dataclass(frozen=True)
class Figures:
    """One row of the benchmark; None where a figure does not apply.

    Args:
        psnr_db: in the mask.
        psnr_whole_db: without a mask.
        ssim: in the mask.
        hfen: high-frequency error norm in the mask, relative.
        spectral_ratio: energy along the degraded axes (their mean) between 0.2 and 0.4 cycles per voxel, to truth.
        shift: largest shift along any axis in voxels.
        resolution_mm: effective resolution along the worst axis.
        consistency: RMSE(A SR - LR) over the range of LR.
        lesion_contrast: of real lesions, restored over true.
        lesion_volume: of real lesions above half height, restored over true.
        planted: the outcome of planted lesions.
        seconds: wall time.
        memory_mb: growth of the process meanwhile.
    """

    psnr_db: float
    psnr_whole_db: float
    ssim: float
    hfen: float
    spectral_ratio: float
    shift: float
    resolution_mm: float
    consistency: float
    lesion_contrast: float | None
    lesion_volume: float | None
    planted: dict[str, Any] | None
    seconds: float
    memory_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def planted_in(problem: Problem, *, seed: int = 0) -> Planted:
    """Plant lesions into the truth and measure it again, with the same noise."""
    spacing = problem.acquisition.high_spacing
    apart = max(14.0, 3.5 * max(problem.acquisition.low_spacing))
    plan = plan_lesions(problem.truth.data[0], spacing=spacing, seed=seed, apart=apart)
    truth = with_lesions(problem.truth.data[0], plan.lesions, spacing=spacing)
    return Planted(plan, truth, measured_again(problem, truth))


def figures_of(
    scan: Scan,
    problem: Problem,
    restored: Voxels,
    *,
    seconds: float,
    memory_mb: float,
    planted: Planted | None = None,
    restored_with: Voxels | None = None,
) -> Figures:
    """All figures of a restoration; those of planted lesions if it was also restored with them."""
    kept = tuple(slice(f, -f) if f > 1 else slice(None) for f in problem.factor)
    truth, mask = problem.truth.data[0][kept], foreground_mask(problem.truth.data[0])[kept]
    box = _around(mask)
    spacing = problem.acquisition.high_spacing
    true, ours, inside = truth[box], restored[kept][box], mask[box]
    affine = default_affine(true.shape, spacing)
    figures = evaluate_restoration(Volume(true, affine), Volume(ours, affine), mask=inside, data_range=1.0)
    worse = [axis for axis, f in enumerate(problem.factor) if f > 1]
    ratios = spectral_ratio(true, ours, mask=inside)
    resolution = effective_resolution(true, ours, spacing=spacing)
    real = None if scan.lesions is None else lesion_figures(truth, restored[kept], scan.lesions[kept])
    outcome = None
    if planted is not None and restored_with is not None:
        outcome = lesion_outcomes(
            planted.plan,
            spacing=spacing,
            reference=problem.truth.data[0],
            reference_with=planted.truth,
            restored=restored,
            restored_with=restored_with,
        )
    return Figures(
        psnr_db=figures.psnr_db,
        psnr_whole_db=psnr(truth, restored[kept], data_range=1.0),
        ssim=figures.ssim,
        hfen=figures.hfen,
        spectral_ratio=float(np.mean([ratios[axis] for axis in worse])),
        shift=max(abs(value) for value in figures.shift),
        resolution_mm=max(resolution[axis] for axis in worse),
        consistency=data_consistency(restored, problem.low.data[0], problem.acquisition).relative,
        lesion_contrast=real.contrast_kept if real else None,
        lesion_volume=real.volume_kept if real else None,
        planted=outcome.to_dict() if outcome else None,
        seconds=seconds,
        memory_mb=memory_mb,
    )


def _around(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The mask's bounding box, wider by what the figures' filters see."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(0, side.start - _MARGIN), side.stop + _MARGIN) for side in box)


def medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure over scans; counts of planted lesions are summed."""
    result: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        if name == "planted":
            counts = ("lesions", "erased", "controls", "invented")
            result[name] = {count: sum(value[count] for value in values) for count in counts} if values else None
        else:
            result[name] = median(values) if values else None
    return result
