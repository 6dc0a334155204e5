"""The methods paragraph of a paper, from recipe, cohort and figures: what was done, in sentences to be edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medgan.recipe import AnyRecipe, MaskToScanRecipe, SuperResolutionRecipe, SynthesisRecipe, TranslationRecipe
from medgan.workflows.methods_references import cited

if TYPE_CHECKING:
    from medgan.data.cohort import Cohort
    from medgan.recipe_options import PenaltyOptions, Schedule
    from medgan.report.blocks import Block

_FAMILIES = {
    "r3gan": "residual networks without normalisation layers {r3gan}",
    "dcgan": "plain convolutional networks {dcgan}",
    "stylegan": "networks with modulated convolutions and noise inputs {stylegan}",
    "progressive": "networks grown during training {progressive}",
    "hagan": "hierarchical networks trained on sub-volumes {hagan}",
    "alpha_wgan": "networks with an encoder and a code discriminator {alpha_wgan}",
    "vqgan": "a vector-quantised autoencoder with an autoregressive prior over its codes {vqgan}",
}
_LOSSES = {
    "relativistic": "the relativistic pairing loss {relativistic}",
    "relativistic_average": "the relativistic average loss {relativistic}",
    "non_saturating": "the non-saturating loss {gan}",
    "saturating": "the minimax loss {gan}",
    "least_squares": "the least-squares loss {least_squares}",
    "hinge": "the hinge loss {hinge}",
    "wasserstein": "the Wasserstein loss {wasserstein}",
}
_PENALTIES = {
    "r1": "the squared gradient of the discriminator was penalised at real volumes (R1 {r1})",
    "r2": "the squared gradient of the discriminator was penalised at generated volumes (R2 {r1})",
    "r1+r2": "the squared gradient of the discriminator was penalised at real and generated volumes (R1 and R2 {r1})",
    "gradient_penalty": "the norm of the discriminator's gradient between real and generated volumes was held at one "
    "{gradient_penalty}",
    "dragan": "the norm of the discriminator's gradient around real volumes was held at one {dragan}",
}


def methods_of_training(
    recipe: AnyRecipe, cohort: Cohort, figures: Mapping[str, Any], *, steps: int, images: int, device: str
) -> list[Block]:
    """The section with the paragraph about a training.

    Args:
        recipe: what was trained.
        cohort: on what.
        figures: of the evaluation after it.
        steps: how long it was trained in the end.
        images: the same in volumes shown.
        device: what computed.
    """
    about = [_data(cohort), _networks(recipe), _length(recipe, steps, images, device)]
    if isinstance(recipe, SynthesisRecipe):
        about.append(sentences_of_card(figures))
    elif isinstance(recipe, SuperResolutionRecipe):
        about.append(_restoration_results(figures))
    return _section(" ".join(part for part in about if part))


def methods_of_card(card: Mapping[str, Any]) -> list[Block]:
    """The section with the paragraph about an evaluation of scans that are already in files."""
    return _section(f"Synthetic scans were evaluated with medgan {_version()}. {sentences_of_card(card)}")


def methods_of_restoration(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The section with the paragraph about restored scans against their references, one row of figures for each."""

    def mean(key: str) -> float:
        values = [row[key] for row in rows if row.get(key) is not None]
        return sum(values) / max(1, len(values))

    text = f"{_count(len(rows), 'restored scan')} were compared with their references with medgan {_version()}. In the "
    text += "foreground (Otsu's threshold, largest component, widened by a voxel) peak signal-to-noise ratio, over the "
    text += f"range between the 0.5th and 99.5th percentile of the reference, was {mean('psnr_db'):.2f} dB on average, "
    text += f"structural similarity {{ssim}} in three dimensions {mean('ssim'):.4f}, its multi-scale form {{ms_ssim}} "
    text += f"{mean('ms_ssim'):.4f} and the high-frequency error norm {{hfen}} {mean('hfen'):.4f}."
    if any("consistency_relative" in row for row in rows):
        text += " Acquired again by the simulated scanner, the restored scans differed from the measured ones by "
        text += f"{100 * mean('consistency_relative'):.2g} % of their range (root mean square)."
    if any("lesion_contrast_kept" in row for row in rows):
        text += f" Of the contrast of lesions {100 * mean('lesion_contrast_kept'):.0f} % was kept, of their volume "
        text += f"{100 * mean('lesion_volume_kept'):.0f} %."
    return _section(text)


def _section(text: str) -> list[Block]:
    from medgan.report.blocks import Excerpt, Heading

    numbered, references = cited(text)
    caption = "To paste into a paper and to edit: what it says was read off the recipe, the data and the figures."
    return [Heading("Methods"), Excerpt(numbered, references, caption)]


def _version() -> str:
    from medgan import __version__

    return __version__


