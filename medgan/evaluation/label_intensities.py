"""Whether scans made for label maps have the intensities that real scans have inside each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A label of fewer voxels than this in a scan has no mean worth comparing.
_FEWEST_VOXELS = 8


@dataclass(frozen=True)
class LabelIntensity:
    """One label over several scans; means and deviations in the scans' normalised intensity.

    Args:
        label: its value.
        scans: in how many of the scans it has at least 8 voxels.
        real_mean: mean over the scans of the mean inside the label.
        generated_mean: the same of the generated scans.
        real_deviation: mean over the scans of the standard deviation inside the label.
        generated_deviation: the same of the generated scans.
        error: mean over the scans of the absolute difference between generated and real mean of one label map.
        spread: the same if every scan were given the mean over the training scans: how much real scans differ, and so
            about the error of a generator that knows all that a label map tells.
    """

    label: int
    scans: int
    real_mean: float
    generated_mean: float
    real_deviation: float
    generated_deviation: float
    error: float
    spread: float


def label_intensities(
    real: Sequence[NDArray[np.float32]],
    generated: Sequence[NDArray[np.float32]],
    masks: Sequence[NDArray[np.integer]],
    *,
    training_means: dict[int, float],
) -> list[LabelIntensity]:
    """Compare generated scans with the real scans of the same label maps, label by label.

    Args:
        real: scans (X, Y, Z), normalised.
        generated: one for each of them, of the same shape.
        masks: their label maps, of the same shape.
        training_means: for each label the mean over training scans of the mean inside it (`mean_inside`).

    Returns:
        One entry for each label that has at least 8 voxels in a scan, in ascending order; those without training mean
        are left out.

    Raises:
        ValueError: there are not as many of one as of the others.
    """
    inside: dict[int, list[tuple[float, float, float, float]]] = {label: [] for label in sorted(training_means)}
    for scan, made, mask in zip(real, generated, masks, strict=True):
        for label, rows in inside.items():
            chosen = mask == label
            if np.count_nonzero(chosen) >= _FEWEST_VOXELS:
                true, found = scan[chosen].astype(np.float64), made[chosen].astype(np.float64)
                rows.append((float(true.mean()), float(found.mean()), float(true.std()), float(found.std())))
    found_labels = []
    for label, rows in inside.items():
        if rows:
            table = np.array(rows)
            real_mean, generated_mean, real_deviation, generated_deviation = map(float, table.mean(axis=0))
            found_labels.append(
                LabelIntensity(
                    label=label,
                    scans=len(rows),
                    real_mean=real_mean,
                    generated_mean=generated_mean,
                    real_deviation=real_deviation,
                    generated_deviation=generated_deviation,
                    error=float(np.abs(table[:, 0] - table[:, 1]).mean()),
                    spread=float(np.abs(table[:, 0] - training_means[label]).mean()),
                )
            )
    return found_labels


def mean_inside(
    scans: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.integer]], labels: Sequence[int]
) -> dict[int, float]:
    """For each label that has at least 8 voxels in a scan: the mean over the scans of the mean inside it."""
    means: dict[int, list[float]] = {}
    for scan, mask in zip(scans, masks, strict=True):
        for label in labels:
            chosen = mask == label
            if np.count_nonzero(chosen) >= _FEWEST_VOXELS:
                means.setdefault(label, []).append(float(scan[chosen].astype(np.float64).mean()))
    return {label: float(np.mean(values)) for label, values in means.items()}
