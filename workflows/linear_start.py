"""The linear model of a cohort's training scans, for recipes whose generator is built around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgan.recipe import SynthesisRecipe

if TYPE_CHECKING:
    from medgan.data.cohort import Cohort
    from medgan.data.principal import PrincipalComponents

# More scans change the strongest components little, and all of them are held at the components' resolution.
_MOST_SCANS = 512


def cohort_start(recipe: SynthesisRecipe, cohort: Cohort) -> PrincipalComponents | None:
    """The linear model of the training scans; None where the recipe asks for none, or the scans support none."""
    from medgan.data.cohort import spread
    from medgan.data.label_table import label_codes, labels_of
    from medgan.training.linear_start import linear_start

    if not recipe.network.principal_components:
        return None
    records = spread(cohort.split("train"), _MOST_SCANS)
    labels = labels_of(cohort, recipe.synthesis.labels)
    codes = None if labels is None else label_codes(labels, records).numpy()
    coding = None if labels is None else labels.coding
    scans = (cohort.normalised(record) for record in records)
    return linear_start(recipe, scans, shape=cohort.shape, spacing=cohort.spacing, coding=coding, codes=codes)
