"""Training batches as a pure function of (seed, step): a run that stops and resumes sees the same data as one that did
not.

Item number n of a run (n = step x batch size + place in the batch) is scan n modulo the number of scans in a
permutation drawn anew for each epoch, so every scan is seen once per epoch, unless scans are drawn by their detail;
where a patch lies and how it is turned and shown is drawn from (seed, n) alone. Several ranks take steps apart, such as
step x ranks + rank.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.data.cohort import Cohort, ScanRecord
from medgan.data.contrast import random_contrast
from medgan.data.cutting import cumulative_detail, cut_around, drawn_centre
from medgan.data.intensity import normalise
from medgan.data.sharpness import sharp_axes
from medgan.errors import MedganError
from medgan.geometry import Shape
from medgan.resampling import checked_shape

Flips = tuple[bool, bool, bool]
Order = tuple[int, int, int]
_AS_STORED: Order = (0, 1, 2)


@dataclass(frozen=True)
class Batch:
    """What a training step sees.

    Args:
        step: which one.
        voxels: float32 (B, 1, X, Y, Z), normalised so that 0 and 1 are the scan's 0.5th and 99.5th percentile, within
            -1 to 4.
        records: the B scans.
        starts: per item, the index of its first voxel in the prepared scan; negative where the scan was padded by
            reflection.
        flips: per item, which axes were flipped after cutting.
        orders: per item, which axis of the prepared scan each axis of the patch is.
    """

    step: int
    voxels: torch.Tensor
    records: tuple[ScanRecord, ...]
    starts: tuple[Shape, ...]
    flips: tuple[Flips, ...]
    orders: tuple[Order, ...]


class BatchSource(Protocol):
    """Anything that gives a batch for a step."""

    def batch(self, step: int) -> Batch:
        """The batch of this step, always the same."""
        ...


class _Batches:
    """What whole volumes and patches share: which scan is due, reading and normalising it."""

    def __init__(self, cohort: Cohort, split: str, batch_size: int, seed: int, flipped_axes: Sequence[int]) -> None:
        if batch_size < 1 or seed < 0:
            raise MedganError(f"batch size must be positive and seed not negative, they are {batch_size} and {seed}")
        self.records = cohort.split(split)
        if not self.records:
            raise MedganError(
                f"the cohort has no scan in its split '{split}'",
                file=cohort.folder,
                hint="Prepare it with another --split.",
            )
        self.batch_size = batch_size
        self.seed = seed
        self._flipped_axes = tuple(flipped_axes)
        # Maps are kept open, but not so many that a large cohort runs out of file handles.
        self._voxels = lru_cache(maxsize=128)(lambda index: cohort.voxels(self.records[index]))

    def batch(self, step: int) -> Batch:
        """The batch of this step, always the same."""
        if step < 0:
            raise MedganError(f"a step must not be negative, this is {step}")
        items = [self._item(step * self.batch_size + place) for place in range(self.batch_size)]
        voxels = torch.from_numpy(np.stack([item[0] for item in items])[:, np.newaxis])
        return Batch(
            step,
            voxels,
            tuple(self.records[item[1]] for item in items),
            tuple(item[2] for item in items),
            tuple(item[3] for item in items),
            tuple(item[4] for item in items),
        )

    def _item(self, number: int) -> tuple[NDArray[np.float32], int, Shape, Flips, Order]:
        rng = np.random.default_rng([self.seed, 1, number])
        index = self._due(number, rng)
        order = self._order(index, rng)
        cut, start = self._cut(index, order, rng)
        flips = [False, False, False]
        for axis in self._flipped_axes:
            flips[axis] = bool(rng.random() < 0.5)
        cut = np.flip(cut.transpose(order), tuple(axis for axis in range(3) if flips[axis]))
        percentiles = self.records[index].percentiles
        normalised = normalise(np.array(cut, dtype=np.float32), percentiles["0.5"], percentiles["99.5"])
        return self._shown(normalised, rng), index, start, (flips[0], flips[1], flips[2]), order

    def _due(self, number: int, rng: np.random.Generator) -> int:
        epoch, place = divmod(number, len(self.records))
        return _epoch_order(len(self.records), self.seed, epoch)[place]

    def _order(self, index: int, rng: np.random.Generator) -> Order:
        return _AS_STORED

    def _shown(self, voxels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        return voxels

    def _cut(self, index: int, order: Order, rng: np.random.Generator) -> tuple[NDArray[np.float32], Shape]:
        raise NotImplementedError


class WholeVolumes(_Batches):
    """Batches of whole prepared scans.

    Args:
        cohort: the scans.
        split: "train", "validation" or "test".
        batch_size: scans per step; a batch may reach into the next epoch.
        seed: of the order and the flips.
        flip: flip each scan left to right with probability one half (array axis 0, which is R in a prepared scan).

    Raises:
        MedganError: the split is empty.
    """

    def __init__(self, cohort: Cohort, split: str, *, batch_size: int, seed: int, flip: bool = False) -> None:
        super().__init__(cohort, split, batch_size, seed, (0,) if flip else ())

    def _cut(self, index: int, order: Order, rng: np.random.Generator) -> tuple[NDArray[np.float32], Shape]:
        return self._voxels(index), (0, 0, 0)


class Patches(_Batches):
    """Batches of patches, more of them where the anatomy has edges.

    Three quarters of the patches are centred on voxels drawn with a probability proportional to the gradient's
    magnitude (mean over blocks, 16 along each axis), one quarter on any voxel; a patch that would reach over the scan's
    faces is shifted inside. A scan smaller than the patch is padded by reflection at its faces.

    Args:
        cohort: the scans.
        split: "train", "validation" or "test".
        patch_shape: voxels along R, A and S.
        batch_size: patches per step.
        seed: of the order, the places and the flips.
        margin: voxels next to the scan's faces that no patch touches, as far as the scan is large enough.
        flip: flip each axis with probability one half.
        transpose: exchange the axes at random, but so that the last axis of a patch is one along which its scan is
            sharp (`medgan.data.sharpness`).
        contrast: share of the patches that are shown in a random contrast (`medgan.data.contrast`).
        by_detail: draw scans in proportion to their voxels times their voxels per cubic mm instead of one after the
            other.

    Raises:
        MedganError: the split is empty, or the patch shape or the margin is impossible.
    """

    def __init__(
        self,
        cohort: Cohort,
        split: str,
        *,
        patch_shape: Shape,
        batch_size: int,
        seed: int,
        margin: int = 0,
        flip: bool = False,
        transpose: bool = False,
        contrast: float = 0.0,
        by_detail: bool = False,
    ) -> None:
        super().__init__(cohort, split, batch_size, seed, (0, 1, 2) if flip else ())
        if margin < 0:
            raise MedganError(f"a margin must not be negative, this is {margin}")
        self.patch_shape = checked_shape(patch_shape)
        self.margin, self.contrast, self.transpose = margin, contrast, transpose
        self._share = _shares_of_detail(self.records) if by_detail else None
        self._table = lru_cache(maxsize=2048)(lambda index: cumulative_detail(np.asarray(self._voxels(index))))
        self._sharp = lru_cache(maxsize=2048)(lambda index: sharp_axes(np.asarray(self._voxels(index))))

    def _due(self, number: int, rng: np.random.Generator) -> int:
        if self._share is None:
            return super()._due(number, rng)
        return min(int(np.searchsorted(self._share, rng.random(), side="right")), len(self.records) - 1)

    def _order(self, index: int, rng: np.random.Generator) -> Order:
        if not self.transpose:
            return _AS_STORED
        sharp = self._sharp(index)
        last = int(sharp[rng.integers(len(sharp))])
        first, second = rng.permutation([axis for axis in range(3) if axis != last]).tolist()
        return first, second, last

    def _shown(self, voxels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        return random_contrast(voxels, rng) if rng.random() < self.contrast else voxels

    def _cut(self, index: int, order: Order, rng: np.random.Generator) -> tuple[NDArray[np.float32], Shape]:
        voxels = self._voxels(index)
        shape = tuple(self.patch_shape[order.index(axis)] for axis in range(3))
        centre = drawn_centre(self._table(index), voxels.shape, rng)
        return cut_around(voxels, centre, shape, self.margin)


def prefetched(source: BatchSource, start_step: int = 0, workers: int = 1) -> Iterator[Batch]:
    """The batches of `start_step`, `start_step` + 1, ... without end, made ahead by threads while the caller computes.

    What comes out does not depend on `workers`. Closing the iterator stops the threads.

    Args:
        source: such as `Patches`.
        start_step: the first step.
        workers: threads; each has up to two batches in hand. 0 makes each batch when it is asked for.

    Raises:
        Whatever making a batch raises, when that batch is due.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    if workers < 1:
        while True:
            yield source.batch(start_step)
            start_step += 1
    executor = ThreadPoolExecutor(workers, thread_name_prefix="medgan-batches")
    due: deque[Future[Batch]] = deque()
    try:
        while True:
            while len(due) < 2 * workers:
                due.append(executor.submit(source.batch, start_step))
                start_step += 1
            yield due.popleft().result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _shares_of_detail(records: Sequence[ScanRecord]) -> NDArray[np.float64]:
    """Cumulative shares of the scans: large scans have more to show, and fine ones finer things."""
    detail = [np.prod(one.prepared_shape) / np.prod(one.prepared_spacing) for one in records]
    return np.cumsum(detail) / np.sum(detail)


@lru_cache(maxsize=16)
def _epoch_order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, 0, epoch]).permutation(count).tolist())
