"""Who looks after a training, and what is seen of synthesis: samples of the averaged generator beside the cohort."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from medgan.errors import MedganError
from medgan.recipe import AnyRecipe, SynthesisRecipe
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.recipe_translation import TranslationRecipe
from medgan.workflows.run_folder import record_notices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from medgan.data.cohort import Cohort
    from medgan.evaluation.features import Standardisation
    from medgan.reporter import Reporter
    from medgan.tracking import Tracker
    from medgan.training.supervision import Look, Notice, Supervisor
    from medgan.workflows.run_folder import RunFolder

    Features = NDArray[np.float64]
    Scans = Callable[[str], Sequence[NDArray[np.float32]]]

# Real scans that are encoded at most: enough for the figures, a few seconds for small volumes.
_MOST_SCANS = 128
# The evaluation after training draws the first ones: the best weights must not be chosen by those.
_FIRST_LATENT = 1_000_000
# The evaluation and its neighbours need as many.
_FEWEST_SCANS = 4


@dataclass(frozen=True)
class _Reference:
    """What samples are held against.

    Args:
        standardisation: of features, by the training scans.
        training: features of the training scans, (N, D).
        copies: coarse copies of the training scans, (N, K).
        held_out: distances from scans that are not trained on to the training scans, (H, N), if there are any.
        evaluated: features of the scans that the stopping rule names, (M, D).
    """

    standardisation: Standardisation
    training: Features
    copies: Features
    held_out: Features | None
    evaluated: Features


class SampleLook:
    """Metrics of a generator's samples by fixed random features, cheap enough for every checkpoint.

    Samples come from latent vectors that never change, so that the metrics change by the weights alone; torch's random
    state is left as it was.

    Args:
        recipe: what is trained; its watchdogs and stopping rule say what is measured on how many samples.
        scans: the real scans of a split, "train", "validation" or "test": (X, Y, Z), normalised to about 0..1. Their
            features are computed at the first look.
        device: where the network is.
    """

    def __init__(self, recipe: SynthesisRecipe, scans: Scans, device: torch.device) -> None:
        self.recipe, self.scans, self.device = recipe, scans, device

    def __call__(self, average: nn.Module) -> dict[str, float]:
        """Metrics "samples/..." of the averaged generator; none while it does not make samples yet.

        Raises:
            MedganError: it gives volumes that are not finite.
        """
        from medgan.evaluation.features import RandomEncoder
        from medgan.networks.vqgan import makes_samples

        if not makes_samples(average):
            return {}
        training = self.recipe.training
        watched = training.watchdogs.samples if training.watchdogs.mode != "off" else 0
        evaluated = training.stop.samples if training.stop is not None else 0
        samples = self._samples(average, max(watched, evaluated))
        applied = self._reference.standardisation.applied
        features = applied(RandomEncoder().extract(samples))
        metrics: dict[str, float] = {}
        if watched:
            mirrored = applied(RandomEncoder().extract(sample[::-1] for sample in samples[:watched]))
            metrics |= self._diversity(samples[:watched]) | self._neighbours(features[:watched], mirrored)
        if training.stop is not None:
            from medgan.evaluation.fidelity import kid

            # Two subsets, because the interval that more of them would sharpen is not used.
            estimate = kid(self._reference.evaluated, features[:evaluated], subsets=2, seed=training.seed)
            metrics["samples/kid"] = estimate.value
        return metrics

    def _samples(self, network: nn.Module, count: int) -> list[NDArray[np.float32]]:
        """Volumes (X, Y, Z), normalised to about 0..1."""
        import torch

        from medgan.networks.labelled import drawn_labels
        from medgan.networks.latents import latents

        options = self.recipe.training
        size = int(network.latent_size)  # type: ignore[arg-type]
        at_once = max(1, options.batch_size // options.accumulation)
        devices = [self.device] if self.device.type == "cuda" else []
        samples: list[NDArray[np.float32]] = []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(options.seed)
            for start in range(0, count, at_once):
                indices = range(_FIRST_LATENT + start, _FIRST_LATENT + min(count, start + at_once))
                vectors = latents(options.seed, indices, size)
                told = drawn_labels(network, seed=options.seed, indices=indices)
                volumes = network(vectors.to(self.device), **told)[:, 0].float().cpu().numpy()
                samples.extend((volumes + 1) / 2)
        return samples

    def _diversity(self, samples: Sequence[NDArray[np.float32]]) -> dict[str, float]:
        from medgan.evaluation.distinct import coarse_copies, relative_diversity

        if not self._reference.copies.std(axis=0).any():  # the scans are all alike
            return {}
        return {"samples/diversity": relative_diversity(self._reference.copies, coarse_copies(samples))}

    def _neighbours(self, features: Features, mirrored: Features) -> dict[str, float]:
        import numpy as np

        from medgan.evaluation.memorization import Distances, feature_distances, neighbour_statistics

        reference = self._reference
        if reference.held_out is None:
            return {}
        training = reference.training
        nearest = np.minimum(feature_distances(features, training), feature_distances(mirrored, training))
        found = neighbour_statistics(Distances(nearest, feature_distances(training, training), reference.held_out))
        return {"samples/nearest_training": found.median_ratio, "samples/nearest_training_auc": found.auc}

    @cached_property
    def _reference(self) -> _Reference:
        import numpy as np

        from medgan.evaluation.distinct import coarse_copies
        from medgan.evaluation.features import RandomEncoder, Standardisation
        from medgan.evaluation.memorization import feature_distances

        encoder, rule = RandomEncoder(), self.recipe.training.stop
        scans = self.scans("train")
        raw, copies = encoder.extract(scans), coarse_copies(scans)
        standardisation = Standardisation.fitted(raw)
        training = standardisation.applied(raw)
        unseen = self.scans("validation") or self.scans("test")
        if not unseen:
            return _Reference(standardisation, training, copies, None, training)
        straight, mirrored = (
            standardisation.applied(encoder.extract(scan[::step] for scan in unseen)) for step in (1, -1)
        )
        held_out = np.minimum(feature_distances(straight, training), feature_distances(mirrored, training))
        evaluated = straight if rule is not None and rule.split == "validation" else training
        return _Reference(standardisation, training, copies, held_out, evaluated)


def scans_of(cohort: Cohort, split: str) -> list[NDArray[np.float32]]:
    """The normalised scans of a split, at most 128 spread over it."""
    from medgan.data.cohort import spread

    return [cohort.normalised(record) for record in spread(cohort.split(split), _MOST_SCANS)]


def _enough(cohort: Cohort, split: str) -> bool:
    from medgan.evaluation.features import SMALLEST_SIDE

    scans = min(len(cohort.split("train")), len(cohort.split(split)))
    return scans >= _FEWEST_SCANS and min(cohort.shape) >= SMALLEST_SIDE


def check_supervision(recipe: AnyRecipe, cohort: Cohort) -> None:
    """Refuse a rule that ends the training where it cannot be followed.

    Raises:
        MedganError: the metric is not one of this training, or there are too few or too small scans to evaluate it by.
    """
    rule = recipe.training.stop
    if rule is None:
        return
    paired = isinstance(recipe, TranslationRecipe) and recipe.translation.method == "pix2pix"
    if rule.metric != ("kid" if isinstance(recipe, SynthesisRecipe) else "error" if paired else None):
        raise MedganError(
            f"training.stop is {rule.metric}, which this recipe's training (task {recipe.task}) cannot be measured by: "
            "kid is measured on samples of synthesis, error on pairs of pix2pix",
            hint="Set training.stop.metric, leave training.stop empty, or shorten the training with --steps.",
        )
    if isinstance(recipe, TranslationRecipe):
        from medgan.data.pairs import paired as pairs_of

        pairs_of(cohort, rule.split, recipe.source, recipe.target)
    elif not _enough(cohort, rule.split):
        raise MedganError(
            f"training.stop needs at least {_FEWEST_SCANS} scans in the split '{rule.split}', of at least 8 voxels a "
            f"side; there are {len(cohort.split(rule.split))} of {' x '.join(map(str, cohort.shape))}",
            file=cohort.folder,
            hint="Prepare the cohort with another --split, set training.stop.scans, or leave training.stop empty.",
        )


def supervisor_for(
    recipe: AnyRecipe, cohort: Cohort, device: torch.device, folder: RunFolder, tracker: Tracker, reporter: Reporter
) -> Supervisor | None:
    """Who looks after a training by this recipe: nobody, where there is no adversarial game, or its watchdogs are off
    and nothing ends it early.

    What is noticed is said, tagged in the tracked run and written to the run's record.
    """
    from medgan.training.remedies import game_of
    from medgan.training.supervision import Supervisor

    options, game = recipe.training, game_of(recipe)
    if game is None or (options.watchdogs.mode == "off" and options.stop is None):
        return None

    def tell(notice: Notice, notices: Sequence[Notice]) -> None:
        reporter.say(str(notice))
        tracker.set_tag(f"medgan.warning.{notice.kind}", str(notice))
        record_notices(folder, notices)

    return Supervisor(options, look=_look_for(recipe, cohort, device), tell=tell, game=game)


def _look_for(recipe: AnyRecipe, cohort: Cohort, device: torch.device) -> Look | None:
    """What is measured at checkpoints; None where nothing can be."""
    from medgan.workflows.watching_masks import MaskLook
    from medgan.workflows.watching_translation import TranslationLook

    if isinstance(recipe, TranslationRecipe):
        return TranslationLook(recipe, cohort, device)
    if isinstance(recipe, MaskToScanRecipe):
        return MaskLook(recipe, cohort, device)
    if isinstance(recipe, SynthesisRecipe) and _enough(cohort, "train"):
        return SampleLook(recipe, partial(scans_of, cohort), device)
    return None
