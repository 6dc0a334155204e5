"""What a freshly trained translation is worth, on scans that no training step has seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.recipe_translation import TranslationRecipe
from medgan.workflows.assess import Assessment
from medgan.workflows.translation_training import held_out_scans, normalised_voxels

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medgan.data.cohort import Cohort
    from medgan.inference.model import Model
    from medgan.report.html import Block, KeyFigure
    from medgan.volume import Volume

# More held-out scans sharpen the mean little and cost a full translation each; the map of intensities takes few.
_HELD_OUT_SCANS, _MAPPED_SCANS = 4, 32


def assess_translation(
    model_folder: Path, recipe: TranslationRecipe, cohort: Cohort, device: torch.device
) -> Assessment:
    """Pix2pix: PSNR and SSIM against the best global map of intensities. CycleGAN: cycle error and the distance of
    intensities, beside those of untrained networks and of the untranslated scans.
    """
    from medgan.inference.model import load_model

    model = load_model(model_folder, device)
    if recipe.translation.method == "pix2pix":
        return _with_pairs(model, recipe, cohort)
    return _without_pairs(model, recipe, cohort, device)


def _with_pairs(model: Model, recipe: TranslationRecipe, cohort: Cohort) -> Assessment:
    import numpy as np

    from medgan.evaluation.restoration import evaluate_restoration
    from medgan.inference.translate import translate

    baseline = _intensity_map(model, recipe, cohort)
    ranges = model.config["normalisation"]
    rows: list[dict[str, Any]] = []
    shown: dict[str, list[Volume]] = {}
    sources, targets = held_out_scans(recipe, cohort)
    for number, (source, target) in enumerate(zip(sources, targets, strict=True), start=1):
        if number > _HELD_OUT_SCANS:
            break
        scan = cohort.volume(source)
        seen = normalised_voxels(cohort, source, ranges["source"])
        truth = scan.with_data(normalised_voxels(cohort, target, ranges["target"]))
        candidates = {
            "intensity_map": scan.with_data(baseline.applied(seen)),
            "translated": _normalised(translate(scan, model), ranges["target"]),
        }
        row: dict[str, Any] = {"scan": f"held-out scan {number}"}
        rows.append(row | {name: evaluate_restoration(truth, one).to_dict() for name, one in candidates.items()})
        if not shown:
            shown = {"source": [scan.with_data(seen)], "truth": [truth]} | {n: [one] for n, one in candidates.items()}
    means = {
        name: {key: float(np.mean([row[name][key] for row in rows])) for key in ("psnr_db", "psnr_whole_db", "ssim")}
        for name in ("intensity_map", "translated")
    }
    gain = means["translated"]["psnr_db"] - means["intensity_map"]["psnr_db"]
    figures = {**_about(recipe), "scans": rows, "mean": means, "psnr_gain_db": gain}
    metrics = {f"evaluation/{name}/{key}": value for name, values in means.items() for key, value in values.items()}
    return Assessment(figures, metrics | {"evaluation/psnr_gain_db": gain}, "evaluation/psnr_gain_db", shown)


def _intensity_map(model: Model, recipe: TranslationRecipe, cohort: Cohort) -> Any:
    """The best global map of intensities, from training pairs."""
    from medgan.data.pairs import paired
    from medgan.evaluation.translation import IntensityMap

    ranges = model.config["normalisation"]
    return IntensityMap.fitted(
        (
            normalised_voxels(cohort, pair.source, ranges["source"]),
            normalised_voxels(cohort, pair.target, ranges["target"]),
        )
        for pair in paired(cohort, "train", recipe.source, recipe.target).pairs[:_MAPPED_SCANS]
    )


def _without_pairs(model: Model, recipe: TranslationRecipe, cohort: Cohort, device: torch.device) -> Assessment:
    from medgan.evaluation.translation import intensity_distance
    from medgan.inference.translate import translate

    ranges = model.config["normalisation"]
    sources, targets = (records[:_HELD_OUT_SCANS] for records in held_out_scans(recipe, cohort))
    scans = [cohort.volume(record) for record in sources]
    made = [translate(scan, model) for scan in scans]
    seen = [normalised_voxels(cohort, record, ranges["source"]) for record in sources]
    wanted = [normalised_voxels(cohort, record, ranges["target"]) for record in targets]
    translated = [_normalised(scan, ranges["target"]) for scan in made]
    figures = {
        **_about(recipe),
        "cycle_error": _cycle_error(model, scans, seen, ranges),
        "cycle_error_untrained": _cycle_error(_untrained(model, recipe, device), scans, seen, ranges),
        "intensity_distance": intensity_distance([one.data for one in translated], wanted),
        "intensity_distance_untranslated": intensity_distance(seen, wanted),
        "held_out": {"source": len(sources), "target": len(targets)},
    }
    metrics = {f"evaluation/{name}": value for name, value in figures.items() if isinstance(value, float)}
    shown = {
        "source": [scans[0].with_data(seen[0])],
        "translated": translated[:1],
        "target": [cohort.volume(targets[0]).with_data(wanted[0])],
    }
    return Assessment(figures, metrics, "evaluation/cycle_error", shown)


def _cycle_error(model: Model, scans: Sequence[Volume], seen: Sequence[np.ndarray], ranges: dict[str, Any]) -> float:
    """The mean absolute difference, in normalised intensity, between scans and what comes back from there and back."""
    import numpy as np

    from medgan.inference.translate import translate

    errors = []
    for scan, original in zip(scans, seen, strict=True):
        again = translate(translate(scan, model), model, reverse=True)
        errors.append(float(np.abs(_normalised(again, ranges["source"]).data[0] - original).mean()))
    return float(np.mean(errors))


def _untrained(model: Model, recipe: TranslationRecipe, device: torch.device) -> Model:
    """The model before its first step."""
    from dataclasses import replace

    from medgan.training.translation import translation_objective

    x, y, z = model.config["spacing"]
    fresh = translation_objective(recipe, spacing=(x, y, z), device=device)
    return replace(model, weights=fresh.export(fresh.translators)[1])


def _normalised(volume: Volume, ranges: dict[str, float]) -> Volume:
    """A result in the networks' intensities."""
    return volume.with_data((volume.data - ranges["low"]) / (ranges["high"] - ranges["low"]))


