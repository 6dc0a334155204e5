"""Whether one way of training is better than another, tested on the same subjects from the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.evaluation.fidelity import Estimate

Scores = NDArray[np.float64]
Statistic = Callable[[NDArray[np.intp], NDArray[np.intp]], float]
"""A figure of the trainings and subjects with these numbers, both with repetitions."""

_RESAMPLES = 4000


def mean_difference(
    first: Scores, second: Scores, *, confidence: float = 0.95, resamples: int = _RESAMPLES, seed: int = 0
) -> Estimate:
    """The mean of `second` minus `first`, and its interval over seeds and subjects.

    Seeds and subjects are resampled each on their own, whole rows and whole columns (the pigeonhole bootstrap; Owen,
    Annals of Applied Statistics 1, 2007), because both are samples of many others: a better mean over five seeds on the
    same few subjects says nothing yet of other subjects.

    Args:
        first: (seeds, subjects); NaN where a subject has no score, in all rows alike.
        second: the same for the other way, in the same order.
        confidence: that the interval holds the mean difference.
        resamples: of the bootstrap.
        seed: of the resampling.

    Raises:
        MedganError: the shapes differ, a score is missing in one of the two alone, or no subject has a score.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise MedganError(f"paired scores need one shape (seeds, subjects); these are {first.shape} and {second.shape}")
    differences = second - first
    kept = np.isfinite(differences).all(axis=0)
    if not kept.any() or (~kept & (np.isfinite(first) | np.isfinite(second)).any(axis=0)).any():
        raise MedganError("no subject has a score, or a subject has one in some trainings and none in others")
    differences = differences[:, kept]
    rng = np.random.default_rng(seed)
    rows, columns = differences.shape
    weights = [rng.multinomial(size, np.full(size, 1 / size), resamples) / size for size in (rows, columns)]
    means = np.einsum("rs,sn,rn->r", weights[0], differences, weights[1], optimize=True)
    return _estimate(float(differences.mean()), means, rows, columns, confidence)


def statistic_difference(
    first: Statistic,
    second: Statistic,
    seeds: int,
    strata: NDArray[np.integer],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The same for a figure that is no mean over subjects, such as an area under a curve.

    Args:
        first: the figure of one way for some trainings and subjects.
        second: of the other way.
        seeds: how many trainings.
        strata: (subjects,), such as their class; each is resampled on its own, so that none is ever missing.
        confidence: that the interval holds the difference.
        resamples: of the bootstrap.
        seed: of the resampling.
    """
    subjects = np.arange(len(strata))
    found = [
        second(rows, columns) - first(rows, columns)
        for rows, columns in _drawn(seeds, strata, resamples, np.random.default_rng(seed))
    ]
    value = second(np.arange(seeds), subjects) - first(np.arange(seeds), subjects)
    return _estimate(value, np.array(found), seeds, len(subjects), confidence)


def includes_zero(estimate: Estimate) -> bool:
    """Whether the interval leaves open which of the two is better."""
    return estimate.low <= 0 <= estimate.high


def _drawn(
    seeds: int, strata: NDArray[np.integer], resamples: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    groups: Sequence[NDArray[np.intp]] = [np.flatnonzero(strata == one) for one in np.unique(strata)]
    for _ in range(resamples):
        rows = rng.integers(seeds, size=seeds)
        yield rows, np.concatenate([rng.choice(group, len(group)) for group in groups])


def _estimate(value: float, found: Scores, seeds: int, subjects: int, confidence: float) -> Estimate:
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    method = f"bootstrap over {seeds} seeds and {subjects} subjects, each resampled on its own"
    return Estimate(value, float(low), float(high), method)
