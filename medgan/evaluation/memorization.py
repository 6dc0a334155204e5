"""Whether a generator copies its training scans: nearest training neighbours, against those of scans it never saw.

A small distance to a training scan proves nothing by itself: scans of one anatomy are close to each other, and a
blurred average is close to all of them. So every distance is compared twice: with the same scan's distance to the
training scans that follow (a copy is close to one of them only), and with what real scans outside the training set
show. No statistic finds all memorisation (Stein et al., "Exposing flaws of generative model evaluation metrics",
NeurIPS 2023): no flags is no proof of privacy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.evaluation.copies import CopyFigures
from medgan.evaluation.membership import FEWEST_OUTSIDERS, Membership, membership_attack, nearness

Floats = NDArray[np.float64]

_FOLLOWING = 10
_FENCE = 4.0
_MAD_TO_SIGMA = 1.4826
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Neighbour:
    """One sample's nearest training scan.

    Args:
        index: its number in the training set.
        distance: to it.
        relative: the distance, divided by the mean distance to the (up to ten) training scans that follow. Near one for
            a scan that stands apart from all, near zero for a copy.
    """

    index: int
    distance: float
    relative: float


@dataclass(frozen=True)
class NeighbourStatistics:
    """Nearest training neighbours of all samples by one measure of distance.

    Args:
        neighbours: one for each sample.
        reference: one for each reference scan.
        median_ratio: median distance of the samples divided by that of the reference scans; well under one means too
            close.
        auc: probability that a sample's relative distance is smaller than a reference scan's, ties counting half; 0.5
            is what scans from the same population get, one means that every sample is nearer to some training scan.
        threshold: the smallest relative distance that passes.
        flagged: numbers of the samples below it, suspiciously close to one training scan.
    """

    neighbours: tuple[Neighbour, ...]
    reference: tuple[Neighbour, ...]
    median_ratio: float
    auc: float
    threshold: float
    flagged: tuple[int, ...]


@dataclass(frozen=True)
class SuspiciousPair:
    """A sample and the training scan that it seems to copy.

    Args:
        sample: number of the sample.
        training: number of the training scan.
        by: the parts of the audit that flag it: "copies", "features", "voxels"; the scan is the first one's.
    """

    sample: int
    training: int
    by: tuple[str, ...]


@dataclass(frozen=True)
class Memorization:
    """The memorisation audit.

    Args:
        features: by distance between standardised features.
        voxels: by one minus the correlation of voxels, the better one of the sample and its left-right mirror image.
        reference: what the reference scans are: "held-out scans", or "training scans, each against the others".
        flagged: samples flagged by any part.
        copies: the search for disguised copies; None where it was not made.
        membership: the attack on training scans; None without held-out scans.
        pairs: each flagged sample with its training scan, in order of sample.
    """

    features: NeighbourStatistics
    voxels: NeighbourStatistics
    reference: str
    flagged: tuple[int, ...]
    copies: CopyFigures | None = None
    membership: Membership | None = None
    pairs: tuple[SuspiciousPair, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Distances:
    """All distances that one measure needs.

    Args:
        samples: (N, M), from each sample to each of the M training scans.
        training: (M, M), between the training scans; the diagonal is ignored.
        holdout: (H, M), from real scans outside the training set, or None.
        holdout_samples: (H, N), from these to the samples, or None.
    """

    samples: Floats
    training: Floats
    holdout: Floats | None = None
    holdout_samples: Floats | None = None


def audit_memorization(
    features: Distances, voxels: Distances, copies: CopyFigures | None = None, *, seed: int = 0
) -> Memorization:
    """Nearest training neighbours by two measures, with what to expect of scans that were not copied.

    Without held-out scans, each training scan against the others is the reference.

    Args:
        features: distances between standardised features.
        voxels: see `voxel_distances`.
        copies: what the search for disguised copies found.
        seed: of the bootstrap of the membership attack.

    Raises:
        MedganError: there are fewer than three training scans or no samples.
    """
    by_features, by_voxels = neighbour_statistics(features), neighbour_statistics(voxels)
    held_out = features.holdout is not None and len(features.holdout) > 0
    pairs = _suspicious(copies, by_features, by_voxels)
    return Memorization(
        features=by_features,
        voxels=by_voxels,
        reference="held-out scans" if held_out else "training scans, each against the others",
        flagged=tuple(pair.sample for pair in pairs),
        copies=copies,
        membership=_attacked((features, voxels), seed),
        pairs=pairs,
    )


def _suspicious(
    copies: CopyFigures | None, by_features: NeighbourStatistics, by_voxels: NeighbourStatistics
) -> tuple[SuspiciousPair, ...]:
    """Every sample that any part flags, with the training scan that the most trusted of these parts names."""
    found: dict[int, list[tuple[str, int]]] = {}
    if copies is not None:
        for sample in copies.flagged:
            found.setdefault(sample, []).append(("copies", copies.matches[sample].index))
    for name, statistics in (("voxels", by_voxels), ("features", by_features)):
        for sample in statistics.flagged:
            found.setdefault(sample, []).append((name, statistics.neighbours[sample].index))
    return tuple(
        SuspiciousPair(sample, parts[0][1], tuple(name for name, _ in parts)) for sample, parts in sorted(found.items())
    )


def _attacked(measures: Sequence[Distances], seed: int) -> Membership | None:
    """The membership attack by all measures together, where there are scans to tell the training scans from."""
    seen = [(one.holdout, one.holdout_samples) for one in measures]
    if any(scans is None or samples is None or len(scans) < FEWEST_OUTSIDERS for scans, samples in seen):
        return None
    members = nearness([one.samples.T for one in measures], [_without_itself(one.training) for one in measures])
    outsiders = nearness(
        [samples for _, samples in seen if samples is not None], [scans for scans, _ in seen if scans is not None]
    )
    return membership_attack(members, outsiders, seed=seed)


def _without_itself(training: Floats) -> Floats:
    return np.where(np.eye(len(training), dtype=bool), np.inf, training)


def neighbour_statistics(distances: Distances) -> NeighbourStatistics:
    """Nearest training neighbours by one measure.

    The threshold for flags is a robust lower fence on the logarithm of the relative distance of all real scans,
    held-out ones and training scans against each other: their median less four standard deviations, these estimated by
    the median absolute deviation.

    Raises:
        MedganError: there are fewer than three training scans or no samples.
    """
    count = len(distances.training)
    if count < 3 or len(distances.samples) == 0:
        raise MedganError(
            f"the audit got {len(distances.samples)} samples and {count} training scans; it needs at least 1 and 3",
            hint="Give more scans.",
        )
    neighbours = nearest_neighbours(distances.samples)
    among_training = nearest_neighbours(_without_itself(distances.training))
    held_out = () if distances.holdout is None else nearest_neighbours(distances.holdout)
    reference = held_out or among_training
    ours, theirs = (np.array([[n.distance, n.relative] for n in found]) for found in (neighbours, reference))
    threshold = _lower_fence(np.array([n.relative for n in (*among_training, *held_out)]))
    return NeighbourStatistics(
        neighbours=neighbours,
        reference=reference,
        median_ratio=float(np.median(ours[:, 0]) / max(np.median(theirs[:, 0]), 1e-12)),
        auc=_probability_smaller(ours[:, 1], theirs[:, 1]),
        threshold=threshold,
        flagged=tuple(i for i, found in enumerate(neighbours) if found.relative < threshold),
    )


def nearest_neighbours(distances: Floats) -> tuple[Neighbour, ...]:
    """The nearest column of each row of (N, M) distances; infinite ones are left out, and at least two must remain."""
    found = []
    for row in distances:
        order = np.argsort(row, kind="stable")
        order = order[np.isfinite(row[order])][: 1 + _FOLLOWING]
        following = float(row[order[1:]].mean())
        nearest = float(row[order[0]])
        found.append(Neighbour(int(order[0]), nearest, nearest / following if following > 0 else 1.0))
    return tuple(found)


def feature_distances(first: Floats, second: Floats) -> Floats:
    """Euclidean distances per feature between the rows of (N, D) and (M, D); shape (N, M)."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0) / first.shape[1]))


