"""The fingerprint of a cohort: what its scans have in common, where they differ, and the grid that suits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medgan.data.cohort import PERCENTILES, ScanRecord
from medgan.data.gridding import Specification, Surveyed
from medgan.data.participants import SPLITS, Label
from medgan.geometry import Shape, Spacing, shape_for_spacing
from medgan.resampling import checked_shape, checked_spacing


def completed_specification(
    surveys: Sequence[Surveyed], spacing: Spacing | None, shape: Shape | None, *, own_grids: bool = False
) -> Specification:
    """The grid asked for, completed by the medians over the scans; none where every scan keeps its own."""
    if own_grids:
        return Specification(None, None)
    if spacing is None:
        spacing = checked_spacing(np.median([survey.ras_spacing for survey in surveys], axis=0).round(6).tolist())
    if shape is None:
        # Only lengths matter here, so an axis-aligned affine of each scan's spacing stands in for its own.
        shapes = [
            shape_for_spacing(np.diag([*survey.ras_spacing, 1.0]), survey.ras_shape, spacing) for survey in surveys
        ]
        shape = checked_shape(np.rint(np.median(shapes, axis=0)).astype(int).tolist())
    return Specification(spacing, shape)


def summary(records: Sequence[ScanRecord]) -> dict[str, Any]:
    """What the scans have in common and where they differ."""
    middle = {
        f"{percentile:g}": float(np.median([record.percentiles[f"{percentile:g}"] for record in records]))
        for percentile in PERCENTILES
    }
    return {
        "shape": records[0].prepared_shape if len({record.prepared_shape for record in records}) == 1 else None,
        "spacing": np.median([record.prepared_spacing for record in records], axis=0).round(6).tolist(),
        "percentiles": middle,
        "scans": len(records),
        "subjects": len({record.subject for record in records}),
        "splits": {
            name: {
                "scans": sum(record.split == name for record in records),
                "subjects": len({record.subject for record in records if record.split == name}),
            }
            for name in SPLITS
        },
        "labels": _label_columns([record.labels for record in records]),
        "source_shapes": _counts("x".join(map(str, record.shape)) for record in records),
        "source_spacings": _counts("x".join(f"{value:.4g}" for value in record.spacing) for record in records),
        "source_orientations": _counts(record.orientation for record in records),
    }


def mask_summary(records: Sequence[ScanRecord]) -> dict[str, Any]:
    """How many scans have a label map, and in how many of them each label occurs, by its number as text."""
    maps = [record.mask for record in records if record.mask is not None]
    labels = sorted({label for one in maps for label in one.labels})
    return {"scans": len(maps), "labels": {str(label): sum(label in one.labels for one in maps) for label in labels}}


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _label_columns(rows: Sequence[Mapping[str, Label]]) -> dict[str, dict[str, Any]]:
    """Per label: its type, how many scans have it, and its range or its values."""
    columns: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row[name] for row in rows if name in row]
        numbers = [value for value in values if isinstance(value, float)]
        if numbers:
            columns[name] = {"type": "number", "scans": len(values), "minimum": min(numbers), "maximum": max(numbers)}
        else:
            columns[name] = {"type": "text", "scans": len(values), "values": _counts(map(str, values))}
    return columns
