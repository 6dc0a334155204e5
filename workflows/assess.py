"""What a freshly trained model is worth, measured on scans that it never saw."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import MedganError
from medgan.recipe import SuperResolutionRecipe, SynthesisRecipe

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medgan.data.cohort import Cohort, ScanRecord
    from medgan.inference.model import Model
    from medgan.volume import Volume

# More held-out scans sharpen the mean little and cost a full upscaling each.
_HELD_OUT_SCANS = 4


@dataclass(frozen=True)
class Assessment:
    """The outcome of an evaluation after training.

    Args:
        figures: JSON-able, for the summary and the report.
        metrics: the flat numbers among them, for tracking.
        key_metric: name of the one that a list of runs shows.
        volumes: scans to show in the report, by role.
    """

    figures: dict[str, Any]
    metrics: dict[str, float]
    key_metric: str
    volumes: dict[str, list[Volume]] = field(default_factory=dict)


def held_out(cohort: Cohort) -> tuple[ScanRecord, ...]:
    """The test scans, or the validation scans where there is no test split.

    Raises:
        MedganError: neither exists.
    """
    records = cohort.split("test") or cohort.split("validation")
    if not records:
        raise MedganError(
            "the cohort has no held-out scans to evaluate on",
            file=cohort.folder,
            hint="Prepare it with a --split such as 0.8,0.1,0.1.",
        )
    return records


def simulated_acquisition(recipe: SuperResolutionRecipe, truth: Volume, *, seed: int) -> tuple[Volume, Volume]:
    """A held-out scan as the recipe's low-resolution scanner would see it.

    Returns:
        (low-resolution scan, truth cropped to a whole number of low-resolution voxels), in the scan's units.
    """
    import numpy as np
    import torch

    from medgan.geometry import resampled_affine
    from medgan.resampling import cropped_or_padded
    from medgan.training.scanner import acquisition_for, patch_shape_for

    evaluated = recipe.acquisition.model_copy(update={"random": None})
    truth = cropped_or_padded(truth, patch_shape_for(evaluated, truth.shape, truth.shape))
    acquisition = acquisition_for(evaluated, truth.shape, truth.spacing)
    low = acquisition.forward(torch.from_numpy(truth.as_float().copy())).numpy()
    bottom, top = np.percentile(truth.data, (0.5, 99.5))
    noise = np.random.default_rng(seed).standard_normal(low.shape, dtype=np.float32)
    low = low + np.float32(recipe.acquisition.noise * (top - bottom)) * noise
    affine = resampled_affine(truth.affine, truth.shape, low.shape[1:])
    return truth.with_grid(low, affine, "low-resolution acquisition simulated"), truth


def assess_restoration(
    model_folder: Path, recipe: SuperResolutionRecipe, cohort: Cohort, device: torch.device
) -> Assessment:
    """PSNR and SSIM of held-out scans against interpolation and the physics inverse on the same grid."""
    import numpy as np

    from medgan.evaluation.restoration import evaluate_restoration
    from medgan.evaluation.verdicts import restoration_verdicts
    from medgan.inference.model import load_model
    from medgan.inference.upscale import upscale
    from medgan.resampling import interpolated

    model = load_model(model_folder, device)
    factor = recipe.acquisition.factor
    rows: list[dict[str, Any]] = []
    shown: dict[str, list[Volume]] = {}
    for index, record in enumerate(held_out(cohort)[:_HELD_OUT_SCANS]):
        low, truth = simulated_acquisition(recipe, cohort.volume(record), seed=index)
        exact = [high / small for high, small in zip(truth.shape, low.shape, strict=True)]
        thickness = max(low.spacing) * recipe.acquisition.thickness
        candidates = {
            "linear": truth.with_data(interpolated(low.as_float(), truth.shape, 1)),
            "cubic": truth.with_data(interpolated(low.as_float(), truth.shape, 3)),
            "physics": upscale(low, None, factor=exact, thickness=thickness),
            "fidelity": upscale(low, model, factor=exact, thickness=thickness, fidelity=1.0),
        }
        if recipe.super_resolution.adversarial.images:
            candidates["perceptual"] = upscale(low, model, factor=exact, thickness=thickness, fidelity=0.0)
        row: dict[str, Any] = {"scan": f"held-out scan {index + 1}"}
        for name, candidate in candidates.items():
            row[name] = evaluate_restoration(truth, candidate).to_dict()
        rows.append(row)
        if not shown:
            shown = {"low": [low], "truth": [truth]} | {name: [volume] for name, volume in candidates.items()}
    methods = [name for name in rows[0] if name != "scan"]
    means = {
        name: {key: float(np.mean([row[name][key] for row in rows])) for key in ("psnr_db", "psnr_whole_db", "ssim")}
        for name in methods
    }
    gain = means["fidelity"]["psnr_db"] - means["cubic"]["psnr_db"]
    figures = {
        "task": "super_resolution",
        "factor": list(factor),
        "scans": rows,
        "mean": means,
        "psnr_gain_db": gain,
        "physics_gain_db": means["physics"]["psnr_db"] - means["cubic"]["psnr_db"],
    }
    figures["verdicts"] = [verdict.to_dict() for verdict in restoration_verdicts(figures)]
    metrics = {f"evaluation/{name}/{key}": value for name, values in means.items() for key, value in values.items()}
    return Assessment(figures, metrics | {"evaluation/psnr_gain_db": gain}, "evaluation/psnr_gain_db", shown)


def normalised_scans(cohort: Cohort, records: tuple[ScanRecord, ...]) -> list[np.ndarray]:
    """Prepared voxels (X, Y, Z) of several scans, brought to about 0..1 as in training."""
    return [cohort.normalised(record) for record in records]


def assess_synthesis(model_folder: Path, recipe: SynthesisRecipe, cohort: Cohort, device: torch.device) -> Assessment:
    """KID, diversity and nearest training neighbours of samples, beside those of an untrained generator."""
    from medgan.evaluation.synthesis import evaluate_synthesis
    from medgan.evaluation.verdicts import verdicts
    from medgan.inference.generate import generate
    from medgan.inference.model import load_model
    from medgan.workflows.closest_blocks import close_pairs

    model = load_model(model_folder, device)
    count, seed = recipe.synthesis.evaluation_samples, recipe.training.seed
    scale = model.config["normalisation"]
    volumes = list(generate(model, count, seed=seed, allow_memorised=True))
    samples = [(volume.data[0] - scale["low"]) / (scale["high"] - scale["low"]) for volume in volumes]
    real = normalised_scans(cohort, cohort.split("train"))
    unseen = normalised_scans(cohort, held_out(cohort))
    trained = evaluate_synthesis(real, samples, holdout=unseen, spacing=cohort.spacing, seed=seed).to_dict()
    untrained = kid_to(real, _untrained_samples(recipe, cohort, device, count), seed)
    kid, kid_untrained = trained["kid"]["value"], untrained["value"]
    # The unbiased estimate may fall to zero and below when the sets cannot be told apart; the interval's upper end
    # then bounds it.
    ratio = kid_untrained / (kid if kid > 0 else max(trained["kid"]["high"], 1e-12))
    figures = {
        "task": "synthesis",
        **trained,
        "kid_untrained": untrained,
        "kid_ratio_to_untrained": ratio,
        "verdicts": [verdict.to_dict() for verdict in verdicts(trained) if verdict.topic != "anatomy"],
    }
    metrics = {"evaluation/kid": kid, "evaluation/kid_untrained": kid_untrained, "evaluation/kid_ratio": ratio}
    linear = _linear_samples(model, count, seed)
    if linear:
        figures["kid_linear"] = kid_to(real, linear, seed)
        metrics["evaluation/kid_linear"] = figures["kid_linear"]["value"]
    training, closest = cohort.split("train"), close_pairs(figures)
    shown = {
        "synthetic": volumes[:8],
        "real": [cohort.volume(record) for record in training[:8]],
        "closest_synthetic": [volumes[pair.sample] for pair in closest],
        "closest_real": [cohort.volume(training[pair.training]) for pair in closest],
    }
    return Assessment(figures, metrics, "evaluation/kid", shown)


def kid_to(real: list[np.ndarray], samples: list[np.ndarray], seed: int) -> dict[str, Any]:
    """KID as in the evaluation card, without the rest of it."""
    from dataclasses import asdict

    from medgan.evaluation.features import RandomEncoder, Standardisation
    from medgan.evaluation.fidelity import kid

    encoder = RandomEncoder()
    raw = encoder.extract(real)
    standardisation = Standardisation.fitted(raw)
    return asdict(kid(standardisation.applied(raw), standardisation.applied(encoder.extract(samples)), seed=seed))


def _linear_samples(model: Model, count: int, seed: int) -> list[np.ndarray]:
    """Samples of the linear model alone that a generator is built around, of the same latent vectors; none of other
    generators. What training added must show in a smaller distance than theirs.
    """
    import torch

    from medgan.networks.latents import latents
    from medgan.networks.principal import PrincipalGenerator

    network = model.network()
    if not isinstance(network, PrincipalGenerator):
        return []
    vectors = latents(seed, range(count), network.latent_size)
    with torch.inference_mode():
        volumes = [network.linear(vector[None].to(model.device))[0, 0].float().cpu().numpy() for vector in vectors]
    return [(volume + 1) / 2 for volume in volumes]


def _untrained_samples(recipe: SynthesisRecipe, cohort: Cohort, device: torch.device, count: int) -> list[np.ndarray]:
    """Samples of the same generator before its first step."""
    import torch

    from medgan.data.label_table import labels_of
    from medgan.networks.labelled import drawn_labels
    from medgan.networks.latents import latents
    from medgan.training.kinds import synthesis_objective

    labels = labels_of(cohort, recipe.synthesis.labels)
    objective = synthesis_objective(recipe, shape=cohort.shape, spacing=cohort.spacing, device=device, labels=labels)
    generator = objective.generator.eval()
    vectors = latents(recipe.training.seed, range(count), int(generator.latent_size))  # type: ignore[arg-type]
    with torch.inference_mode():
        parts = [
            generator(
                vector[None].to(device), **drawn_labels(generator, seed=recipe.training.seed, indices=range(i, i + 1))
            )[0, 0]
            for i, vector in enumerate(vectors)
        ]
    return [((part.float().cpu().numpy() + 1) / 2) for part in parts]