def voxel_distances(volumes: Sequence[NDArray[Any]], training: Sequence[NDArray[Any]]) -> Floats:
    """One minus the correlation of voxels, the larger of the scan's own and its left-right mirror image's; shape (N,
    M).

    Correlation ignores brightness and contrast, the mirror image undoes the commonest augmentation.

    Args:
        volumes: arrays (X, Y, Z) of one shape, X from left to right.
        training: of the same shape.
    """
    result = np.empty((len(volumes), len(training)))
    for column in range(0, len(training), _ROWS_AT_ONCE):
        columns = _unit_vectors(training[column : column + _ROWS_AT_ONCE])
        for row in range(0, len(volumes), _ROWS_AT_ONCE):
            block = volumes[row : row + _ROWS_AT_ONCE]
            straight = _unit_vectors(block) @ columns.T
            mirrored = _unit_vectors([np.asarray(volume)[::-1] for volume in block]) @ columns.T
            target = (slice(row, row + len(block)), slice(column, column + len(columns)))
            result[target] = 1.0 - np.maximum(straight, mirrored)
    return np.clip(result, 0.0, None)


def _unit_vectors(volumes: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Volumes as rows of mean zero and length one; a constant volume gives zeros, which correlate with nothing."""
    rows = np.stack([np.asarray(volume, dtype=np.float32).ravel() for volume in volumes])
    rows = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    lengths = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1, keepdims=True)).astype(np.float32)
    return np.asarray(rows / np.where(lengths > 0, lengths, np.float32(1)))


def _probability_smaller(ours: Floats, theirs: Floats) -> float:
    """P(ours < theirs) + P(equal) / 2: the area under the receiver operating characteristic."""
    difference = theirs[None, :] - ours[:, None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def _lower_fence(relative: Floats) -> float:
    """Below it lies what real scans practically never show."""
    logarithms = np.log(np.maximum(relative, 1e-12))
    middle = np.median(logarithms)
    spread = _MAD_TO_SIGMA * np.median(np.abs(logarithms - middle))
    return float(np.exp(middle - _FENCE * spread))
