"""Synthetic scans of each class against real ones of the same class, and how sure a classifier is of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.evaluation.fidelity import FEWEST_SCANS, Estimate, Features, jackknifed, kid, real_floor
from medgan.evaluation.scans import Scans

Classifier = Callable[[NDArray[Any]], Sequence[float] | NDArray[Any]]
"""From a volume (X, Y, Z), normalised to about 0..1, to the probability of each class, (K,)."""

_SUBSETS = 100


@dataclass(frozen=True)
class ClassDistance:
    """The scans of one class.

    Args:
        name: of the class.
        real: how many real scans there are of it.
        synthetic: how many synthetic ones.
        kid: kernel distance between them; None where either kind has fewer than four.
        kid_floor: the same between halves of the real ones; None where there are fewer than four.
    """

    name: str
    real: int
    synthetic: int
    kid: Estimate | None
    kid_floor: Estimate | None


@dataclass(frozen=True)
class ClassFigures:
    """What labels or a classifier add to the card.

    Args:
        source: who says which class a scan is of: "labels" or "classifier".
        distances: one for each class of the real scans.
        inception_score: of the synthetic scans; None without a classifier.
        real_inception_score: of as many real scans, what the former is compared with.
    """

    source: str
    distances: tuple[ClassDistance, ...]
    inception_score: Estimate | None
    real_inception_score: Estimate | None


def class_probabilities(classifier: Classifier, scans: Scans) -> Features:
    """The classifier's answer for every scan, (N, K).

    Raises:
        MedganError: an answer is not a distribution over at least two classes, or their numbers differ.
    """
    rows: list[Features] = []
    for number in range(len(scans)):
        row = np.asarray(classifier(np.asarray(scans[number])), dtype=np.float64)
        usable = row.ndim == 1 and len(row) > 1 and (not rows or len(row) == len(rows[0]))
        if not usable or not (np.isfinite(row).all() and row.min() >= 0 and abs(row.sum() - 1) < 1e-3):
            raise MedganError(
                f"the classifier gave {np.array2string(row, threshold=6, precision=3)} for scan {number}, which are no "
                "probabilities",
                hint="It has to give one number from 0 to 1 for each class, together 1; apply a softmax to logits.",
            )
        rows.append(row)
    return np.stack(rows)


def inception_score(probabilities: Features, *, size: int | None = None, seed: int = 0) -> Estimate:
    """exp of the mean divergence of each scan's class probabilities from their mean: from 1 to the number of classes.

    High when the classifier is sure of every scan and all classes appear. Salimans et al., "Improved techniques for
    training GANs", NeurIPS 2016. It falls with fewer scans, so that only scores of equally many compare, and it knows
    nothing of what real scans look like.

    Args:
        probabilities: (N, K).
        size: how many scans count at a time; the score is then the mean over random subsets. All by default.
        seed: of the subsets.
    """
    random, count = np.random.default_rng(seed), len(probabilities)
    size = count if size is None else min(size, count)
    subsets = [random.permutation(count)[:size] for _ in range(_SUBSETS if size < count else 1)]
    value = float(np.mean([_score(probabilities[rows]) for rows in subsets]))
    halves = np.array([_score(probabilities[random.permutation(count)[: max(1, count // 2)]]) for _ in range(_SUBSETS)])
    return jackknifed(value, halves - halves.mean(), 0.5, f"{_SUBSETS} subsets of 50%")


def class_distances(
    real_features: Features, synthetic_features: Features, labels: tuple[Sequence[str], Sequence[str]], *, seed: int = 0
) -> tuple[ClassDistance, ...]:
    """Kernel distance of every class, in the order of names.

    Args:
        real_features: (N, D), standardised.
        synthetic_features: (M, D), standardised in the same way.
        labels: the class of each real scan, and of each synthetic one.
        seed: of the intervals.

    Raises:
        MedganError: there are not as many labels as scans.
    """
    of_real, of_synthetic = (np.asarray([str(label) for label in names]) for names in labels)
    for kind, names, rows in (("real", of_real, real_features), ("synthetic", of_synthetic, synthetic_features)):
        if len(names) != len(rows):
            raise MedganError(f"there are {len(names)} labels for {len(rows)} {kind} scans", hint="Give one for each.")
    return tuple(
        _distance(name, real_features[of_real == name], synthetic_features[of_synthetic == name], seed)
        for name in sorted({*of_real, *of_synthetic})
    )


def _distance(name: str, real: Features, synthetic: Features, seed: int) -> ClassDistance:
    enough = len(real) >= FEWEST_SCANS
    return ClassDistance(
        name=str(name),
        real=len(real),
        synthetic=len(synthetic),
        kid=kid(real, synthetic, seed=seed) if enough and len(synthetic) >= FEWEST_SCANS else None,
        kid_floor=real_floor(real, seed=seed) if enough else None,
    )


def _score(probabilities: Features) -> float:
    """The inception score of (N, K) as it is."""
    mean = probabilities.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(probabilities > 0, probabilities * np.log(probabilities / mean), 0.0)
    return float(np.exp(terms.sum(1).mean()))
