"""Training batches of two contrasts as a pure function of (seed, step): patches of pairs, or of anybody's scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.data.cohort import Cohort, ScanRecord
from medgan.data.cutting import cumulative_detail, cut_around, drawn_centre
from medgan.data.intensity import normalise
from medgan.data.pairs import ScanPair, cohort_range
from medgan.data.patches import Batch, Flips
from medgan.errors import MedganError
from medgan.geometry import Shape
from medgan.resampling import checked_shape

Range = Literal["scan", "cohort"]
_SOURCE, _TARGET = 0, 1
_AS_STORED = (0, 1, 2)
# What draws from one seed are for.
_ORDER, _ITEM, _PARTNER = 10, 11, 12


@dataclass(frozen=True)
class PairBatch(Batch):
    """What a training step of a translation sees: `voxels` (B, 2, X, Y, Z) hold the source in channel 0 and the target
    in channel 1; the other fields of `Batch` are about the source.

    Args:
        targets: the B target scans.
        target_starts: per item, the index of its first voxel in the target scan.
        target_flips: per item, which axes of the target were flipped.
    """

    targets: tuple[ScanRecord, ...] = ()
    target_starts: tuple[Shape, ...] = ()
    target_flips: tuple[Flips, ...] = ()


@dataclass(frozen=True)
class PatchPlan:
    """How patches are cut and shown.

    Args:
        shape: voxels along R, A and S.
        batch_size: patches per step.
        seed: of the order, the places and the flips.
        flip: flip each axis with probability one half.
        ranges: for source and target, whether 0 and 1 are percentiles of each scan, or the medians of these over all
            scans of the contrast.
    """

    shape: Shape
    batch_size: int
    seed: int
    flip: bool = True
    ranges: tuple[Range, Range] = ("scan", "scan")


@dataclass(frozen=True)
class _Cut:
    """One patch and where it comes from."""

    voxels: NDArray[np.float32]
    record: ScanRecord
    start: Shape
    flips: Flips


class _TwoContrasts:
    """What both kinds of batches share: cutting, flipping, normalising."""

    def __init__(
        self, cohort: Cohort, sources: Sequence[ScanRecord], targets: Sequence[ScanRecord], plan: PatchPlan
    ) -> None:
        if plan.batch_size < 1 or plan.seed < 0:
            raise MedganError(f"impossible batch size {plan.batch_size} or seed {plan.seed}")
        checked_shape(plan.shape)
        self.plan, self.records = plan, (tuple(sources), tuple(targets))
        self._ranges = tuple(
            cohort_range(records) if kind == "cohort" else None
            for kind, records in zip(plan.ranges, self.records, strict=True)
        )
        self._voxels = lru_cache(maxsize=128)(lambda side, index: cohort.voxels(self.records[side][index]))
        self._table = lru_cache(maxsize=2048)(
            lambda side, index: cumulative_detail(np.array(self._voxels(side, index)))
        )

    def batch(self, step: int) -> PairBatch:
        """The batch of this step, always the same."""
        if step < 0:
            raise MedganError(f"a step must not be negative, this is {step}")
        items = self._items(step)
        return PairBatch(
            step,
            torch.from_numpy(np.stack([np.stack([cut.voxels for cut in item]) for item in items])),
            tuple(item[_SOURCE].record for item in items),
            tuple(item[_SOURCE].start for item in items),
            tuple(item[_SOURCE].flips for item in items),
            (_AS_STORED,) * len(items),
            tuple(item[_TARGET].record for item in items),
            tuple(item[_TARGET].start for item in items),
            tuple(item[_TARGET].flips for item in items),
        )

    def _items(self, step: int) -> list[tuple[_Cut, _Cut]]:
        raise NotImplementedError

    def _numbers(self, step: int) -> range:
        return range(step * self.plan.batch_size, (step + 1) * self.plan.batch_size)

    def _flips(self, rng: np.random.Generator) -> Flips:
        x, y, z = (bool(rng.random() < 0.5) and self.plan.flip for _ in range(3))
        return x, y, z

    def _centre(self, side: int, index: int, rng: np.random.Generator) -> list[int]:
        """A voxel, more likely where the scan has edges."""
        return drawn_centre(self._table(side, index), self._voxels(side, index).shape, rng)

    def _cut(self, side: int, index: int, centre: Sequence[int], flips: Flips) -> _Cut:
        record = self.records[side][index]
        cut, start = cut_around(self._voxels(side, index), centre, self.plan.shape)
        turned = np.array(np.flip(cut, tuple(axis for axis in range(3) if flips[axis])), dtype=np.float32)
        low, high = self._ranges[side] or (record.percentiles["0.5"], record.percentiles["99.5"])
        return _Cut(normalise(turned, low, high), record, start, flips)


class PairedPatches(_TwoContrasts):
    """The same place of both scans of a pair, flipped alike; every pair is seen once per epoch.

    Centres are drawn by the edges of the source as often as by those of the target.

    Args:
        cohort: the scans.
        pairs: of `medgan.data.pairs.paired`.
        plan: how patches are cut.

    Raises:
        MedganError: there is no pair, or the plan is impossible.
    """

    def __init__(self, cohort: Cohort, pairs: Sequence[ScanPair], plan: PatchPlan) -> None:
        if not pairs:
            raise MedganError("there is no pair to learn from", file=cohort.folder)
        super().__init__(cohort, [pair.source for pair in pairs], [pair.target for pair in pairs], plan)

    def _items(self, step: int) -> list[tuple[_Cut, _Cut]]:
        return [self._item(number) for number in self._numbers(step)]

    def _item(self, number: int) -> tuple[_Cut, _Cut]:
        rng = np.random.default_rng([self.plan.seed, _ITEM, number])
        index = _in_turn(len(self.records[_SOURCE]), self.plan.seed, number)
        centre, flips = self._centre(int(rng.integers(2)), index, rng), self._flips(rng)
        return self._cut(_SOURCE, index, centre, flips), self._cut(_TARGET, index, centre, flips)


class UnpairedPatches(_TwoContrasts):
    """A place of a source scan and another place of somebody else's target scan.

    Sources are seen once per epoch; targets are drawn from the subjects that no source of the batch is from, if there
    are any, so that no discriminator can tell the contrasts apart by the person and no accidental pair is learned.

    Args:
        cohort: the scans.
        sources: of the one contrast.
        targets: of the other.
        plan: how patches are cut.

    Raises:
        MedganError: a contrast has no scan, or the plan is impossible.
    """

    def __init__(
        self, cohort: Cohort, sources: Sequence[ScanRecord], targets: Sequence[ScanRecord], plan: PatchPlan
    ) -> None:
        if not (sources and targets):
            raise MedganError("each contrast needs at least one scan", file=cohort.folder)
        super().__init__(cohort, sources, targets, plan)

    def _items(self, step: int) -> list[tuple[_Cut, _Cut]]:
        sources, targets = self.records
        numbers = self._numbers(step)
        shown = [_in_turn(len(sources), self.plan.seed, number) for number in numbers]
        subjects = {sources[index].subject for index in shown}
        others = [index for index, one in enumerate(targets) if one.subject not in subjects]
        partners = others or list(range(len(targets)))
        items = []
        for number, index in zip(numbers, shown, strict=True):
            first, second = (np.random.default_rng([self.plan.seed, key, number]) for key in (_ITEM, _PARTNER))
            other = partners[int(second.integers(len(partners)))]
            source = self._cut(_SOURCE, index, self._centre(_SOURCE, index, first), self._flips(first))
            target = self._cut(_TARGET, other, self._centre(_TARGET, other, second), self._flips(second))
            items.append((source, target))
        return items


def _in_turn(count: int, seed: int, number: int) -> int:
    """Which of `count` scans item `number` is: all in an order drawn anew for each epoch."""
    epoch, place = divmod(number, count)
    return _epoch_order(count, seed, epoch)[place]


@lru_cache(maxsize=16)
def _epoch_order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, _ORDER, epoch]).permutation(count).tolist())
