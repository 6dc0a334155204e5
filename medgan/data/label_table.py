"""From the labels of a cohort's scans to a coding, with everything refused that a network could not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medgan.data.cohort import Cohort, ScanRecord
from medgan.errors import MedganError, nearest
from medgan.label_distribution import LabelDistribution
from medgan.labels import AnyLabel, LabelCoding, class_label, continuous_label
from medgan.recipe import LabelOptions

_SHOWN = 5


def labels_of(cohort: Cohort, options: LabelOptions) -> LabelDistribution | None:
    """The labels that a recipe names, as the cohort's training scans have them; None where it names none.

    Numbers become continuous labels and text becomes classes; numbers that `options.classes` names are classes too.

    Raises:
        MedganError: no scan has a label, some training scans lack it, a class has a single training scan, or all have
            the same value.
    """
    if not options.names:
        return None
    records = cohort.split("train")
    coding = LabelCoding(tuple(_label(cohort, records, name, options) for name in options.names))
    rows = [record.labels for record in records]
    if not any(all(name in row for name in options.names) for row in rows):
        raise MedganError(
            f"no training scan has all of the labels {', '.join(options.names)}",
            file=cohort.folder,
            hint="Name fewer labels in synthesis.labels.names.",
        )
    return LabelDistribution.fitted(coding, rows)


def label_codes(labels: LabelDistribution, records: Sequence[ScanRecord]) -> Tensor:
    """The codes of scans, float32 (B, labels.coding.size)."""
    return torch.from_numpy(np.stack([labels.coding.coded(record.labels) for record in records]))


def _label(cohort: Cohort, records: Sequence[ScanRecord], name: str, options: LabelOptions) -> AnyLabel:
    known = sorted({key for record in cohort.records for key in record.labels})
    if name not in known:
        raise MedganError(
            f"no scan of the cohort has a label '{name}'",
            file=cohort.folder,
            hint=nearest(name, known)
            if known
            else "Put a participants.tsv with the column beside the scans and prepare the cohort again.",
        )
    lacking = [record.name for record in records if name not in record.labels]
    if lacking and (options.missing == "refuse" or len(lacking) == len(records)):
        shown = ", ".join(lacking[:_SHOWN]) + (" ..." if len(lacking) > _SHOWN else "")
        raise MedganError(
            f"label {name} is missing in {len(lacking)} of {len(records)} training scans ({shown})",
            file=cohort.folder,
            hint="Complete the participants table and prepare the cohort again, or set synthesis.labels.missing=allow, "
            "which trains with what is known.",
        )
    values = [record.labels[name] for record in records if name in record.labels]
    numbers = [value for value in values if isinstance(value, float)]
    try:
        if len(numbers) == len(values) and name not in options.classes:
            return continuous_label(name, numbers)
        return class_label(name, values)
    except MedganError as error:
        raise MedganError(error.what, file=cohort.folder, hint=error.hint) from error
