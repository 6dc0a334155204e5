"""The linear model of a cohort's training scans, for recipes whose generator is built around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from medgan.recipe import SynthesisRecipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medgan.data.cohort import Cohort, ScanRecord
    from medgan.data.principal import PrincipalComponents

# More scans change the strongest components little, and all of them are held at the components' resolution.
_MOST_SCANS = 512


def cohort_start(recipe: SynthesisRecipe, cohort: Cohort) -> PrincipalComponents | None:
    """The linear model of the training scans; None where the recipe asks for none, or the scans support none."""
    from medgan.data.label_table import label_codes, labels_of
    from medgan.training.linear_start import linear_start

    if not recipe.network.principal_components:
        return None
    records = cohort.split("train")
    records = records[:: max(1, -(-len(records) // _MOST_SCANS))]
    labels = labels_of(cohort, recipe.synthesis.labels)
    codes = None if labels is None else label_codes(labels, records).numpy()
    scans = _one_by_one(cohort, records)
    return linear_start(recipe, scans, shape=cohort.shape, spacing=cohort.spacing, codes=codes)


def _one_by_one(cohort: Cohort, records: Sequence[ScanRecord]) -> Iterator[NDArray[np.float32]]:
    """The normalised scans (X, Y, Z), each read when it is its turn."""
    from medgan.workflows.assess import normalised_scans

    for record in records:
        yield from normalised_scans(cohort, (record,))
