"""Training batches as a pure function of (seed, step): a run that stops and resumes sees the same data as one that did
not.

Item number n of a run (n = step x batch size + place in the batch) is scan n modulo the number of scans in a
permutation drawn anew for each epoch, so every scan is seen once per epoch; where a patch lies and what is flipped is
drawn from (seed, n) alone. Several ranks take steps apart, such as step x ranks + rank.
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
from medgan.data.intensity import normalise
from medgan.errors import MedganError
from medgan.geometry import Shape
from medgan.resampling import checked_shape

# How much of the patch sampling ignores the anatomy, so that air and homogeneous tissue are seen as well.
_UNIFORM_PART = 0.25
_BLOCKS_PER_AXIS = 16

Flips = tuple[bool, bool, bool]


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
    """

    step: int
    voxels: torch.Tensor
    records: tuple[ScanRecord, ...]
    starts: tuple[Shape, ...]
    flips: tuple[Flips, ...]


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
        )

    def _item(self, number: int) -> tuple[NDArray[np.float32], int, Shape, Flips]:
        epoch, place = divmod(number, len(self.records))
        index = _epoch_order(len(self.records), self.seed, epoch)[place]
        rng = np.random.default_rng([self.seed, 1, number])
        cut, start = self._cut(index, rng)
        flips = [False, False, False]
        for axis in self._flipped_axes:
            flips[axis] = bool(rng.random() < 0.5)
        cut = np.flip(cut, tuple(axis for axis in range(3) if flips[axis]))
        percentiles = self.records[index].percentiles
        normalised = normalise(np.array(cut, dtype=np.float32), percentiles["0.5"], percentiles["99.5"])
        return normalised, index, start, (flips[0], flips[1], flips[2])

    def _cut(self, index: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], Shape]:
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

    def _cut(self, index: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], Shape]:
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
    ) -> None:
        super().__init__(cohort, split, batch_size, seed, (0, 1, 2) if flip else ())
        if margin < 0:
            raise MedganError(f"a margin must not be negative, this is {margin}")
        self.patch_shape = checked_shape(patch_shape)
        self.margin = margin
        self._table = lru_cache(maxsize=2048)(lambda index: _cumulative_detail(np.asarray(self._voxels(index))))

    def _cut(self, index: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], Shape]:
        voxels = self._voxels(index)
        centre = _drawn_centre(self._table(index), voxels.shape, rng)
        start = [
            _start(middle, have, want, self.margin)
            for middle, have, want in zip(centre, voxels.shape, self.patch_shape, strict=True)
        ]
        inside = tuple(
            slice(max(first, 0), min(first + want, have))
            for first, want, have in zip(start, self.patch_shape, voxels.shape, strict=True)
        )
        cut = np.asarray(voxels[inside])
        if cut.shape != self.patch_shape:
            before = [max(-first, 0) for first in start]
            after = [want - have - b for want, have, b in zip(self.patch_shape, cut.shape, before, strict=True)]
            cut = np.pad(cut, list(zip(before, after, strict=True)), mode="symmetric")
        return cut, (start[0], start[1], start[2])


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


@lru_cache(maxsize=16)
def _epoch_order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, 0, epoch]).permutation(count).tolist())


def _block_edges(length: int) -> NDArray[np.int_]:
    """Where the blocks of an axis begin, and its end."""
    count = min(length, _BLOCKS_PER_AXIS)
    return np.arange(count + 1) * length // count


def _cumulative_detail(voxels: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cumulative probability of the blocks of a scan (X, Y, Z), last axis fastest."""
    detail = np.sqrt(sum(np.square(np.gradient(voxels, axis=axis)) for axis in range(3) if voxels.shape[axis] > 1))
    uniform = np.ones(voxels.shape)
    for axis, length in enumerate(voxels.shape):
        starts = _block_edges(length)[:-1]
        detail = np.add.reduceat(detail, starts, axis=axis, dtype=np.float64)
        uniform = np.add.reduceat(uniform, starts, axis=axis)
    weights = uniform / uniform.sum()
    if detail.sum() > 0:
        weights = _UNIFORM_PART * weights + (1 - _UNIFORM_PART) * detail / detail.sum()
    return np.cumsum(weights.ravel())


def _drawn_centre(table: NDArray[np.float64], shape: Sequence[int], rng: np.random.Generator) -> list[int]:
    """A voxel: a block by the table, and any voxel of it."""
    edges = [_block_edges(length) for length in shape]
    block = min(int(np.searchsorted(table, rng.random() * table[-1], side="right")), len(table) - 1)
    place = np.unravel_index(block, [len(edge) - 1 for edge in edges])
    return [int(rng.integers(edge[i], edge[i + 1])) for edge, i in zip(edges, place, strict=True)]


def _start(centre: int, have: int, want: int, margin: int) -> int:
    """The first of `want` voxels around `centre`, all inside 0..have-1 and `margin` away from its ends if possible."""
    room = have - want
    if room < 0:
        return -((want - have) // 2)
    margin = min(margin, room // 2)
    return min(max(centre - want // 2, margin), room - margin)