def _data(cohort: Cohort) -> str:
    """How many scans of how many people on which grid."""
    counts = {name: len(cohort.split(name)) for name in ("train", "validation", "test")}
    subjects = len({record.subject for record in cohort.records})
    rest = " and ".join(f"{counts[name]} for {name}" for name in ("validation", "test") if counts[name])
    held = f", with {rest}" if rest else ""
    text = (
        f"Networks were trained on {counts['train']} scans{held} ({_count(subjects, 'subject')} in all; scans of one "
    )
    text += "subject stayed in one split). "
    if cohort.has_common_grid:
        grid = " × ".join(map(str, cohort.shape))
        voxel = " × ".join(f"{step:.3g}" for step in cohort.spacing)
        text += f"All were resampled to {grid} voxels of {voxel} mm (right, anterior, superior). "
    else:
        text += "Every scan kept its own grid. "
    return text + "Intensities were scaled by the 0.5th and 99.5th percentile of each scan."


def _networks(recipe: AnyRecipe) -> str:
    """What was trained against which loss."""
    if isinstance(recipe, SynthesisRecipe):
        return _synthesis(recipe)
    if isinstance(recipe, SuperResolutionRecipe):
        return _super_resolution(recipe)
    if isinstance(recipe, TranslationRecipe):
        return _translation(recipe)
    if isinstance(recipe, MaskToScanRecipe):
        game = recipe.mask_to_scan
        return (
            "Scans were generated from label maps by a generator with spatially-adaptive normalisation {spade} against "
            f"discriminators of patches with {_LOSSES.get(game.loss, game.loss)}{_penalty(game.penalty)}."
        )
    return ""


def _synthesis(recipe: SynthesisRecipe) -> str:
    network, game = recipe.network, recipe.synthesis
    # What a recipe leaves out when it is saved does not count for its kind of networks.
    counts = recipe.model_dump()["synthesis"]
    family = _FAMILIES.get(network.kind, f"networks of the kind {_plain(network.kind)}")
    text = f"Scans were generated by {family}. "
    if "loss" in counts:
        penalty = _penalty(game.penalty) if "penalty" in counts else ""
        text += f"Generator and discriminator were trained with {_LOSSES[game.loss]}{penalty}"
        extras = _stabilisers(recipe, counts)
        text += f", with {_joined(extras)}. " if extras else ". "
    if game.labels.names and "labels" in counts:
        names = _joined([_plain(name) for name in game.labels.names])
        text += f"Both were told the labels {names}, the discriminator by projection {{projection}}. "
    text += f"Adam {{adam}} was used with a learning rate {_schedule(game.optimizer.learning_rate)}"
    average = game.ema_images.end
    if average:
        text += f"; the generator's weights were averaged with a half-life of {average:g} images"
    return f"{text}."


def _stabilisers(recipe: SynthesisRecipe, counts: Mapping[str, Any]) -> list[str]:
    """What else held the game together."""
    game = recipe.synthesis
    found = []
    if "augmentation" in counts and game.augmentation.kind != "none":
        adaptive = game.augmentation.kind == "adaptive"
        found.append(f"{'adaptive ' if adaptive else ''}augmentation of what the discriminator sees")
        found[-1] += " {ada}" if adaptive else ""
    if "lecam" in counts and game.lecam.weight:
        found.append("LeCam regularisation {lecam}")
    if game.flip:
        found.append("random left-right mirroring")
    return found


def _super_resolution(recipe: SuperResolutionRecipe) -> str:
    network, options = recipe.network, recipe.super_resolution
    kinds = {
        "residual_dense": "a residual dense network {residual_dense} {esrgan}",
        "conditioned": "a residual dense network {residual_dense} conditioned on the acquisition",
        "wide_activation": "a network with wide activations {wide_activation}",
    }
    losses = {
        "l1": "the mean absolute error",
        "l2": "the mean squared error",
        "charbonnier": "the Charbonnier loss {charbonnier}",
    }
    factor = " × ".join(f"{value:g}" for value in recipe.acquisition.factor)
    scanner = (
        "random scanners of many factors and slice profiles"
        if recipe.acquisition.random is not None
        else f"a scanner whose voxels are longer by {factor} (right, anterior, superior)"
    )
    loss = losses.get(options.fidelity_loss, f"the {options.fidelity_loss} loss")
    text = f"Low-resolution scans were simulated by {scanner}, with slice profiles and exact field of view. "
    text += (
        f"Over the regularised inverse of that acquisition, {kinds[network.kind]} predicted the residual, restricted "
    )
    text += f"to what the acquisition cannot see; it was trained with {loss} on patches of "
    text += f"{' × '.join(map(str, options.patch))} voxels."
    if options.adversarial.images:
        loss = _LOSSES.get(options.adversarial.loss, options.adversarial.loss)
        text += f" A second set of weights was then trained with {loss} as well{_penalty(options.adversarial.penalty)}."
    return text


