"""Alarms at a stated rate from few innocent scores: the upper tail is fitted, because counting cannot reach it.

To raise one alarm in a hundred by counting takes several hundred innocent scores. A hospital's cohort has fewer, so the
largest quarter of the scores is taken for an exponential tail, which is what most distributions look like far out
(Pickands 1975, "Statistical inference using extreme order statistics"; shape zero), and extrapolated. The scale of
that tail is itself estimated from few scores; the predictive distribution, which is a Lomax distribution, allows for
that: the fewer scores, the higher the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

Floats = NDArray[np.float64]

FEWEST_SCORES = 3
_SHARE = 0.25
_FEWEST_EXCESSES = 4
# Scales of the tail, times the logarithm of how many scores there are, beyond which one is not innocent.
_OUTLYING = 5.0


@dataclass(frozen=True)
class Tail:
    """The upper tail of innocent scores.

    Args:
        start: score at which it begins.
        scale: mean excess over the start; zero if all scores are equal.
        excesses: how many scores lie above the start.
        scores: how many there are, outlying ones left out.
        outlying: numbers of the scores that are too far out to be innocent.
    """

    start: float
    scale: float
    excesses: int
    scores: int
    outlying: tuple[int, ...] = ()

    def chance(self, score: float) -> float:
        """Upper bound on the probability that one further innocent score is as high, exact in the tail.

        Below the start, the tail's whole probability.
        """
        share = self.excesses / self.scores
        if score <= self.start:
            return share
        if self.scale <= 0:
            return 0.0
        return float(share * (1 + (score - self.start) / (self.scale * self.excesses)) ** -self.excesses)

    def threshold(self, rate: float) -> float:
        """The score that one further innocent scan exceeds with probability `rate`, which lies below the tail's."""
        share = self.excesses / self.scores
        return self.start + self.scale * self.excesses * (max(share / rate, 1.0) ** (1 / self.excesses) - 1)

    @property
    def is_extrapolated(self) -> bool:
        """Whether a rate of one in a hundred lies beyond what was seen."""
        return self.scores < 100


def fitted_tail(scores: Floats) -> Tail:
    """Fit the upper tail of innocent scores, higher being more suspicious.

    A score that lies many times further out than the others is left out and named: the same scan twice in a cohort, or
    a person scanned twice, would otherwise hide every copy.

    Args:
        scores: (N,), finite.

    Raises:
        MedganError: there are fewer than three.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) < FEWEST_SCORES:
        raise MedganError(
            f"the audit got {len(values)} real scans to calibrate on; it needs at least {FEWEST_SCORES}",
            hint="Give more scans.",
        )
    lower, middle, upper = np.quantile(values, (0.25, 0.5, 0.75))
    # Of an exponential distribution, the distance of the quartiles is its scale times the logarithm of three.
    limit = middle + _OUTLYING * (upper - lower) / np.log(3) * np.log(len(values))
    innocent = values <= limit if upper > lower else np.ones(len(values), dtype=bool)
    kept = np.sort(values[innocent])[::-1]
    count = min(len(kept) - 1, max(_FEWEST_EXCESSES, round(_SHARE * len(kept))))
    return Tail(
        start=float(kept[count]),
        scale=float((kept[:count] - kept[count]).mean()),
        excesses=count,
        scores=len(kept),
        outlying=tuple(int(number) for number in np.flatnonzero(~innocent)),
    )
