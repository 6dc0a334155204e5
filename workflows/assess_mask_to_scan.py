"""What a freshly trained network from label maps to scans is worth, on label maps that no training step has seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.workflows.assess import Assessment
from medgan.workflows.mask_to_scan_training import held_out_masks, mask_as_picture, masked_batches, normalised_scan

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medgan.data.cohort import Cohort, ScanRecord
    from medgan.inference.model import Model
    from medgan.report.html import Block, KeyFigure
    from medgan.volume import Volume

# Training scans that the intensities inside labels and the features are taken from.
_TRAINING_SCANS = 64
_SHOWN = 2


def assess_mask_to_scan(
    model_folder: Path, recipe: MaskToScanRecipe, cohort: Cohort, device: torch.device
) -> Assessment:
    """Intensities inside each label against the real scans of the same label maps, PSNR, the difference between two
    scans of one label map, and KID where there are scans enough; beside an untrained generator.
    """
    import numpy as np

    from medgan.inference.model import load_model

    model = load_model(model_folder, device)
    records = held_out_masks(cohort)[: recipe.mask_to_scan.evaluation_scans]
    seed = recipe.training.seed
    truths = [normalised_scan(cohort, record).data[0] for record in records]
    first, second = (_made(model, cohort, records, seed=seed, index=index) for index in range(2))
    fresh = _untrained(recipe, model, cohort, records, device)
    figures: dict[str, Any] = {
        "task": "mask_to_scan",
        "held_out": len(records),
        "mask_labels": model.config["mask_labels"],
        **_inside_labels(cohort, records, truths, first, fresh),
        "psnr_db": float(np.mean([_psnr(a, b) for a, b in zip(truths, first, strict=True)])),
        "difference_of_two_samples": float(np.mean([np.abs(a - b).mean() for a, b in zip(first, second, strict=True)])),
        "kid": _kid(cohort, first, seed),
        "kid_untrained": _kid(cohort, fresh, seed),
    }
    names = ("label_error", "label_error_untrained", "label_spread", "psnr_db", "difference_of_two_samples")
    metrics = {f"evaluation/{name}": figures[name] for name in names}
    if figures["kid"] is not None:
        metrics |= {f"evaluation/{name}": figures[name]["value"] for name in ("kid", "kid_untrained")}
    shown = _shown(recipe, cohort, records[:_SHOWN], first, second)
    return Assessment(figures, metrics, "evaluation/label_error", shown)


def _made(model: Model, cohort: Cohort, records: Sequence[ScanRecord], *, seed: int, index: int) -> list[np.ndarray]:
    """A scan (X, Y, Z) for each label map, in the networks' intensities."""
    import numpy as np

    from medgan.inference.mask_to_scan import scans_for_mask

    scale = model.config["normalisation"]
    made = []
    for record in records:
        mask = cohort.volume(record).with_data(np.array(cohort.mask(record)))
        (volume,) = scans_for_mask(model, mask, 1, seed=seed, first=index)
        made.append((volume.data[0] - scale["low"]) / (scale["high"] - scale["low"]))
    return made


def _untrained(
    recipe: MaskToScanRecipe, model: Model, cohort: Cohort, records: Sequence[ScanRecord], device: torch.device
) -> list[np.ndarray]:
    """The same by the generator before its first step."""
    from dataclasses import replace

    from medgan.training.mask_to_scan import MaskToScanObjective

    objective = MaskToScanObjective(
        recipe, labels=model.config["mask_labels"], shape=cohort.shape, spacing=cohort.spacing, device=device
    )
    weights = objective.export(objective.generator)[1]
    return _made(replace(model, weights=weights), cohort, records, seed=recipe.training.seed, index=0)


def _inside_labels(
    cohort: Cohort,
    records: Sequence[ScanRecord],
    truths: Sequence[np.ndarray],
    made: Sequence[np.ndarray],
    fresh: Sequence[np.ndarray],
) -> dict[str, Any]:
    """Figures of intensities inside labels; those over labels weigh each label alike."""
    from dataclasses import asdict

    import numpy as np

    from medgan.data.masked_volumes import label_values_of
    from medgan.evaluation.label_intensities import label_intensities, mean_inside

    known = cohort.split("train")[:_TRAINING_SCANS]
    training_means = mean_inside(
        [normalised_scan(cohort, record).data[0] for record in known],
        [np.asarray(cohort.mask(record)) for record in known],
        label_values_of(cohort),
    )
    masks = [np.asarray(cohort.mask(record)) for record in records]
    trained, untrained = (label_intensities(truths, one, masks, training_means=training_means) for one in (made, fresh))
    return {
        "labels": [asdict(one) for one in trained],
        "label_error": float(np.mean([one.error for one in trained])),
        "label_error_untrained": float(np.mean([one.error for one in untrained])),
        "label_spread": float(np.mean([one.spread for one in trained])),
    }


