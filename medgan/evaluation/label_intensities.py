"""Whether scans made for label maps have the intensities that real scans have inside each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A label of fewer voxels than this in a scan has no mean worth comparing.
_FEWEST_VOXELS = 8
# Root mean square of the differences between labels' means below which intensities do not tell labels apart.
_LEAST_CONTRAST = 0.02


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


def label_response(
    changes: Sequence[NDArray[np.float32]],
    masks: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]],
    *,
    training_means: dict[int, float],
) -> float | None:
    """How much of the difference in mean intensity between labels a generator makes where label maps differ.

    It is the slope of what changed by what the labels' means let expect: about 1 for a generator that follows the label
    map, 0 for one that ignores it.

    Args:
        changes: per pair of label maps, the scan (X, Y, Z) made for the second less that made for the first, all else
            alike.
        masks: those pairs, of the same shape.
        training_means: for each label the mean over training scans of the mean inside it (`mean_inside`).

    Returns:
        None where label maps do not differ, or labels hardly differ in mean intensity.
    """
    products, squares, count = 0.0, 0.0, 0
    for change, (before, after) in zip(changes, masks, strict=True):
        differ = (before != after) & np.isin(before, list(training_means)) & np.isin(after, list(training_means))
        expected = _means_of(after[differ], training_means) - _means_of(before[differ], training_means)
        products += float(expected @ change[differ].astype(np.float64))
        squares += float(expected @ expected)
        count += len(expected)
    if not count or np.sqrt(squares / count) < _LEAST_CONTRAST:
        return None
    return products / squares


def _means_of(labels: NDArray[np.integer], means: dict[int, float]) -> NDArray[np.float64]:
    known = sorted(means)
    return np.array([means[label] for label in known])[np.searchsorted(known, labels)]


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
