"""What a training of label maps to scans needs of a cohort: label maps for all scans, held-out ones, pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medgan.data.cohort import Cohort, ScanRecord
    from medgan.data.masked_volumes import MaskedVolumes
    from medgan.training.trainer import Tick
    from medgan.volume import Volume

_SAMPLES = 2


def masked_batches(recipe: MaskToScanRecipe, cohort: Cohort) -> MaskedVolumes:
    """Batches of the training split.

    Raises:
        MedganError: a scan has no label map.
    """
    from medgan.data.masked_volumes import MaskedVolumes, label_values_of

    return MaskedVolumes(
        cohort,
        "train",
        labels=label_values_of(cohort),
        batch_size=recipe.training.batch_size,
        seed=recipe.training.seed,
        flip=recipe.mask_to_scan.flip,
    )


def held_out_masks(cohort: Cohort) -> tuple[ScanRecord, ...]:
    """Held-out scans whose labels all occur in training.

    Raises:
        MedganError: there are none.
    """
    from medgan.data.masked_volumes import label_values_of, with_known_labels
    from medgan.workflows.assess import held_out

    records = with_known_labels(held_out(cohort), label_values_of(cohort))
    if not records:
        raise MedganError(
            "every held-out label map holds labels that no training scan has",
            file=cohort.folder,
            hint="Prepare the cohort with another --seed or --split, or leave out the rare labels.",
        )
    return records


def check_masks(recipe: Any, cohort: Cohort, reporter: Reporter) -> None:
    """Before a training: that there is something to evaluate on; and what is left out of that, said to the user.

    Args:
        recipe: of any task; others than label maps to scans pass.
        cohort: the scans.
        reporter: hears it.

    Raises:
        MedganError: a scan has no label map, or every held-out one has labels that no training scan has.
    """
    from medgan.workflows.assess import held_out

    if not isinstance(recipe, MaskToScanRecipe):
        return
    known, records = len(held_out_masks(cohort)), len(held_out(cohort))
    if known < records:
        reporter.say(
            f"{records - known} of {records} held-out label maps are left out of the evaluation: they hold labels that "
            "no training scan has"
        )


def mask_preview(recipe: MaskToScanRecipe, cohort: Cohort, device: torch.device) -> Callable[[Tick], bytes]:
    """The label map of a held-out scan, two scans made from it, and the real one, as PNG bytes."""
    import torch

    from medgan.networks.latents import latents
    from medgan.report.figures import montage

    record = held_out_masks(cohort)[0]
    numbers = masked_batches(recipe, cohort).numbers(record)
    label_map, real = mask_as_picture(cohort, record, numbers), normalised_scan(cohort, record)
    seen = torch.from_numpy(numbers).float().expand(_SAMPLES, 1, *numbers.shape).to(device)
    vectors = latents(recipe.training.seed, range(_SAMPLES), recipe.network.latent_size).to(device)

    def draw(tick: Tick) -> bytes:
        with torch.inference_mode():
            made = (tick.average(vectors, seen)[:, 0].float().cpu().numpy() + 1) / 2
        return montage([label_map, *(real.with_data(one) for one in made), real])

    return draw


def normalised_scan(cohort: Cohort, record: ScanRecord) -> Volume:
    """A scan in the networks' intensities, about 0 to 1."""
    from medgan.workflows.assess import normalised_scans

    return cohort.volume(record).with_data(normalised_scans(cohort, (record,))[0])


def mask_as_picture(cohort: Cohort, record: ScanRecord, numbers: np.ndarray) -> Volume:
    """A label map as grey values from 0 to 1, whatever numbers its labels have."""
    import numpy as np

    return cohort.volume(record).with_data(numbers.astype(np.float32) / max(1, int(numbers.max())))
