"""The objective of an alpha-GAN: a generator that makes scans from latent vectors and reconstructs them from codes.

An encoder gives each scan a code; one discriminator tells scans from reconstructions and samples, another tells codes
from latent vectors (Rosca et al. 2017, arXiv:1706.04987; in 3D with Wasserstein losses and gradient penalties Kwon et
al. 2019, arXiv:1908.02498). That every scan has a code from which it comes back keeps the generator from forgetting
some of them.

Codes are brought to the length that latent vectors have but for a little, the root of their size, and the second
discriminator compares directions: by length alone an encoder would outrun it, towards codes that no latent vector is
near to.

In one half of a batch the generated volumes are reconstructions, in the other samples, so that a step costs no more
than that of a plain GAN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medgan.adversarial.fidelity import absolute_distance
from medgan.adversarial.losses import LOSSES
from medgan.adversarial.penalties import Critic
from medgan.data.principal import PrincipalComponents
from medgan.geometry import Shape, Spacing
from medgan.networks.families import encoder_for, mixes_batch, pair_for
from medgan.networks.layers import pixel_norm
from medgan.recipe import SynthesisRecipe
from medgan.training.game import Reported, adam_phase, exported_synthesis, fooling_loss
from medgan.training.linear_start import around, recorded
from medgan.training.penalty import GradientPenalty
from medgan.training.phases import Moment, Phase, PhaseLoss


class AlphaGANObjective:
    """Four networks; see `medgan.training.phases.Objective` for the members that the trainer uses.

    Volumes arrive normalised to about [0, 1]; the networks work on about [-1, 1].

    Args:
        recipe: what to train, its network of the kind alpha_wgan.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.
        device: where to put the networks.
        start: the linear model that the generator is built around (`medgan.training.linear_start`); None for a
            generator of its own.

    Raises:
        MedganError: the networks cannot be made for such volumes.
    """

    averaged = "generator"

    def __init__(
        self,
        recipe: SynthesisRecipe,
        *,
        shape: Shape,
        spacing: Spacing,
        device: torch.device,
        start: PrincipalComponents | None = None,
    ) -> None:
        self.recipe, self.images = recipe, recipe.images
        self.shape, self.spacing = shape, spacing
        torch.manual_seed(recipe.training.seed)
        generator, self.discriminator = pair_for(recipe.network, shape, spacing)
        self.generator = around(start, generator, recipe.network, shape=shape, spacing=spacing)
        self.encoder, self.code_discriminator = encoder_for(recipe.network, shape, spacing)
        self._networks = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "encoder": self.encoder,
            "code_discriminator": self.code_discriminator,
        }
        for network in self._networks.values():
            network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        options, batch = recipe.synthesis, recipe.training.batch_size
        self._loss = LOSSES[options.loss]
        self._penalty = GradientPenalty(options.penalty, shape=shape, batch_size=batch)
        code = (recipe.network.latent_size, 1, 1)
        self._code_penalty = GradientPenalty(options.penalty, shape=code, batch_size=batch)
        steps = options.discriminator_steps
        self._phases = (
            self._phase("discriminator", self.discriminator_loss, judges=True, repeats=steps),
            self._phase("code_discriminator", self.code_discriminator_loss, judges=True, repeats=steps),
            self._phase("encoder", self.encoder_loss),
            self._phase("generator", self.generator_loss),
        )

    def _phase(self, name: str, loss: PhaseLoss, *, judges: bool = False, repeats: int = 1) -> Phase:
        return adam_phase(name, self._networks[name], loss, self.recipe.synthesis, judges=judges, repeats=repeats)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Generator, discriminator, encoder and the discriminator of codes."""
        return self._networks

    @property
    def phases(self) -> Sequence[Phase]:
        """Both discriminators first, then the encoder, then the generator."""
        return self._phases

    def half_life(self, moment: Moment) -> float:
        """Half-life of the averaged generator, in images."""
        return self.recipe.synthesis.ema_images.at(moment.progress)

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """Nothing is kept between steps."""

    def codes(self, volumes: Tensor) -> Tensor:
        """Codes (B, latent_size) of volumes (B, 1, X, Y, Z) in about [-1, 1], their mean square one."""
        return pixel_norm(self.encoder(volumes).float())

    def discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """Scans (B, 1, X, Y, Z) against as many generated volumes, and the penalty."""
        with torch.no_grad():
            real = 2 * volumes - 1
            both = torch.cat((real, self._generated(real)))
        return self._told_apart(self.discriminator, both, self._penalty, moment)

    def code_discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """Latent vectors against the codes of scans (B, 1, X, Y, Z), and the penalty."""
        with torch.no_grad():
            codes = self.codes(2 * volumes - 1)
            both = torch.cat((pixel_norm(torch.randn_like(codes)), codes))
        return self._told_apart(self.code_discriminator, both, self._code_penalty, moment)

    def _told_apart(
        self, discriminator: nn.Module, both: Tensor, penalty: GradientPenalty, moment: Moment
    ) -> tuple[Tensor, Reported]:
        """A discriminator's loss: the first half of `both` is real, the second generated."""
        apart = mixes_batch(discriminator)

        def judged(shown: Tensor) -> Tensor:
            return torch.cat([discriminator(half) for half in shown.chunk(2)]) if apart else discriminator(shown)

        logits = judged(both)
        real, generated = logits.float().chunk(2)
        loss = self._loss.discriminator(real, generated)
        reported = {"adversarial": loss, "real_logit": real.mean(), "generated_logit": generated.mean()}
        if penalty.due(moment):
            critic: Critic = judged if penalty.options.kind == "r1+r2" else discriminator
            loss, penalties = penalty.added(loss, critic, both, logits, moment)
            reported |= penalties
        return loss, reported

    def encoder_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """How far reconstructions are from scans (B, 1, X, Y, Z), and how well codes pass for latent vectors."""
        options, real = self.recipe.synthesis.autoencoding, 2 * volumes - 1
        codes = self.codes(real)
        reconstruction = absolute_distance(self.generator(codes), real)
        adversarial = fooling_loss(
            self._loss,
            self.code_discriminator(codes).float(),
            lambda: self.code_discriminator(pixel_norm(torch.randn_like(codes))),
        )
        loss = options.reconstruction_weight * reconstruction + options.code_weight * adversarial
        return loss, {"reconstruction": reconstruction, "adversarial": adversarial}

    def generator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """How well reconstructions and samples pass for scans (B, 1, X, Y, Z), and how far reconstructions are."""
        real = 2 * volumes - 1
        generated = self._generated(real)
        reconstructed = _first_half(real)
        reconstruction = absolute_distance(generated[: len(reconstructed)], reconstructed)
        logits = self.discriminator(generated).float()
        adversarial = fooling_loss(self._loss, logits, lambda: self.discriminator(real))
        loss = adversarial + self.recipe.synthesis.autoencoding.reconstruction_weight * reconstruction
        return loss, {"adversarial": adversarial, "reconstruction": reconstruction}

    def _generated(self, real: Tensor) -> Tensor:
        """Reconstructions of the first half of scans (B, 1, X, Y, Z), then samples; the encoder is taken as it is."""
        with torch.no_grad():
            codes = self.codes(_first_half(real))
            latents = torch.randn(len(real) - len(codes), codes.shape[1], device=codes.device)
        return self.generator(torch.cat((codes, latents)))

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and weights of the averaged generator."""
        network = recorded(self.recipe.network, self.generator, shape=self.shape, spacing=self.spacing)
        return exported_synthesis(network, average, shape=self.shape, spacing=self.spacing)


def _first_half(batch: Tensor) -> Tensor:
    """Rounded up, so that a batch of one is reconstructed."""
    return batch[: -(-len(batch) // 2)]
