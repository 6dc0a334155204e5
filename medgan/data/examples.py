"""Scans with what a network shall say of them: a label map, or a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medgan.data.cohort import Cohort, ScanRecord
from medgan.data.masked_volumes import label_numbers
from medgan.errors import MedganError
from medgan.labels import class_name

Example = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Normalised voxels (X, Y, Z), and the numbers of their labels (X, Y, Z) or of their class ()."""


class Examples(Protocol):
    """Scans of one grid; none is held in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class SegmentationExamples:
    """Scans of a cohort with their label maps.

    Args:
        cohort: that holds them.
        records: which of its scans.
        labels: the values that label maps hold, ascending; targets are counted in their order.
    """

    def __init__(self, cohort: Cohort, records: Sequence[ScanRecord], labels: Sequence[int]) -> None:
        self._cohort, self._records, self._labels = cohort, tuple(records), tuple(labels)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        record = self._records[index]
        return self._cohort.normalised(record), label_numbers(np.asarray(self._cohort.mask(record)), self._labels)


class ClassificationExamples:
    """Scans of a cohort with their classes.

    Args:
        cohort: that holds them.
        records: which of its scans.
        label: the name of the label.
        classes: its values, as text; targets are counted in their order.

    Raises:
        MedganError: a scan lacks the label, or has a class that is none of these.
    """

    def __init__(self, cohort: Cohort, records: Sequence[ScanRecord], label: str, classes: Sequence[str]) -> None:
        self._cohort, self._records = cohort, tuple(records)
        self.targets = np.array([_class_number(cohort, record, label, classes) for record in records], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        return self._cohort.normalised(self._records[index]), self.targets[index]


def _class_number(cohort: Cohort, record: ScanRecord, label: str, classes: Sequence[str]) -> int:
    if label not in record.labels:
        raise MedganError(
            f"scan '{record.name}' has no label '{label}'",
            file=cohort.folder,
            hint="Put the column into the participants.tsv beside the scans, and prepare them again.",
        )
    name = class_name(record.labels[label])
    if name not in classes:
        raise MedganError(
            f"scan '{record.name}' has the {label} '{name}', which no real training scan has",
            file=cohort.folder,
            hint=f"The classes are {', '.join(classes)}.",
        )
    return classes.index(name)
