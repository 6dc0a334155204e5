"""Copies of training scans among samples, disguised ones too: flipped, moved, turned, recoloured, blurred, cut, warped.

Scans are compared by edge maps of thumbnails, which grey levels hardly change. Each is laid over what all training
scans have in common; the training scans that then resemble it most are laid over it one by one, affinely; and what
counts is how well the best one fits in the better half of its blocks, against how well the next ones do. A person's
anatomy fits one scan only, whereas a blurred average fits all alike.

What innocent scans get is measured on real ones, training scans against the others and held-out ones against all, and
extrapolated (see `medgan.evaluation.tails`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.evaluation.affine_alignment import FixedVolume, Matrix, PoseFinder, mirror, moved, on_finer
from medgan.evaluation.edges import Map, best_half, best_half_of_blocks, block_weights, blocks, edge_map, unit
from medgan.evaluation.scans import Scans, over_scans, thumbnail
from medgan.evaluation.tails import Tail, fitted_tail

Item = TypeVar("Item")
Found = TypeVar("Found")

FALSE_ALARMS = 0.01
"""Part of innocent scans that may be flagged."""
FEWEST_TRAINING = 4
_SHORTLIST, _COMPARED = 10, 5
_COARSE_STEPS, _FINE_STEPS, _LAST_STEPS = 6, 4, 12
_CERTAIN = 0.999999
_MOST_REFERENCES = 128
_MOST_THREADS = 4


@dataclass(frozen=True, eq=False)
class ScanMaps:
    """What is kept of a scan: its edges.

    Args:
        fine: edge map of the thumbnail, (X, Y, Z), at most 48 voxels a side.
        coarse: edge map at half of that.
    """

    fine: Map
    coarse: Map


@dataclass(frozen=True)
class CopyMatch:
    """The training scan that fits a scan best.

    Args:
        index: its number in the training set.
        similarity: correlation of edges after alignment, in the better half of the blocks; one is the same scan.
        usual: the same of the next best training scans, their median.
        score: how far the best one stands out, on Fisher's scale.
    """

    index: int
    similarity: float
    usual: float
    score: float


@dataclass(frozen=True)
class CopyFigures:
    """Copies among samples.

    Args:
        matches: one for each sample.
        threshold: the largest score that passes.
        false_alarm_rate: part of innocent scans that should exceed it.
        references: real scans that calibrated it, training scans each against the others and held-out ones.
        false_alarms: how many of them exceed it.
        extrapolated: whether there were too few of them to count such a rate.
        repeated: numbers of training scans that look like copies of another one; they do not calibrate.
        chances: for each sample, the probability that an innocent scan scores as high; an upper bound where it is
            large.
        flagged: numbers of the samples above the threshold.
    """

    matches: tuple[CopyMatch, ...]
    threshold: float
    false_alarm_rate: float
    references: int
    false_alarms: int
    extrapolated: bool
    repeated: tuple[int, ...]
    chances: tuple[float, ...]
    flagged: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def scan_maps(volume: NDArray[Any]) -> ScanMaps:
    """The edges of a scan (X, Y, Z), any size and grey levels."""
    small = thumbnail(volume)
    half = -(-max(small.shape) // 2)
    return ScanMaps(edge_map(small), edge_map(thumbnail(small, half)))


class CopySearch:
    """Training scans to look for copies of.

    Args:
        training: their edges, all of one shape.

    Raises:
        MedganError: there are fewer than four.
    """

    def __init__(self, training: Sequence[ScanMaps]) -> None:
        if len(training) < FEWEST_TRAINING:
            raise MedganError(
                f"the search for copies got {len(training)} training scans; it needs at least {FEWEST_TRAINING}",
                hint="Give more scans.",
            )
        self._shapes = training[0].coarse.shape, training[0].fine.shape
        template = np.mean([maps.coarse for maps in training], axis=0)
        self._finder = PoseFinder(template)
        self._poses = [self._finder.pose(maps.coarse) for maps in training]
        self._upright = [self._posed(maps, pose) for maps, pose in zip(training, self._poses, strict=True)]
        self._rows = [np.stack([unit(one.coarse).ravel() for one in maps]) for maps in (self._upright, training)]
        self._blocks = [np.stack([blocks(unit(one.fine)) for one in maps]) for maps in (self._upright, training)]
        self._weights = [block_weights(one) for one in self._blocks]

    def match(self, scan: ScanMaps, *, leave_out: int | None = None) -> CopyMatch:
        """The training scan that fits best.

        Args:
            scan: of the training scans' shape.
            leave_out: number of a training scan that does not count: the scan itself.
        """
        starts = self._shortlist(scan, leave_out)
        coarse = {
            index: FixedVolume(self._upright[index].coarse).aligned(scan.coarse, start, steps=_COARSE_STEPS)[1]
            for index, start in starts.items()
        }
        fine = {index: on_finer(matrix, *self._shapes) for index, matrix in coarse.items()}
        seen = {
            index: float(np.vdot(unit(moved(scan.fine, matrix)), unit(self._upright[index].fine)))
            for index, matrix in fine.items()
        }
        compared = sorted(seen, key=lambda index: -seen[index])[:_COMPARED]
        fitted = [self._fitted(scan, index, fine[index], _FINE_STEPS) for index in compared]
        best = int(np.argmax([similarity for similarity, _ in fitted]))
        usual = float(np.median([similarity for number, (similarity, _) in enumerate(fitted) if number != best]))
        similarity = max(fitted[best][0], self._fitted(scan, compared[best], fitted[best][1], _LAST_STEPS)[0])
        fisher = np.arctanh(np.clip([similarity, usual], -_CERTAIN, _CERTAIN))
        return CopyMatch(compared[best], similarity, usual, float(fisher[0] - fisher[1]))

    def _fitted(self, scan: ScanMaps, index: int, start: Matrix, steps: int) -> tuple[float, Matrix]:
        """How well a training scan fits, and the map to the scan."""
        fixed = self._upright[index].fine
        matrix = FixedVolume(fixed).aligned(scan.fine, start, steps=steps)[1]
        return best_half(fixed, moved(scan.fine, matrix)), matrix

    def _posed(self, maps: ScanMaps, pose: Matrix) -> ScanMaps:
        """The maps as they look from the template."""
        return ScanMaps(moved(maps.fine, on_finer(pose, *self._shapes)), moved(maps.coarse, pose))

    def _shortlist(self, scan: ScanMaps, leave_out: int | None) -> dict[int, Matrix]:
        """Training scans that resemble the scan, by numbers, with the map from each (upright) to the scan.

        By each way of looking in turn: upright, coarse and fine, and moved by a shift alone or not at all, in case the
        pose of a scan that was cut deceives.
        """
        pose, shift = self._finder.pose(scan.coarse), self._finder.shift(scan.coarse)
        ranked: list[list[tuple[float, int, Matrix]]] = [[], [], [], []]
        for turn in (np.eye(4), mirror()):
            upright = self._posed(scan, pose @ turn)
            shifted, raw = self._posed(scan, shift @ turn), self._posed(scan, turn)
            looks: tuple[tuple[NDArray[Any], Matrix, bool], ...] = (
                (self._rows[0] @ unit(upright.coarse).ravel(), pose @ turn, False),
                (
                    best_half_of_blocks(self._blocks[0], blocks(unit(upright.fine)), self._weights[0]),
                    pose @ turn,
                    False,
                ),
                (self._rows[1] @ unit(shifted.coarse).ravel(), shift @ turn, True),
                (best_half_of_blocks(self._blocks[1], blocks(unit(raw.fine)), self._weights[1]), turn, True),
            )
            for found, (likeness, start, unposed) in zip(ranked, looks, strict=True):
                found.extend(
                    (float(value), index, start @ self._poses[index] if unposed else start)
                    for index, value in enumerate(likeness)
                    if index != leave_out
                )
        for found in ranked:
            found.sort(key=lambda one: -one[0])
        chosen: dict[int, Matrix] = {}
        wanted = min(_SHORTLIST, len(self._poses) - (leave_out is not None))
        for best in zip(*ranked, strict=True):
            for _, index, start in best:
                if len(chosen) < wanted:
                    chosen.setdefault(index, start)
        return chosen


@dataclass(frozen=True, eq=False)
class CopyDetector:
    """A search with the threshold that goes with it.

    Args:
        search: for copies of training scans.
        tail: of the scores of innocent scans.
        references: these scores.
        repeated: numbers of training scans that look like copies of another one.
    """

    search: CopySearch
    tail: Tail
    references: tuple[float, ...]
    repeated: tuple[int, ...]

    @classmethod
    def calibrated(cls, training: Sequence[ScanMaps], holdout: Sequence[ScanMaps] = ()) -> CopyDetector:
        """A detector for copies of training scans.

        Args:
            training: their edges.
            holdout: edges of real scans that were not trained on.

        Raises:
            MedganError: there are fewer than four training scans.
        """
        search = CopySearch(training)
        chosen = range(0, len(training), -(-len(training) // _MOST_REFERENCES))
        matches = _each(lambda number: search.match(training[number], leave_out=number), chosen)
        scores = [match.score for match in (*matches, *_each(search.match, holdout))]
        tail = fitted_tail(np.array(scores))
        repeated = tuple(chosen[number] for number in tail.outlying if number < len(chosen))
        return cls(search, tail, tuple(scores), repeated)

    def figures(self, samples: Sequence[ScanMaps], *, rate: float = FALSE_ALARMS) -> CopyFigures:
        """Which samples are copies, by a threshold that a part `rate` of innocent scans exceeds."""
        matches = _each(self.search.match, samples)
        threshold = self.tail.threshold(rate)
        return CopyFigures(
            matches=tuple(matches),
            threshold=threshold,
            false_alarm_rate=rate,
            references=len(self.references),
            false_alarms=sum(score > threshold for score in self.references),
            extrapolated=self.tail.is_extrapolated,
            repeated=self.repeated,
            chances=tuple(self.tail.chance(match.score) for match in matches),
            flagged=tuple(number for number, match in enumerate(matches) if match.score > threshold),
        )


def find_copies(samples: Scans, training: Scans, holdout: Scans = ()) -> CopyFigures:
    """Which of the samples are copies of training scans.

    Args:
        samples: volumes (X, Y, Z), array axes from Left to Right, Posterior to Anterior, Inferior to Superior.
        training: of the same shape; at least four.
        holdout: real ones that were not trained on, of the same shape.

    Raises:
        MedganError: there are fewer than four training scans.
    """
    maps = [over_scans(scan_maps, scans) for scans in (training, holdout, samples)]
    return CopyDetector.calibrated(maps[0], maps[1]).figures(maps[2])


def _each(function: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
    """`function` of every item, in their order, on a few cores."""
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))