def _translation(recipe: TranslationRecipe) -> str:
    options = recipe.translation
    source, target = _plain(recipe.source), _plain(recipe.target)
    pairing = "pairs of scans {pix2pix}" if options.method == "pix2pix" else "unpaired scans {cyclegan}"
    return (
        f"Scans of the contrast {source} were translated to {target} by networks trained on {pairing} with "
        f"{_LOSSES.get(options.loss, options.loss)} on patches of {' × '.join(map(str, options.patch))} voxels"
        f"{_penalty(options.penalty)}."
    )


def _penalty(penalty: PenaltyOptions) -> str:
    sentence = _PENALTIES.get(penalty.kind)
    if sentence is None:
        return ""
    strength = "" if penalty.strength == 1 else f", {penalty.strength:g} times as strong as the automatic weight"
    weight = strength if penalty.weight == "auto" else f", weight {_schedule(penalty.weight)}"
    every = f", at every {penalty.interval}th step" if penalty.interval > 1 else ""
    return f"; {sentence}{weight}{every}"


def _length(recipe: AnyRecipe, steps: int, images: int, device: str) -> str:
    """How long, with what."""
    import platform

    import monai
    import torch

    options = recipe.training
    return (
        f"Training took {_count(steps, 'step')} of {_count(options.batch_size, 'volume')} ({images} images shown) on "
        f"{_plain(device)} with seed {options.seed}, by medgan {_version()} with PyTorch {torch.__version__} {{torch}},"
        f" MONAI {monai.__version__} {{monai}} and Python {platform.python_version()}."
    )


def sentences_of_card(card: Mapping[str, Any]) -> str:
    """How synthetic scans were evaluated and what came out, with citations as "{key}"."""
    counts = card["counts"]
    kid, floor = card["kid"], card["kid_floor"]
    text = f"{_count(counts['synthetic'], 'synthetic scan')} were compared with the {counts['real']} training scans"
    if counts.get("holdout"):
        text += f", and {_count(counts['holdout'], 'held-out scan')} served as the reference for memorisation"
    text += f". Features came from the encoder {_plain(card['encoder'])}"
    text += f" ({card['features']} features). " if card.get("features") else ". "
    text += "Every figure is given with its floor, the same figure between random halves of the real scans. "
    text += f"The kernel inception distance {{kid}} was {_interval(kid)}, floor {_interval(floor)}"
    if card.get("mmd"):
        text += f"; the maximum mean discrepancy with a Gaussian kernel {{mmd}} {_interval(card['mmd'])}, floor "
        text += _interval(card["mmd_floor"])
    matched = card.get("matched", {}).get("frechet")
    if matched:
        text += f"; the Fréchet distance {{frechet}} at {card['frechet_floor']['scans'][0]} scans per set "
        text += f"{_interval(matched)}, floor {_interval(card['frechet_floor'])}"
        extrapolated = (card.get("frechet") or {}).get("extrapolated")
        if extrapolated:
            text += f", extrapolated to infinitely many scans {{frechet_infinity}} {_interval(extrapolated)}"
    text += "."
    ours, theirs = card.get("coverage"), card.get("coverage_floor")
    if ours and theirs:
        values = {
            name: f"{ours[name]['value']:.2f} ({theirs[name]['value']:.2f})"
            for name in ("precision", "recall", "coverage")
        }
        text += f" Precision and recall {{precision}} were {values['precision']} and {values['recall']}, coverage "
        text += f"{{coverage}} {values['coverage']}; those of other real scans in brackets."
    text += " Mean multi-scale structural similarity {ms_ssim} among synthetic scans was "
    text += f"{card['diversity']['mean']:.3f}, among real ones {card['real_diversity']['mean']:.3f}."
    audit = card["memorization"]
    text += f" Of the synthetic scans, {len(audit['flagged'])} were flagged as suspiciously close to a training scan "
    return text + f"(reference: {audit['reference']})."


def _restoration_results(figures: Mapping[str, Any]) -> str:
    means = figures["mean"]
    return (
        f"On {_count(len(figures['scans']), 'held-out scan')}, peak signal-to-noise ratio in the foreground was "
        f"{means['fidelity']['psnr_db']:.2f} dB and structural similarity {{ssim}} {means['fidelity']['ssim']:.4f}, "
        f"against {means['cubic']['psnr_db']:.2f} dB and {means['cubic']['ssim']:.4f} for cubic B-spline interpolation "
        f"and {means['physics']['psnr_db']:.2f} dB for the regularised inverse without learning."
    )


def _interval(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['value']:.3g} (95 %: {estimate['low']:.3g} to {estimate['high']:.3g})"


def _schedule(schedule: Schedule | str) -> str:
    if isinstance(schedule, str):
        return schedule
    start, end = schedule.start, schedule.end
    return f"of {start:g}" if start == end else f"from {start:g} to {end:g}"


def _plain(text: str) -> str:
    """Somebody else's words, which hold no citations."""
    return text.replace("{", "(").replace("}", ")")


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