def _about(recipe: TranslationRecipe) -> dict[str, Any]:
    return {
        "task": "translation",
        "method": recipe.translation.method,
        "source": recipe.source,
        "target": recipe.target,
    }


def translation_key_figures(figures: dict[str, Any]) -> list[KeyFigure]:
    """What a translation came to."""
    from medgan.report.html import KeyFigure

    if figures["method"] == "pix2pix":
        means = figures["mean"]
        return [
            KeyFigure(
                "PSNR over the best map of intensities",
                f"{figures['psnr_gain_db']:+.2f} dB",
                "held-out scans, in the foreground",
            ),
            KeyFigure("SSIM", means["translated"]["ssim"], f"map of intensities {means['intensity_map']['ssim']:.4f}"),
        ]
    return [
        KeyFigure("Cycle error", figures["cycle_error"], f"untrained {figures['cycle_error_untrained']:.4g}"),
        KeyFigure(
            "Distance of intensities",
            figures["intensity_distance"],
            f"untranslated {figures['intensity_distance_untranslated']:.4g}",
        ),
    ]


def translation_blocks(figures: dict[str, Any], volumes: dict[str, list[Volume]]) -> list[Block]:
    """Pictures and table of a translation's evaluation."""
    from medgan.report.figures import midplanes
    from medgan.report.html import Heading, Picture, Table, Text, Warning

    source, target = figures["source"], figures["target"]
    titles = {
        "source": source,
        "intensity_map": "Map of intensities",
        "translated": f"Translated to {target}",
        "truth": f"True {target}",
        "target": f"{target} of somebody else",
    }
    order = [name for name in titles if name in volumes]
    blocks: list[Block] = [
        Heading(f"From {source} to {target}"),
        Warning(
            f"The {target} scans here were made by a model. What {source} does not show, such as a lesion of equal "
            "signal, they cannot show either, and what they show may not be there."
        ),
        Picture(
            midplanes([(titles[name], volumes[name][0]) for name in order]),
            "Mid-planes of source, translated and true scan",
            "A scan that no training step has seen; 0 and 1 are each scan's 0.5th and 99.5th percentile.",
        ),
    ]
    if figures["method"] != "pix2pix":
        text = "Without pairs there is no truth to compare with: a small cycle error does not prove the anatomy right."
        return [*blocks, Text(text)]
    names = {"intensity_map": "Best global map of intensities", "translated": "Network"}
    rows = [
        [names[name], values["psnr_db"], values["psnr_whole_db"], values["ssim"]]
        for name, values in figures["mean"].items()
    ]
    caption = f"Means over {len(figures['scans'])} held-out scans, in normalised intensity."
    columns = ["Method", "PSNR, foreground (dB)", "PSNR, whole (dB)", "SSIM, foreground"]
    return [*blocks, Table(columns, rows, caption)]