def _psnr(truth: np.ndarray, made: np.ndarray) -> float:
    """In dB, for a range of intensities of 1."""
    import numpy as np

    return float(-10 * np.log10(max(float(np.square(truth - made).mean()), 1e-12)))


def _kid(cohort: Cohort, made: Sequence[np.ndarray], seed: int) -> dict[str, Any] | None:
    """KID to the training scans; None where there are too few or too small scans for it."""
    from medgan.evaluation.features import SMALLEST_SIDE
    from medgan.evaluation.fidelity import FEWEST_SCANS
    from medgan.workflows.assess import kid_to, normalised_scans

    real = cohort.split("train")[:_TRAINING_SCANS]
    if min(len(real), len(made)) < FEWEST_SCANS or min(cohort.shape) < SMALLEST_SIDE:
        return None
    return kid_to(normalised_scans(cohort, real), list(made), seed)


def _shown(
    recipe: MaskToScanRecipe,
    cohort: Cohort,
    records: Sequence[ScanRecord],
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
) -> dict[str, list[Volume]]:
    """Label maps, samples and real scans for the report."""
    batches = masked_batches(recipe, cohort)
    real = [normalised_scan(cohort, record) for record in records]
    return {
        "mask": [mask_as_picture(cohort, record, batches.numbers(record)) for record in records],
        "first": [one.with_data(made) for one, made in zip(real, first, strict=False)],
        "second": [one.with_data(made) for one, made in zip(real, second, strict=False)],
        "real": real,
    }


def mask_to_scan_key_figures(figures: dict[str, Any]) -> list[KeyFigure]:
    """What a training came to."""
    from medgan.report.html import KeyFigure

    keys = [
        KeyFigure(
            "Error of mean intensity inside labels",
            figures["label_error"],
            f"untrained {figures['label_error_untrained']:.4g}; real scans differ by {figures['label_spread']:.4g}",
        ),
        KeyFigure("Difference of two scans of one label map", figures["difference_of_two_samples"], "0: all alike"),
    ]
    if figures["kid"] is not None:
        note = f"untrained generator {figures['kid_untrained']['value']:.4g}"
        keys.append(KeyFigure("KID to the training scans", figures["kid"]["value"], note))
    return keys


def mask_to_scan_blocks(figures: dict[str, Any], volumes: dict[str, list[Volume]]) -> list[Block]:
    """Pictures and table of the evaluation."""
    from medgan.report.figures import midplanes
    from medgan.report.html import Heading, Picture, Table, Text

    blocks: list[Block] = [
        Heading("Scans made from label maps"),
        Text(
            f"{figures['held_out']} label maps that no training step has seen, and scans made from them. Their voxels "
            "are nobody's, but the shapes in them are those of the label maps. Intensities are normalised: 0 and 1 are "
            "each real scan's 0.5th and 99.5th percentile."
        ),
    ]
    for mask, first, second, real in zip(*(volumes[name] for name in ("mask", "first", "second", "real")), strict=True):
        columns = [("Label map", mask), ("Sample 1", first), ("Sample 2", second), ("Real scan", real)]
        picture = midplanes(columns, window=(0.0, 1.0))
        blocks.append(Picture(picture, "Mid-planes of label map, two samples and the real scan", "Held-out label map."))
    titles = {
        "label": "Label",
        "scans": "Scans",
        "real_mean": "Mean, real",
        "generated_mean": "Mean, made",
        "error": "Error of the mean",
        "spread": "Real scans differ by",
        "real_deviation": "Deviation, real",
        "generated_deviation": "Deviation, made",
    }
    caption = (
        "Means and standard deviations inside each label. The error is that of one label map at a time; what real "
        "scans differ by is the error of the mean over the training scans."
    )
    return [
        *blocks,
        Table(list(titles.values()), [[one[name] for name in titles] for one in figures["labels"]], caption),
    ]
