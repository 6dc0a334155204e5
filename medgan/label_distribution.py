"""Which labels the training scans had together, in aggregates, so that samples can be drawn alike.

A model does not carry the table of its training scans' labels along: rows of it would be about persons. It holds how
many scans each combination of classes has, quantiles of the continuous labels (by combination, where that has enough
scans to hide one), and how these rise and fall together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.labels import ClassLabel, ContinuousLabel, LabelCoding, LabelValues, class_name

_MOST_LEVELS = 11
# Quantiles of fewer values would nearly be the values.
_SCANS_PER_LEVEL = 4
_FEWEST = 20


@dataclass(frozen=True)
class Cell:
    """Scans that share their classes.

    Args:
        classes: one for each label with classes, in the coding's order.
        count: how many scans.
        quantiles: of each continuous label, evenly spaced from the minimum to the maximum, (labels, levels).
    """

    classes: tuple[str, ...]
    count: int
    quantiles: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LabelDistribution:
    """The labels of the training scans, in aggregates.

    Args:
        coding: what the labels are.
        cells: combinations of classes that occur.
        correlation: of the continuous labels' normal scores, (labels, labels); one matrix for all cells.
    """

    coding: LabelCoding
    cells: tuple[Cell, ...]
    correlation: tuple[tuple[float, ...], ...]

    @classmethod
    def fitted(cls, coding: LabelCoding, rows: Sequence[LabelValues]) -> LabelDistribution:
        """The distribution of training scans' labels, by those scans of which all labels are known: at least one."""
        complete = [row for row in rows if all(row.get(name) is not None for name in coding.names)]
        return cls(coding, _cells(coding, complete), _correlation(coding, complete))

    def drawn(self, asked: LabelValues, *, seed: int, index: int) -> dict[str, Any]:
        """Labels of sample `index` under `seed`: what is asked for, and the rest as the training scans have it.

        Classes come from the combinations that agree with the asked classes, or from all of them where none does;
        continuous labels from their quantiles in that combination, together with those that are asked for.

        Args:
            asked: as `LabelCoding.checked` gives it; None is a value that is to stay unknown.
            seed: of the latent vectors too, which are drawn from another stream.
            index: of the sample.

        Returns:
            A value for each label, in the coding's order; None where asked.
        """
        # The latent vector of a sample comes from the stream of (seed, index) alone.
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index, 1])))
        classes, continuous = _parted(self.coding)
        fitting = [
            cell
            for cell in self.cells
            if all(asked.get(label.name) in (None, one) for label, one in zip(classes, cell.classes, strict=True))
        ]
        among = fitting or list(self.cells)
        counts = np.array([cell.count for cell in among], dtype=np.float64)
        cell = among[min(int(np.searchsorted(np.cumsum(counts) / counts.sum(), rng.random())), len(among) - 1)]
        found: dict[str, Any] = dict(zip((label.name for label in classes), cell.classes, strict=True))
        found |= self._continuous(continuous, cell, asked, rng.standard_normal(len(continuous)))
        return {name: asked[name] if name in asked else found[name] for name in self.coding.names}

    def _continuous(
        self,
        labels: Sequence[ContinuousLabel],
        cell: Cell,
        asked: LabelValues,
        normal: NDArray[np.float64],
    ) -> dict[str, float]:
        """Values of the continuous labels, from independent standard normal numbers (labels,)."""
        if not labels:
            return {}
        matrix = np.array(self.correlation)
        levels = np.linspace(0, 1, len(cell.quantiles[0]))
        given = [i for i, label in enumerate(labels) if asked.get(label.name) is not None]
        free = [i for i in range(len(labels)) if i not in given]
        shares = [float(np.interp(float(asked[labels[i].name] or 0.0), cell.quantiles[i], levels)) for i in given]
        scores = np.array([_score(share) for share in shares])
        # The free scores given the others, of a joint normal distribution.
        gain = matrix[np.ix_(free, given)] @ np.linalg.pinv(matrix[np.ix_(given, given)])
        rest = matrix[np.ix_(free, free)] - gain @ matrix[np.ix_(given, free)]
        values, vectors = np.linalg.eigh(rest)
        drawn = gain @ scores + vectors @ (np.sqrt(values.clip(min=0)) * normal[: len(free)])
        return {
            labels[i].name: labels[i].rounded(float(np.interp(_share(float(score)), levels, cell.quantiles[i])))
            for i, score in zip(free, drawn, strict=True)
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values, which `from_json` reads."""
        cells = [
            {"classes": list(cell.classes), "count": cell.count, "quantiles": [list(row) for row in cell.quantiles]}
            for cell in self.cells
        ]
        correlation = [list(row) for row in self.correlation]
        return {"coding": self.coding.to_json(), "cells": cells, "correlation": correlation}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LabelDistribution:
        """A distribution as `to_json` wrote it."""
        cells = tuple(
            Cell(tuple(cell["classes"]), int(cell["count"]), tuple(tuple(row) for row in cell["quantiles"]))
            for cell in content["cells"]
        )
        correlation = tuple(tuple(row) for row in content["correlation"])
        return cls(LabelCoding.from_json(content["coding"]), cells, correlation)


def _parted(coding: LabelCoding) -> tuple[list[ClassLabel], list[ContinuousLabel]]:
    classes = [label for label in coding.labels if isinstance(label, ClassLabel)]
    return classes, [label for label in coding.labels if isinstance(label, ContinuousLabel)]


def _cells(coding: LabelCoding, rows: Sequence[LabelValues]) -> tuple[Cell, ...]:
    classes, continuous = _parted(coding)

    def combination(row: LabelValues) -> tuple[str, ...]:
        return tuple(class_name(row[label.name] or 0.0) for label in classes)

    cells = []
    for shared, count in sorted(Counter(map(combination, rows)).items()):
        enough = [row for row in rows if count < _FEWEST or combination(row) == shared]
        cells.append(Cell(shared, count, tuple(_quantiles(enough, label) for label in continuous)))
    return tuple(cells)


def _quantiles(rows: Sequence[LabelValues], label: ContinuousLabel) -> tuple[float, ...]:
    values = [float(row[label.name] or 0.0) for row in rows]
    levels = min(_MOST_LEVELS, max(2, len(values) // _SCANS_PER_LEVEL))
    return tuple(float(one) for one in np.quantile(values, np.linspace(0, 1, levels)))


def _correlation(coding: LabelCoding, rows: Sequence[LabelValues]) -> tuple[tuple[float, ...], ...]:
    """Correlation of normal scores; none between labels of too few scans."""
    from scipy.stats import norm, rankdata

    _, continuous = _parted(coding)
    if len(continuous) < 2 or len(rows) < _FEWEST:
        return tuple(tuple(row) for row in np.eye(len(continuous)).tolist())
    values = np.array([[float(row[label.name] or 0) for label in continuous] for row in rows])
    scores = norm.ppf(rankdata(values, axis=0) / (len(rows) + 1))
    return tuple(tuple(row) for row in np.corrcoef(scores, rowvar=False).tolist())


def _share(score: float) -> float:
    """The share of a standard normal distribution below a score."""
    return 0.5 * (1 + math.erf(score / math.sqrt(2)))


def _score(share: float) -> float:
    """The inverse of `_share`, within four deviations."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(min(max(share, 3e-5), 1 - 3e-5))
