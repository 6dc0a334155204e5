"""The objective of a GAN that makes scans from latent vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan.adversarial.losses import LOSSES
from medgan.adversarial.penalties import automatic_weight, squared_difference, squared_gradient
from medgan.geometry import Shape, Spacing
from medgan.networks.r3gan import R3Discriminator, R3Generator
from medgan.networks.stages import stage_shapes
from medgan.recipe import PenaltyOptions, Schedule, SynthesisNetwork, SynthesisRecipe
from medgan.training.phases import Moment, Phase


def network_arguments(options: SynthesisNetwork, shape: Shape, spacing: Spacing) -> dict[str, Any]:
    """What generator and discriminator share, derived from the cohort's shape (voxels) and spacing (mm)."""
    inner = shape
    if options.haar_head:
        inner = (-(-shape[0] // 2), -(-shape[1] // 2), -(-shape[2] // 2))
    shapes = stage_shapes(inner, spacing, base_size=options.base_size)
    widths = [min(options.max_width, options.width * 2**level) for level in range(len(shapes))]
    return {
        "shapes": shapes,
        "channels": widths[::-1],
        "out_shape": shape,
        "blocks": options.blocks,
        "group_width": options.group_width,
        "expansion": options.expansion,
        "haar_head": options.haar_head,
    }


def resolved_weight(options: PenaltyOptions, shape: Shape, batch_size: int) -> Schedule:
    """The penalty's weight over the training, with "auto" made explicit."""
    if isinstance(options.weight, Schedule):
        return options.weight
    start = automatic_weight(math.prod(shape), batch_size)
    return Schedule(start=start, end=start / 10)


class SynthesisObjective:
    """Generator against discriminator; see `medgan.training.phases.Objective` for the members that the trainer uses.

    Volumes arrive normalised to about [0, 1]; the networks work on about [-1, 1].

    Args:
        recipe: what to train.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.
        device: where to put the networks.
    """

    averaged = "generator"

    def __init__(self, recipe: SynthesisRecipe, *, shape: Shape, spacing: Spacing, device: torch.device) -> None:
        self.recipe, self.images = recipe, recipe.images
        self.shape, self.spacing = shape, spacing
        arguments = network_arguments(recipe.network, shape, spacing)
        torch.manual_seed(recipe.training.seed)
        self.generator = R3Generator(latent_size=recipe.network.latent_size, **arguments)
        self.discriminator = R3Discriminator(**arguments)
        for network in (self.generator, self.discriminator):
            network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._loss = LOSSES[recipe.synthesis.loss]
        self._penalty_weight = resolved_weight(recipe.synthesis.penalty, shape, recipe.training.batch_size)
        options = recipe.synthesis.optimizer
        rates = {"generator": options.learning_rate, "discriminator": options.learning_rate}
        if options.discriminator_learning_rate is not None:
            rates["discriminator"] = options.discriminator_learning_rate
        self._phases = (
            self._phase("discriminator", rates, repeats=recipe.synthesis.discriminator_steps),
            self._phase("generator", rates),
        )

    def _phase(self, name: str, rates: Mapping[str, Schedule], *, repeats: int = 1) -> Phase:
        network = self.networks[name]
        options = self.recipe.synthesis.optimizer
        betas = (options.beta1, options.beta2.at(0.0))
        optimizer = Adam(network.parameters(), lr=rates[name].at(0.0), betas=betas)

        def tune(optimizer: Optimizer, moment: Moment) -> None:
            for group in optimizer.param_groups:
                group["lr"] = rates[name].at(moment.progress)
                group["betas"] = (options.beta1, options.beta2.at(moment.progress))

        loss = self.discriminator_loss if name == "discriminator" else self.generator_loss
        return Phase(name, network, optimizer, loss, tune, repeats=repeats)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Generator and discriminator."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def phases(self) -> Sequence[Phase]:
        """Discriminator first."""
        return self._phases

    def half_life(self, moment: Moment) -> float:
        """Half-life of the averaged generator, in images."""
        return self.recipe.synthesis.ema_images.at(moment.progress)

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """Nothing is kept between steps."""

    def discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """Adversarial loss and penalty for real `volumes` (B, 1, X, Y, Z) and as many generated ones."""
        real = 2 * volumes - 1
        with torch.no_grad():
            generated = self._sample(real)
        # Real and generated volumes in one pass: no layer mixes volumes, and larger batches run faster.
        both = torch.cat((real, generated))
        logits = self.discriminator(both)
        real_logits, generated_logits = logits.float().chunk(2)
        loss = self._loss.discriminator(real_logits, generated_logits)
        reported = {
            "adversarial": loss,
            "real_logit": real_logits.mean(),
            "generated_logit": generated_logits.mean(),
        }
        options = self.recipe.synthesis.penalty
        if options.kind != "none" and moment.step % options.interval == 0:
            weight = 0.5 * options.interval * self._penalty_weight.at(moment.progress)
            for name, penalty in self._steepness(both, logits).items():
                loss = loss + weight * penalty
                reported[name] = penalty
        return loss, reported

    def _steepness(self, both: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """The discriminator's mean squared gradients in the form that the recipe asks for: "r1" at the real half of
        `both`, "r2" at the generated one.
        """
        options = self.recipe.synthesis.penalty
        half = len(both) // 2
        chosen = {"r1": slice(0, half), "r2": slice(half, None), "r1+r2": slice(None)}[options.kind]
        volumes = both[chosen]
        if options.form == "exact":
            squared = squared_gradient(self.discriminator, volumes)
        else:
            # Logits from half precision are too coarse to be subtracted.
            usable = None if torch.is_autocast_enabled(both.device.type) else logits[chosen]
            with torch.autocast(both.device.type, enabled=False):
                squared = squared_difference(self.discriminator, volumes, sigma=options.sigma, logits=usable)
        if options.kind == "r1+r2":
            return {"r1": squared[:half].mean(), "r2": squared[half:].mean()}
        return {options.kind: squared.mean()}

    def generator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's side of the adversarial loss, against the same real volumes where the loss pairs them."""
        generated_logits = self.discriminator(self._sample(volumes)).float()
        if self._loss.needs_real:
            with torch.no_grad():
                real_logits = self.discriminator(2 * volumes - 1).float()
        else:
            real_logits = torch.zeros_like(generated_logits)
        return self._loss.generator(real_logits, generated_logits), {}

    def _sample(self, like: Tensor) -> Tensor:
        latents = torch.randn(len(like), self.generator.latent_size, device=like.device)
        return self.generator(latents)

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and weights of the averaged generator."""
        config = {
            "task": "synthesis",
            "network": {"name": "r3_generator", "arguments": self.generator.arguments},
            "shape": list(self.shape),
            "spacing": list(self.spacing),
        }
        return config, dict(average.state_dict())
