"""Training batches of scans with their label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.data.cohort import Cohort, ScanRecord
from medgan.data.patches import Batch, WholeVolumes
from medgan.errors import MedganError


class MaskedVolumes:
    """Batches of whole prepared scans and their label maps, flipped alike.

    Args:
        cohort: the scans, all of which have label maps (`label_values_of`).
        split: "train", "validation" or "test".
        labels: the values that label maps hold, in ascending order.
        batch_size: scans per step.
        seed: of the order and the flips.
        flip: flip each pair left to right with probability one half.

    Raises:
        MedganError: the split is empty.
    """

    def __init__(
        self, cohort: Cohort, split: str, *, labels: Sequence[int], batch_size: int, seed: int, flip: bool = False
    ) -> None:
        self.cohort, self.labels = cohort, tuple(labels)
        self._scans = WholeVolumes(cohort, split, batch_size=batch_size, seed=seed, flip=flip)

    def batch(self, step: int) -> Batch:
        """The batch of this step, always the same.

        Its voxels (B, 2, X, Y, Z) hold the normalised scan in channel 0 and in channel 1 the numbers of its labels,
        counted in the order of `labels`.
        """
        scans = self._scans.batch(step)
        masks = [
            np.flip(self.numbers(record), tuple(axis for axis in range(3) if flips[axis]))
            for record, flips in zip(scans.records, scans.flips, strict=True)
        ]
        numbers = torch.from_numpy(np.stack(masks).astype(np.float32))[:, None]
        return replace(scans, voxels=torch.cat((scans.voxels, numbers), dim=1))

    def numbers(self, record: ScanRecord) -> NDArray[np.int64]:
        """A scan's label map (X, Y, Z) as numbers counted in the order of `labels`."""
        return label_numbers(np.asarray(self.cohort.mask(record)), self.labels)


def label_numbers(mask: NDArray[np.integer], labels: Sequence[int]) -> NDArray[np.int64]:
    """Where each value of a label map stands in `labels`, which is ascending.

    Raises:
        MedganError: the label map holds others; the message names them.
    """
    unknown = sorted(set(np.unique(mask).tolist()) - set(labels))
    if unknown:
        raise MedganError(
            f"the label map holds {_listed(unknown)}, which the model does not know: it was trained with the labels "
            f"{_listed(labels)}",
            hint="Give the labels the numbers that they had in training, or train on label maps that hold them.",
        )
    return np.searchsorted(np.asarray(labels), mask)


def label_values_of(cohort: Cohort) -> tuple[int, ...]:
    """The values in the label maps of the training scans, background (0) included, in ascending order.

    Raises:
        MedganError: a scan has no label map, or there is nothing in them but one label.
    """
    without = [record.name for record in cohort.records if record.mask is None]
    if without:
        raise MedganError(
            f"{len(without)} of {len(cohort.records)} scans have no label map, such as '{without[0]}'",
            file=cohort.folder,
            hint="Prepare the cohort with --masks, the folder of its label maps.",
        )
    values = {label for record in cohort.split("train") if record.mask is not None for label in record.mask.labels}
    if len(values | {0}) < 2:
        raise MedganError(
            "the label maps of the training scans hold nothing but background",
            file=cohort.folder,
            hint="Check that the right folder was named by --masks.",
        )
    return tuple(sorted(values | {0}))


def with_known_labels(records: Sequence[ScanRecord], labels: Sequence[int]) -> tuple[ScanRecord, ...]:
    """The scans whose label maps hold no others than these labels."""
    return tuple(one for one in records if one.mask is not None and set(one.mask.labels) <= set(labels))


def _listed(values: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(map(str, values[:most]))
    return f"{shown}, ... ({len(values)} in all)" if len(values) > most else shown
