"""The objective of a network that turns label maps into scans (Park et al. 2019, arXiv:1903.07291).

Batches hold the scan in channel 0, normalised to about [0, 1], and the numbers of its labels in channel 1, counted in
the order of `labels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from medgan.adversarial.matching import mean_feature_matching
from medgan.geometry import Shape, Spacing
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.spade import SpadeGenerator, one_hot, spade_arguments
from medgan.recipe import MaskToScanRecipe, Schedule
from medgan.training.patch_game import PatchGame, Reported, tuned
from medgan.training.phases import Moment, Phase

_AVERAGED_SHARE = 0.1


class MaskToScanObjective:
    """Generator against a discriminator of patches that sees the label map beside the scan; see
    `medgan.training.phases.Objective` for the members that the trainer uses.

    Args:
        recipe: what to train.
        labels: the values that label maps may hold, in ascending order.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.
        device: where to put the networks.

    Raises:
        MedganError: the volumes are too small for the networks.
    """

    averaged = "generator"

    def __init__(
        self,
        recipe: MaskToScanRecipe,
        *,
        labels: Sequence[int],
        shape: Shape,
        spacing: Spacing,
        device: torch.device,
    ) -> None:
        self.recipe, self.images = recipe, recipe.images
        self.labels, self.shape, self.spacing = tuple(labels), shape, spacing
        torch.manual_seed(recipe.training.seed)
        self.generator = generator_for(recipe, labels=len(self.labels), shape=shape, spacing=spacing)
        self.discriminator = PatchDiscriminator(
            width=recipe.network.discriminator_width, in_channels=1 + len(self.labels)
        )
        for network in (self.generator, self.discriminator):
            network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        options = recipe.mask_to_scan
        self._game = PatchGame(options.loss, options.penalty)
        self._phases = (
            self._phase("discriminator", self.discriminator, options.discriminator_learning_rate),
            self._phase("generator", self.generator, options.learning_rate),
        )

    def _phase(self, name: str, network: nn.Module, rate: Schedule) -> Phase:
        options = self.recipe.mask_to_scan
        optimizer = Adam(network.parameters(), lr=rate.at(0.0), betas=(options.beta1, options.beta2))
        loss = self.discriminator_loss if name == "discriminator" else self.generator_loss
        return Phase(name, network, optimizer, loss, tuned(rate))

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Everything that a checkpoint must hold."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def phases(self) -> Sequence[Phase]:
        """Discriminator first."""
        return self._phases

    def half_life(self, moment: Moment) -> float:
        """Half-life of the averaged generator in images, short at the beginning so that the start is forgotten."""
        return min(self.recipe.mask_to_scan.ema_images, _AVERAGED_SHARE * moment.images)

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """Nothing is kept between steps."""

    def discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """Real against generated scans, both beside their label map; volumes (B, 2, X, Y, Z)."""
        real, labels = self._parted(volumes)
        with torch.no_grad():
            made = self._made(labels)
        return self._game.judgement(self.discriminator, real, made, self._beside(labels), moment)

    def generator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """Fooling the discriminator, and what the recipe asks for beside it; volumes (B, 2, X, Y, Z)."""
        options = self.recipe.mask_to_scan
        real, labels = self._parted(volumes)
        made, beside = self._made(labels), self._beside(labels)
        reported = {"adversarial": self._game.fooling(self.discriminator, made, real, beside)}
        loss = reported["adversarial"]
        if options.feature_weight:
            with torch.no_grad():
                wanted = self.discriminator.features(real, beside)
            found = self.discriminator.features(made, beside)
            reported["features"] = mean_feature_matching(wanted[:-1], found[:-1])
            loss = loss + options.feature_weight * reported["features"]
        if options.pixel_weight:
            # Halved, because the networks' range of [-1, 1] is twice that of normalised intensity.
            reported["pixel"] = 0.5 * F.l1_loss(made, real)
            loss = loss + options.pixel_weight * reported["pixel"]
        return loss, reported

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and weights of the averaged generator."""
        config = {
            "task": "mask_to_scan",
            "network": {"name": "spade_generator", "arguments": self.generator.arguments},
            "mask_labels": list(self.labels),
            "shape": list(self.shape),
            "spacing": list(self.spacing),
        }
        return config, dict(average.state_dict())

    def _parted(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Scans in the networks' range, and label numbers."""
        real, labels = volumes.split(1, dim=1)
        return 2 * real - 1, labels

    def _made(self, labels: Tensor) -> Tensor:
        """A scan for each label map."""
        latents = torch.randn(len(labels), self.generator.latent_size, device=labels.device)
        return self.generator(latents, labels).float()

    def _beside(self, labels: Tensor) -> Tensor:
        """Label maps as the discriminator sees them."""
        return one_hot(labels, len(self.labels))


def generator_for(recipe: MaskToScanRecipe, *, labels: int, shape: Shape, spacing: Spacing) -> SpadeGenerator:
    """A generator with fresh weights for so many different labels and volumes of this shape and spacing (mm).

    Raises:
        MedganError: the volumes are too small for it.
    """
    options = recipe.network
    pyramid = spade_arguments(
        shape,
        spacing,
        width=options.width,
        max_width=options.max_width,
        base_size=options.base_size,
        haar_head=options.haar_head,
    )
    return SpadeGenerator(
        labels=labels,
        latent_size=options.latent_size,
        embedding=options.embedding,
        normalisation=options.normalisation,
        **pyramid,
    )
