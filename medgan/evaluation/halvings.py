"""Equals compared with equals: real against real and real against synthetic, with the same number of scans each.

Most distances between sets are positive even for two sets of one distribution, the more so the fewer scans there are.
So a distance says something beside the distance between two halves of the real set, and only if it is computed on as
many scans: half of the real set against the other half, and the same half against as many synthetic scans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medgan.evaluation.fidelity import Estimate

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Halving:
    """Row numbers of three sets of one size.

    Args:
        first: real scans.
        second: other real scans.
        synthetic: synthetic scans.
    """

    first: Rows
    second: Rows
    synthetic: Rows


def halvings(real: int, synthetic: int, *, repeats: int = 50, seed: int = 0) -> tuple[Halving, ...]:
    """Random halvings of `real` scans, each with as many of the `synthetic` ones, or fewer where these do not suffice.

    Args:
        real: how many there are, at least two.
        synthetic: how many there are, at least one.
        repeats: how many halvings.
        seed: of the choice.
    """
    random = np.random.default_rng(seed)
    size = min(real // 2, synthetic)
    orders = [random.permutation(real) for _ in range(repeats)]
    middle = real // 2
    return tuple(
        Halving(order[:size], order[middle : middle + size], random.permutation(synthetic)[:size]) for order in orders
    )


def over_halvings(values: Sequence[float]) -> Estimate:
    """Mean and middle 95 % of a figure's values over halvings."""
    mean, (low, high) = float(np.mean(values)), np.quantile(values, (0.025, 0.975))
    method = f"middle 95 % of {len(values)} random halvings"
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)), method)


def floor_and_matched(
    chosen: Sequence[Halving], to_real: Callable[[Rows, Rows], float], to_synthetic: Callable[[Rows, Rows], float]
) -> tuple[Estimate, Estimate]:
    """A figure between halves of the real set, and between the same halves and as many synthetic scans.

    Args:
        chosen: the halvings.
        to_real: the figure of two sets of real scans.
        to_synthetic: the figure of a set of real scans and a set of synthetic ones.
    """
    floor = over_halvings([to_real(halving.first, halving.second) for halving in chosen])
    return floor, over_halvings([to_synthetic(halving.first, halving.synthetic) for halving in chosen])
