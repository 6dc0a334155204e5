"""All that can be said of a restored scan against its reference, and against what the scanner measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan import geometry
from medgan.acquisition import Acquisition
from medgan.errors import MedganError
from medgan.evaluation.consistency import ConsistencyFigures, data_consistency
from medgan.evaluation.diversity import ms_ssim, scales_for
from medgan.evaluation.lesions import LesionFigures, lesion_figures
from medgan.evaluation.resolution import effective_resolution, spectral_ratio
from medgan.evaluation.restoration import (
    Mask,
    RestorationFigures,
    evaluate_restoration,
    foreground_mask,
)
from medgan.geometry import Spacing
from medgan.volume import Volume

_MARGIN = 5
_FIELD_TOLERANCE = 0.1


@dataclass(frozen=True)
class RestorationCard:
    """Everything about one restored scan.

    Args:
        figures: errors, similarity and shift.
        ms_ssim: multi-scale structural similarity of the box around the foreground, at most 1.
        ms_ssim_scales: how many scales the box allowed, up to five; values of different numbers do not compare.
        spectral_ratio: energy of fine detail along each axis, restored over reference: 1 is right, less is blur, more
            is noise or invention; nan where there is too little.
        effective_resolution: what the restored scan resolves along each axis, in mm.
        consistency: how far the restored scan, acquired again, lies from what was measured; None without that.
        lesions: what is left of the lesions in a mask; None without one, or where none can be measured.
    """

    figures: RestorationFigures
    ms_ssim: float
    ms_ssim_scales: int
    spectral_ratio: tuple[float, float, float]
    effective_resolution: Spacing
    consistency: ConsistencyFigures | None = None
    lesions: LesionFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, flat; what is not a number becomes None."""
        found: dict[str, Any] = {
            **self.figures.to_dict(),
            "ms_ssim": self.ms_ssim,
            "ms_ssim_scales": self.ms_ssim_scales,
            "spectral_ratio": [value if isfinite(value) else None for value in self.spectral_ratio],
            "effective_resolution_mm": list(self.effective_resolution),
        }
        if self.consistency is not None:
            found |= {f"consistency_{name}": value for name, value in self.consistency.to_dict().items()}
        if self.lesions is not None:
            found |= _lesion_row(self.lesions)
        return found


def evaluate_restoration_fully(
    reference: Volume,
    restored: Volume,
    *,
    mask: Volume | None = None,
    lesions: Volume | None = None,
    acquired: Volume | None = None,
    thickness: float | None = None,
    data_range: float | None = None,
) -> RestorationCard:
    """Compare a restored scan with its reference on the same grid, and with what was measured.

    Args:
        reference: the true high-resolution scan, one channel.
        restored: the scan to judge, one channel, same shape and place.
        mask: voxels that are judged, not zero inside, on the same grid; the reference's foreground by default.
        lesions: not zero in lesions, on the same grid.
        acquired: the low-resolution scan that was restored; it covers the same field of view.
        thickness: of its slices in mm (FWHM), along the axis that lost most samples; what its file says, or slices that
            touch, by default.
        data_range: what 0 dB refers to; None: 99.5th minus 0.5th percentile of the reference.

    Raises:
        MedganError: the grids or fields of view differ, a voxel is not finite, or a mask is empty.
    """
    figures = evaluate_restoration(reference, restored, mask=mask, data_range=data_range)
    truth, result = reference.as_float()[0], restored.as_float()[0]
    inside = foreground_mask(truth) if mask is None else np.asarray(mask.data[0] != 0)
    box = _box(inside)
    similarity, scales = _ms_ssim(truth[box], result[box], float(np.percentile(truth, 0.5)), figures.data_range)
    return RestorationCard(
        figures=figures,
        ms_ssim=similarity,
        ms_ssim_scales=scales,
        spectral_ratio=spectral_ratio(truth, result, mask=inside),
        effective_resolution=effective_resolution(truth[box], result[box], spacing=reference.spacing),
        consistency=None if acquired is None else consistency_of(restored, acquired, thickness=thickness),
        lesions=None if lesions is None else _lesions(reference, restored, lesions),
    )


def consistency_of(restored: Volume, acquired: Volume, *, thickness: float | None = None) -> ConsistencyFigures:
    """Acquire the restored scan again and compare with what was measured.

    Gaussian slices along the axis that lost most samples; the other axes as thick as their voxels.

    Args:
        restored: one channel.
        acquired: the low-resolution scan, of the same field of view, turned as it may be.
        thickness: of the slices in mm (FWHM); by default what the acquired scan's file says, or slices that touch.

    Raises:
        MedganError: the fields of view differ, or the acquired scan is finer.
    """
    low, high = acquired.reoriented("RAS"), restored.reoriented("RAS")
    expected = geometry.resampled_affine(high.affine, high.shape, low.shape)
    apart = geometry.world_corners(expected, low.shape) - geometry.world_corners(low.affine, low.shape)
    distance = float(np.linalg.norm(apart, axis=1).max())
    if distance > _FIELD_TOLERANCE * min(low.spacing):
        raise MedganError(
            f"the acquired scan covers {_extent(low)}, the restored one {_extent(high)} or lies {distance:.3g} mm off",
            hint="Give the very scan that was restored; medgan upscale keeps its field of view.",
        )
    told = acquired.metadata.get("slice_thickness") if thickness is None else thickness
    thick: list[float | None] = [None, None, None]
    factors = [there / here for there, here in zip(high.shape, low.shape, strict=True)]
    if told is not None:
        thick[int(np.argmax(factors))] = float(told)
    acquisition = Acquisition.between(high.shape, low.shape, high_spacing=high.spacing, thickness=thick)
    return data_consistency(high.as_float()[0], low.as_float()[0], acquisition)


def _ms_ssim(truth: NDArray[np.float32], result: NDArray[np.float32], black: float, span: float) -> tuple[float, int]:
    """Multi-scale similarity of two volumes, brought to about 0..1, and its number of scales."""
    scales, window = scales_for(truth.shape)
    first, second = (
        np.ascontiguousarray((voxels - black) / span, dtype=np.float32)[None] for voxels in (truth, result)
    )
    return float(ms_ssim(first, second, scales=scales, window=window)[0]), scales


def _box(mask: Mask) -> tuple[slice, ...]:
    """The mask's bounding box, wider by what the windows reach."""
    places = np.argwhere(mask)
    return tuple(
        slice(max(0, int(first) - _MARGIN), int(last) + 1 + _MARGIN)
        for first, last in zip(places.min(axis=0), places.max(axis=0), strict=True)
    )


def _lesions(reference: Volume, restored: Volume, lesions: Volume) -> LesionFigures | None:
    if lesions.shape != reference.shape or not np.allclose(lesions.affine, reference.affine, atol=0.05):
        raise MedganError(
            f"the mask of lesions has {lesions.shape} voxels or lies elsewhere, the reference has {reference.shape}",
            hint="Give a mask on the grid of the reference.",
        )
    if not (lesions.data != 0).any():
        raise MedganError("the mask of lesions is empty", hint="Leave it out where there is no lesion.")
    return lesion_figures(reference.as_float()[0], restored.as_float()[0], lesions.data[0])


def _lesion_row(lesions: LesionFigures) -> Mapping[str, Any]:
    values = asdict(lesions)
    return {
        "lesions": values["lesions"],
        "lesion_contrast_kept": values["contrast_kept"] if isfinite(values["contrast_kept"]) else None,
        "lesion_volume_kept": values["volume_kept"],
    }


def _extent(volume: Volume) -> str:
    return " x ".join(f"{side:.1f}" for side in volume.field_of_view) + " mm"
