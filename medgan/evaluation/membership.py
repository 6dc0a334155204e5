"""Membership inference: can somebody who holds a scan tell from the synthetic ones whether it was trained on?

The attack needs nothing but the samples: scans that were trained on lie nearer to the nearest sample than others do,
if the generator leans on them (Hayes et al., "LOGAN", 2019; Hilprecht et al., "Monte Carlo and reconstruction
membership inference attacks against generative models", 2019). A distance counts in units of the scan's distances to
other real scans, because an unusual scan is far from everything. Stronger attacks exist, which know the weights: an
area of one half says that this one fails, not that all do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

Floats = NDArray[np.float64]

FEWEST_OUTSIDERS = 2
_NEIGHBOURS = 10
_ROUNDS = 2000


@dataclass(frozen=True)
class Membership:
    """How well an attack by distances tells training scans from others.

    Args:
        auc: area under the receiver operating characteristic: the probability that a training scan is nearer to the
            samples than a scan that was not trained on. One half is guessing.
        low: lower end of the 95 % bootstrap interval, scans of both kinds drawn again.
        high: upper end. With all scans told rightly the interval has no width, which few scans make likely.
        members: how many training scans.
        outsiders: how many scans that were not trained on.
    """

    auc: float
    low: float
    high: float
    members: int
    outsiders: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def membership_attack(members: Floats, outsiders: Floats, *, seed: int = 0) -> Membership:
    """Area under the curve of an attack, with its interval.

    Args:
        members: (M,), one score for each training scan; smaller means nearer to the samples.
        outsiders: (H,), the same of real scans that were not trained on.
        seed: of the bootstrap.

    Raises:
        MedganError: there are fewer than two scans of a kind.
    """
    if min(len(members), len(outsiders)) < FEWEST_OUTSIDERS:
        raise MedganError(
            f"the membership attack got {len(members)} training scans and {len(outsiders)} others; it needs at least "
            f"{FEWEST_OUTSIDERS} of each",
            hint="Hold more scans out.",
        )
    wins = (members[:, None] < outsiders[None]) + 0.5 * (members[:, None] == outsiders[None])
    random = np.random.default_rng(seed)
    drawn = np.empty(_ROUNDS)
    for number in range(_ROUNDS):
        rows = np.bincount(random.integers(len(members), size=len(members)), minlength=len(members))
        columns = np.bincount(random.integers(len(outsiders), size=len(outsiders)), minlength=len(outsiders))
        drawn[number] = rows @ wins @ columns / (len(members) * len(outsiders))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Membership(float(wins.mean()), float(low), float(high), len(members), len(outsiders))


def nearness(to_samples: Sequence[Floats], to_training: Sequence[Floats]) -> Floats:
    """How near each real scan is to the samples, by several measures of distance at once; smaller is nearer.

    By each measure, the distance to the nearest sample over the mean distance to the ten nearest training scans; of
    these the geometric mean.

    Args:
        to_samples: for each measure, distances (R, N) of the real scans to the samples.
        to_training: for each measure, distances (R, M) to the training scans; infinite for the scan itself.

    Returns:
        (R,).
    """
    logarithms = []
    for samples, training in zip(to_samples, to_training, strict=True):
        nearest = np.sort(training, axis=1)[:, :_NEIGHBOURS]
        finite = np.isfinite(nearest)
        usual = np.where(finite, nearest, 0.0).sum(axis=1) / finite.sum(axis=1)
        logarithms.append(np.log(np.maximum(samples.min(axis=1), 1e-12) / np.maximum(usual, 1e-12)))
    return np.asarray(np.exp(np.mean(logarithms, axis=0)))
