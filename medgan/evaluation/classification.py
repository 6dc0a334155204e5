"""How well a classifier tells classes apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def balanced_accuracy(truth: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """The mean over the classes that occur of the share of their scans whose likeliest class is theirs.

    Args:
        truth: (N,), numbers of classes from 0.
        probabilities: (N, K).
    """
    right = probabilities.argmax(axis=1) == truth
    return float(np.mean([right[truth == one].mean() for one in np.unique(truth)]))


def area_under_curve(truth: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """The area under the receiver operating characteristic; ties count half.

    Of several classes it is that of each against the rest, in the mean over those that occur; NaN where only one does.

    Args:
        truth: (N,), numbers of classes from 0.
        probabilities: (N, K).
    """
    from scipy.stats import rankdata

    present = np.unique(truth)
    if len(present) < 2:
        return float("nan")
    areas = []
    # Of two classes the second's probability says everything.
    for one in present[1:] if probabilities.shape[1] == 2 else present:
        ranks, positive = rankdata(probabilities[:, one]), truth == one
        count = positive.sum()
        won = ranks[positive].sum() - count * (count + 1) / 2
        areas.append(won / (count * (len(truth) - count)))
    return float(np.mean(areas))
