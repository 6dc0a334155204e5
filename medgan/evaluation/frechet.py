"""The Fréchet distance between sets of features by a stable route, with what it does not say of few scans.

The usual implementation takes the square root of the product of two covariance matrices. With fewer scans than features
both are singular, the root comes out complex or not at all, and its real part is quoted. Here no root of a matrix is
taken: with the centred features A and B, divided by the root of the number of scans less one, the covariances are A'A
and B'B, and the trace of the root of their product is the sum of the singular values of A B'. That is exact for any
number of scans. What remains is the bias: the distance of few scans is too large by about a constant over their number
(Chong and Forsyth, "Effectively unbiased FID and Inception Score and where to find them", CVPR 2020), so it is also
extrapolated to infinitely many scans, and compared with real halves of one size only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgan.evaluation.fidelity import Estimate, Features, checked_pair, jackknifed
from medgan.evaluation.halvings import Halving, floor_and_matched, over_halvings

_FRACTIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
_FEWEST_TO_EXTRAPOLATE = 16
_JACKKNIFE = 40
_FLOOR_EXTRAPOLATIONS = 20
# A distance takes the cube of the number of scans; many scans need fewer subsets for an equally steady answer.
_MANY = 300


@dataclass(frozen=True)
class FrechetDistance:
    """A Fréchet distance, squared as usual, with what limits it.

    Args:
        value: the distance of the sets as they are; positive even for equal distributions.
        low: lower end of the interval that holds the value, for as many scans, with 95 % confidence.
        high: its upper end.
        method: how the interval was found, in words.
        scans: how many there are in the two sets.
        extrapolated: to infinitely many scans, by a straight line in one over their number; None for fewer than 16
            scans in a set. It may be negative by chance.
        warning: why value and extrapolation cannot be compared with those of other sets, or None.
    """

    value: float
    low: float
    high: float
    method: str
    scans: tuple[int, int]
    extrapolated: Estimate | None
    warning: str | None


def frechet_distance(real: Features, synthetic: Features) -> float:
    """Squared Fréchet distance between the Gaussians with the means and covariances of the rows of (N, D) and (M, D).

    Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982. Covariances have the
    divisor N - 1.

    Args:
        real: (N, D), at least two rows.
        synthetic: (M, D), at least two rows.
    """
    apart = real.mean(0) - synthetic.mean(0)
    a, b = _centred(real), _centred(synthetic)
    product = np.linalg.norm(_shortened(a) @ _shortened(b).T, "nuc")
    return max(0.0, float(apart @ apart + np.sum(a**2) + np.sum(b**2) - 2 * product))


def frechet(real_features: Features, synthetic_features: Features, *, seed: int = 0) -> FrechetDistance:
    """The Fréchet distance with its interval, its extrapolation and a warning where scans are few.

    Intervals are those of the delete-d jackknife with random halves of both sets. Since halves have a larger bias,
    their deviations are taken from their own mean.

    Args:
        real_features: (N, D), standardised.
        synthetic_features: (M, D), standardised in the same way.
        seed: of the subsets.

    Raises:
        MedganError: a set has fewer than four scans, or the sets differ in D.
    """
    real, synthetic = checked_pair(real_features, synthetic_features)
    random = np.random.default_rng(seed)
    value = frechet_distance(real, synthetic)
    many = min(len(real), len(synthetic)) > _MANY
    count, among, repeats = (_JACKKNIFE // 2, 1, 3) if many else (_JACKKNIFE, 2, 8)
    halves = [(_part(random, real, 0.5), _part(random, synthetic, 0.5)) for _ in range(count)]
    subsets = f"{count} subsets of 50%"
    interval = jackknifed(value, _deviations([frechet_distance(*half) for half in halves]), 0.5, subsets)
    extrapolated = None
    if min(len(real), len(synthetic)) >= _FEWEST_TO_EXTRAPOLATE:
        among_halves = _deviations([_extrapolated(*half, random, repeats=among) for half in halves])
        limit = _extrapolated(real, synthetic, random, repeats=repeats)
        extrapolated = jackknifed(limit, among_halves, 0.5, subsets)
    return FrechetDistance(
        value=value,
        low=interval.low,
        high=interval.high,
        method=interval.method,
        scans=(len(real), len(synthetic)),
        extrapolated=extrapolated,
        warning=rank_warning(min(len(real), len(synthetic)), real.shape[1]),
    )


def frechet_floor(
    real_features: Features, synthetic_features: Features, chosen: Sequence[Halving], *, seed: int = 0
) -> tuple[FrechetDistance, Estimate]:
    """The distance between real halves, and between the same halves and as many synthetic scans.

    Args:
        real_features: (N, D), standardised.
        synthetic_features: (M, D), standardised in the same way.
        chosen: the halvings.
        seed: of the subsets behind the extrapolation.

    Returns:
        The floor, whose value is the mean over the halvings and whose interval holds their middle 95 %; and what
        compares with it.

    Raises:
        MedganError: a set has fewer than four scans, or the sets differ in D.
    """
    real, synthetic = checked_pair(real_features, synthetic_features)
    floor, matched = floor_and_matched(
        chosen,
        lambda first, second: frechet_distance(real[first], real[second]),
        lambda first, second: frechet_distance(real[first], synthetic[second]),
    )
    size, random = len(chosen[0].first), np.random.default_rng(seed)
    extrapolated = None
    if size >= _FEWEST_TO_EXTRAPOLATE:
        extrapolated = over_halvings(
            [
                _extrapolated(real[halving.first], real[halving.second], random, repeats=1 if size > _MANY else 2)
                for halving in chosen[:_FLOOR_EXTRAPOLATIONS]
            ]
        )
    warning = rank_warning(size, real.shape[1])
    return FrechetDistance(**vars(floor), scans=(size, size), extrapolated=extrapolated, warning=warning), matched


def rank_warning(scans: int, features: int) -> str | None:
    """What to know where the smaller set has fewer than twice as many scans as there are features; else None.

    Between equal sets the extrapolation comes to zero from twice as many on; with as many, a third of the bias is left,
    with half as many, two thirds.
    """
    if scans >= 2 * features:
        return None
    if scans > features:
        return (
            f"{scans} scans are fewer than twice the {features} features: the extrapolation takes only a part of the "
            "Fréchet distance's bias away. Compare it with the real halves at the same number."
        )
    return (
        f"{scans} scans cannot determine the covariance of {features} features: the Fréchet distance is dominated by "
        "the number of scans, and the extrapolation takes only a part of that away. Compare it with the real halves at "
        "the same number only, and rely on KID and MMD."
    )


def _centred(features: Features) -> Features:
    """(N, D) such that its product with itself is the covariance."""
    return np.asarray((features - features.mean(0)) / np.sqrt(len(features) - 1))


def _shortened(rows: Features) -> Features:
    """At most D rows with the same product with themselves, so that many scans cost no more than many features."""
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows


def _extrapolated(real: Features, synthetic: Features, random: np.random.Generator, *, repeats: int) -> float:
    """The intercept of a straight line through the distances of subsets, over one over the numbers of scans."""
    positions, values = [1 / len(real) + 1 / len(synthetic)], [frechet_distance(real, synthetic)]
    for fraction in _FRACTIONS:
        for _ in range(repeats):
            parts = _part(random, real, fraction), _part(random, synthetic, fraction)
            positions.append(1 / len(parts[0]) + 1 / len(parts[1]))
            values.append(frechet_distance(*parts))
    return float(np.polynomial.polynomial.polyfit(positions, values, 1)[0])


def _part(random: np.random.Generator, features: Features, fraction: float) -> Features:
    """A random part of the rows without repeats, at least two."""
    return features[random.permutation(len(features))[: max(2, round(len(features) * fraction))]]


def _deviations(values: Sequence[float]) -> Features:
    return np.asarray(values) - np.mean(values)
