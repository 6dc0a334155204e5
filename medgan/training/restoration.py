"""The objective of a network that sharpens scans: fidelity first, then adversarial texture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan.acquisition import Acquisition, low_shape_for
from medgan.adversarial.losses import LOSSES
from medgan.adversarial.penalties import squared_difference, squared_gradient
from medgan.geometry import Shape, Spacing
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.residual_dense import ResidualDenseNetwork
from medgan.recipe import AcquisitionOptions, Schedule, SuperResolutionRecipe
from medgan.training.average import frozen_copy
from medgan.training.phases import Moment, Phase


def patch_shape_for(options: AcquisitionOptions, patch: Shape, cohort_shape: Shape) -> Shape:
    """The training patch: no larger than the scans, and a whole number of low-resolution voxels along each axis."""
    shape = []
    for size, available, factor in zip(patch, cohort_shape, options.factor, strict=True):
        size = min(size, available)
        shape.append(max(1, int(int(size / factor) * factor)))
    return shape[0], shape[1], shape[2]


def acquisition_for(options: AcquisitionOptions, high_shape: Shape, high_spacing: Spacing) -> Acquisition:
    """The simulated scanner for high-resolution volumes of one shape (voxels) and spacing (mm)."""
    low_shape = low_shape_for(high_shape, options.factor)
    x, y, z = (
        None if high == low else spacing * high / low * options.thickness
        for spacing, high, low in zip(high_spacing, high_shape, low_shape, strict=True)
    )
    return Acquisition.between(
        high_shape,
        low_shape,
        high_spacing=high_spacing,
        thickness=(x, y, z),
        profile=options.profile,
        **({} if options.regularisation is None else {"regularisation": options.regularisation}),
    )


class RestorationObjective:
    """Restorer against patch discriminator; see `medgan.training.phases.Objective` for the members that the trainer
    uses.

    Volumes are true high-resolution patches, normalised to about [0, 1]. Each is acquired by the simulated scanner,
    brought back by the regularised inverse, and restored by the network.

    Args:
        recipe: what to train.
        patch: voxels of the patches, as `patch_shape_for` gives them.
        spacing: of the cohort, mm.
        device: where to put the networks.
    """

    averaged = "restorer"

    def __init__(self, recipe: SuperResolutionRecipe, *, patch: Shape, spacing: Spacing, device: torch.device) -> None:
        self.recipe, self.images, self.spacing = recipe, recipe.images, spacing
        self.acquisition = acquisition_for(recipe.acquisition, patch, spacing)
        torch.manual_seed(recipe.training.seed)
        network = recipe.network
        self.restorer = ResidualDenseNetwork(
            channels=network.channels,
            growth=network.growth,
            blocks=network.blocks,
            dense_blocks=network.dense_blocks,
            convolutions=network.convolutions,
            packing=network.packing,
            residual_scale=network.residual_scale,
        )
        self.discriminator = PatchDiscriminator(width=recipe.super_resolution.adversarial.discriminator_width)
        for module in (self.restorer, self.discriminator):
            module.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        # The averaged weights at the end of the fidelity stage: one end of the fidelity dial.
        self.fidelity_restorer = frozen_copy(self.restorer)
        self._loss = LOSSES[recipe.super_resolution.adversarial.loss]
        self._phases = self._make_phases()

    def _make_phases(self) -> tuple[Phase, ...]:
        stages = self.recipe.super_resolution
        boundary = stages.pretraining.images
        first = stages.pretraining.learning_rate
        second = stages.adversarial
        restorer_optimizer = Adam(self.restorer.parameters(), lr=first.at(0), betas=(0.9, 0.99))
        texture_optimizer = Adam(self.restorer.parameters(), lr=second.learning_rate.at(0), betas=(0.9, 0.99))
        judge_optimizer = Adam(
            self.discriminator.parameters(), lr=second.discriminator_learning_rate.at(0), betas=(0.5, 0.99)
        )

        def tune(schedule: Schedule, start: int, images: int) -> Callable[[Optimizer, Moment], None]:
            def apply(optimizer: Optimizer, moment: Moment) -> None:
                for group in optimizer.param_groups:
                    group["lr"] = schedule.at((moment.images - start) / max(1, images))

            return apply

        return (
            Phase(
                "fidelity",
                self.restorer,
                restorer_optimizer,
                self.fidelity_loss,
                tune(first, 0, boundary),
                last_image=boundary,
            ),
            Phase(
                "discriminator",
                self.discriminator,
                judge_optimizer,
                self.discriminator_loss,
                tune(second.discriminator_learning_rate, boundary, second.images),
                first_image=boundary,
            ),
            Phase(
                "texture",
                self.restorer,
                texture_optimizer,
                self.texture_loss,
                tune(second.learning_rate, boundary, second.images),
                first_image=boundary,
            ),
        )

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Everything that a checkpoint must hold."""
        return {
            "restorer": self.restorer,
            "discriminator": self.discriminator,
            "fidelity_restorer": self.fidelity_restorer,
        }

    @property
    def phases(self) -> Sequence[Phase]:
        """Fidelity alone first; discriminator and texture after."""
        return self._phases

    def half_life(self, moment: Moment) -> float:
        """Half-life of the averaged restorer in images, short at the beginning so that the start is forgotten."""
        return min(self.recipe.super_resolution.ema_images, 0.1 * moment.images)

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """Keep the averaged weights as they are when the fidelity stage ends."""
        if moment.images <= self.recipe.super_resolution.pretraining.images:
            self.fidelity_restorer.load_state_dict(average.state_dict())

    def acquired(self, volumes: Tensor) -> Tensor:
        """True patches (B, 1, X, Y, Z) as the physics inverse of their noisy acquisition, same shape."""
        with torch.no_grad(), torch.autocast(volumes.device.type, enabled=False):
            low = self.acquisition.forward(volumes)
            if self.recipe.acquisition.noise:
                low = low + self.recipe.acquisition.noise * torch.randn_like(low)
            return self.acquisition.inverse(low)

    def _distance(self, restored: Tensor, truth: Tensor) -> Tensor:
        difference = restored.float() - truth
        if self.recipe.super_resolution.fidelity_loss == "l2":
            return difference.square().mean()
        if self.recipe.super_resolution.fidelity_loss == "charbonnier":
            return (difference.square() + 1e-6).sqrt().mean()
        return difference.abs().mean()

    def fidelity_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """Distance between the restored and the true patch, and by how many dB it betters the physics inverse."""
        start = self.acquired(volumes)
        restored = self.restorer(start)
        return self._distance(restored, volumes), {"gain_db": _gain_db(start, restored, volumes)}

    def discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """True against restored patches, both seen beside the physics inverse."""
        start = self.acquired(volumes)
        with torch.no_grad():
            restored = self.restorer(start).float()
        real, generated = self.discriminator(volumes, start), self.discriminator(restored, start)
        loss = self._loss.discriminator(real.float(), generated.float())
        reported = {"adversarial": loss, "real_logit": real.float().mean(), "generated_logit": generated.float().mean()}
        options = self.recipe.super_resolution.adversarial.penalty
        if options.kind != "none" and moment.step % options.interval == 0:
            for name, batch in (("r1", volumes), ("r2", restored)):
                if name in options.kind:
                    penalty = self._steepness(batch, start)
                    loss = loss + 0.5 * options.interval * self._penalty_weight(moment) * penalty
                    reported[name] = penalty
        return loss, reported

    def _penalty_weight(self, moment: Moment) -> float:
        stages = self.recipe.super_resolution
        weight = stages.adversarial.penalty.weight
        if not isinstance(weight, Schedule):
            weight = Schedule(start=1.0, end=0.1)
        return weight.at((moment.images - stages.pretraining.images) / max(1, stages.adversarial.images))

    def _steepness(self, volumes: Tensor, start: Tensor) -> Tensor:
        """Mean squared gradient of the patch logits' mean, per volume."""
        options = self.recipe.super_resolution.adversarial.penalty

        def critic(candidates: Tensor) -> Tensor:
            return self.discriminator(candidates, start).mean(dim=(1, 2, 3, 4)) * candidates[0].numel() ** 0.5

        with torch.autocast(volumes.device.type, enabled=False):
            if options.form == "exact":
                return squared_gradient(critic, volumes).mean()
            return squared_difference(critic, volumes, sigma=options.sigma).mean()

    def texture_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """Fidelity plus the weighted adversarial loss of the restorer."""
        start = self.acquired(volumes)
        restored = self.restorer(start)
        generated = self.discriminator(restored, start).float()
        with torch.no_grad():
            real = self.discriminator(volumes, start).float()
        fidelity = self._distance(restored, volumes)
        adversarial = self._loss.generator(real, generated)
        loss = fidelity + self.recipe.super_resolution.adversarial.weight * adversarial
        gain = _gain_db(start, restored, volumes)
        return loss, {"fidelity": fidelity, "adversarial": adversarial, "gain_db": gain}

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and both sets of weights, "fidelity." and "perceptual.", the ends of the fidelity dial."""
        trained_texture = self.recipe.super_resolution.adversarial.images > 0
        ends = {"fidelity": self.fidelity_restorer if trained_texture else average, "perceptual": average}
        weights = {f"{end}.{name}": value for end, net in ends.items() for name, value in net.state_dict().items()}
        config = {
            "task": "super_resolution",
            "network": {"name": "residual_dense", "arguments": self.restorer.arguments},
            "acquisition": self.recipe.acquisition.model_dump(mode="json"),
            "spacing": list(self.spacing),
        }
        return config, weights


def _gain_db(start: Tensor, restored: Tensor, truth: Tensor) -> Tensor:
    """By how many decibels the restored patch is nearer to the truth than the start was."""
    with torch.no_grad():
        before = (start - truth).square().mean()
        after = (restored.float() - truth).square().mean()
        return 10 * torch.log10(before / after)
