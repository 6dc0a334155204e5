"""The objective of a VQGAN: first an autoencoder with a codebook against a discriminator of patches, then a prior that
learns to draw the codes of scans (Esser et al. 2020, arXiv:2012.09841).

Both are phases of one training. When the first share of the images has been seen, the autoencoder's averaged weights
become its weights for good: the prior learns the codes that they give, and they are what is saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from medgan.adversarial.fidelity import absolute_distance
from medgan.adversarial.losses import LOSSES
from medgan.adversarial.perceptual import feature_matching
from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing
from medgan.networks.families import exported_generator, pair_for
from medgan.networks.vqgan import CodeGenerator
from medgan.recipe import Schedule, SynthesisRecipe
from medgan.training.game import Reported, exported_synthesis, learning_rate_of
from medgan.training.phases import Moment, Phase

# As usual for transformers; the second moment's decay of GANs is too short for them.
_PRIOR_BETAS = (0.9, 0.95)
# Of the images since a stage began: the average must forget where it came from.
_AVERAGED_SHARE = 0.1


class CodeObjective:
    """Autoencoder, discriminator and prior; see `medgan.training.phases.Objective` for the members that the trainer
    uses.

    Volumes arrive normalised to about [0, 1]; the networks work on about [-1, 1].

    Args:
        recipe: what to train, its network of the kind vqgan.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.
        device: where to put the networks.

    Raises:
        MedganError: the networks cannot be made for such volumes, or the training is too short for two stages.
    """

    averaged = "generator"

    def __init__(self, recipe: SynthesisRecipe, *, shape: Shape, spacing: Spacing, device: torch.device) -> None:
        self.recipe, self.images = recipe, recipe.images
        self.shape, self.spacing = shape, spacing
        self.boundary = boundary_of(recipe)
        """Images after which the prior is trained."""
        torch.manual_seed(recipe.training.seed)
        generator, self.discriminator = pair_for(recipe.network, shape, spacing)
        assert isinstance(generator, CodeGenerator)
        self.generator = generator
        options = recipe.synthesis.autoencoding
        generator.autoencoder.codebook.decay = options.codebook_decay
        for network in (self.generator, self.discriminator):
            network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._loss = LOSSES[recipe.synthesis.loss]
        self._joins = math.ceil(options.adversarial_start * self.boundary)
        self._phases = self._make_phases()

    def _make_phases(self) -> tuple[Phase, ...]:
        adam = self.recipe.synthesis.optimizer
        autoencoder, prior = self.generator.autoencoder, self.generator.prior

        def game(name: str, network: nn.Module) -> tuple[Optimizer, Callable[[Optimizer, Moment], None]]:
            rate = learning_rate_of(adam, judges=name == "discriminator")
            # The codebook is no optimiser's.
            learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
            optimizer = Adam(learned, lr=rate.at(0.0), betas=(adam.beta1, adam.beta2.at(0.0)))
            return optimizer, self._tune(rate, 0, self.boundary, second=adam.beta2)

        rate = self.recipe.synthesis.autoencoding.prior_learning_rate
        drawing = Adam(prior.parameters(), lr=rate.at(0.0), betas=_PRIOR_BETAS)
        judging, judge = game("discriminator", self.discriminator)
        coding, code = game("generator", autoencoder)
        until = self.boundary
        judged = Phase(
            "discriminator", self.discriminator, judging, self.discriminator_loss, judge,
            first_image=self._joins, last_image=until,
        )  # fmt: skip
        coded = Phase("autoencoder", autoencoder, coding, self.autoencoder_loss, code, last_image=until)
        drawn = Phase(
            "prior", prior, drawing, self.prior_loss, self._tune(rate, until, self.images - until), first_image=until
        )
        return (judged, coded, drawn)

    def _tune(
        self, rate: Schedule, start: int, images: int, *, second: Schedule | None = None
    ) -> Callable[[Optimizer, Moment], None]:
        """Learning rate, and decay of the second moment where it changes, by the share of a stage that is done."""

        def apply(optimizer: Optimizer, moment: Moment) -> None:
            done = (moment.images - start) / max(1, images)
            for group in optimizer.param_groups:
                group["lr"] = rate.at(done)
                if second is not None:
                    group["betas"] = (group["betas"][0], second.at(done))

        return apply

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The whole generator, its two parts, and the discriminator.

        The trainer sets in this order what may learn: the whole comes first, so that its parts decide.
        """
        return {
            "generator": self.generator,
            "autoencoder": self.generator.autoencoder,
            "prior": self.generator.prior,
            "discriminator": self.discriminator,
        }

    @property
    def phases(self) -> Sequence[Phase]:
        """Discriminator and autoencoder in the first stage, the prior in the second."""
        return self._phases

    def half_life(self, moment: Moment) -> float:
        """Half-life of the averaged generator in images, short at the beginning of each stage."""
        start = self.boundary if moment.images > self.boundary else 0
        return min(self.recipe.synthesis.ema_images.at(moment.progress), _AVERAGED_SHARE * (moment.images - start))

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """When the first stage is over, the averaged autoencoder becomes the one whose codes the prior learns."""
        assert isinstance(average, CodeGenerator)
        if moment.images >= self.boundary:
            self.generator.autoencoder.load_state_dict(average.autoencoder.state_dict())
        if moment.images > self.boundary:
            for generator in (self.generator, average):
                generator.prior_trained.fill_(1)

    def _adversarial(self, moment: Moment) -> bool:
        """Whether the discriminator has joined the first stage."""
        return moment.images >= self._joins

    def discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """Scans (B, 1, X, Y, Z) against their reconstructions, patch by patch."""
        with torch.no_grad():
            real = 2 * volumes - 1
            reconstructed = self.generator.autoencoder(real).volumes
        logits = self.discriminator(torch.cat((real, reconstructed))).float()
        real_logits, generated_logits = logits.chunk(2)
        loss = self._loss.discriminator(real_logits, generated_logits)
        reported = {
            "adversarial": loss,
            "real_logit": real_logits.mean(),
            "generated_logit": generated_logits.mean(),
        }
        return loss, reported

    def autoencoder_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """How far reconstructions are from scans (B, 1, X, Y, Z) and features from their codes, and, once the
        discriminator has joined, how well reconstructions pass for scans.
        """
        options, real = self.recipe.synthesis.autoencoding, 2 * volumes - 1
        made = self.generator.autoencoder(real, learn=True)
        distance = absolute_distance(made.volumes, real)
        loss = options.reconstruction_weight * distance + options.commitment_weight * made.commitment
        codebook = self.generator.autoencoder.codebook
        reported = {
            "reconstruction": distance,
            "commitment": made.commitment,
            "codes_used": codebook.perplexity(made.codes),
        }
        if self._adversarial(moment):
            seen = self.discriminator.features(made.volumes)  # type: ignore[operator]
            with torch.no_grad():
                truth = self.discriminator.features(real)  # type: ignore[operator]
            reported["adversarial"] = self._loss.generator(truth[-1].float(), seen[-1].float())
            loss = loss + reported["adversarial"]
            if options.feature_weight:
                reported["features"] = feature_matching(truth[:-1], seen[:-1])
                loss = loss + options.feature_weight * reported["features"]
        return loss, reported

    def prior_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """Cross-entropy of the codes of scans (B, 1, X, Y, Z), each given those before it, and the same in bits."""
        with torch.no_grad():
            codes = self.generator.autoencoder.codes(2 * volumes - 1).flatten(1)
        logits = self.generator.prior(codes).float()
        loss = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
        return loss, {"bits_per_code": loss / math.log(2)}

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and weights of the averaged generator.

        Raises:
            MedganError: the training ended before its prior was trained.
        """
        assert isinstance(average, CodeGenerator)
        if not average.prior_trained:
            raise MedganError(
                "the training ended before the prior was trained: the model could reconstruct scans, but draw none",
                hint="Set training.watchdogs.mode=warn, or raise synthesis.autoencoding.prior_share.",
            )
        network = exported_generator(self.recipe.network, self.generator, shape=self.shape, spacing=self.spacing)
        return exported_synthesis(network, average, shape=self.shape, spacing=self.spacing)


def boundary_of(recipe: SynthesisRecipe) -> int:
    """Images after which the prior is trained, a whole number of batches.

    Raises:
        MedganError: the training has less than two steps.
    """
    batch = recipe.training.batch_size
    steps = -(-recipe.images // batch)
    if steps < 2:
        raise MedganError(
            f"a training of {recipe.images} images has {steps} step of {batch}: vqgan networks need one for the "
            "autoencoder and one for the prior at least",
            hint="Raise synthesis.images, or --steps.",
        )
    first = round((1 - recipe.synthesis.autoencoding.prior_share) * steps)
    return batch * min(max(first, 1), steps - 1)
