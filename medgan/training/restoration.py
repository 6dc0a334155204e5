"""The objective of a network that sharpens scans: fidelity first, then adversarial texture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan.acquisition import DEFAULT_REGULARISATION
from medgan.acquisition.condition import CONDITIONS
from medgan.adversarial.fidelity import (
    DISTANCES,
    band_energy_distance,
    detail_energy_distance,
    gradient_distance,
    spectral_distance,
)
from medgan.adversarial.losses import LOSSES
from medgan.adversarial.penalties import squared_difference, squared_gradient
from medgan.adversarial.perceptual import PlanarPerception, feature_matching
from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing
from medgan.networks.conditioned import ConditionedNetwork
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.residual_dense import ResidualDenseNetwork
from medgan.networks.wide_activation import WideActivationNetwork
from medgan.recipe import Schedule, SuperResolutionNetwork, SuperResolutionRecipe
from medgan.training.average import frozen_copy
from medgan.training.muon import Muon
from medgan.training.phases import Moment, Phase
from medgan.training.scanner import Acquired, FixedScanner, RandomScanner, Scanner

# A patch of air has nothing to gain; its share of the error would drown those of the others.
_SMALL_ERROR = 3e-4
_DETAIL_SCALE = 10.0


class RestorationObjective:
    """Restorer against patch discriminator; see `medgan.training.phases.Objective` for the members that the trainer
    uses.

    Volumes are true high-resolution patches, normalised to about [0, 1]. Each is acquired by the simulated scanner,
    brought back by the regularised inverse, and restored by the network; of the network's residual only the part
    counts that the acquisition cannot see, so that the result explains the measured scan.

    Args:
        recipe: what to train.
        patch: voxels of the patches, as `patch_shape_for` gives them.
        spacing: of the cohort, mm.
        device: where to put the networks.
        perception: the perceptual distance, if the recipe gives it a weight.
    """

    averaged = "restorer"

    def __init__(
        self,
        recipe: SuperResolutionRecipe,
        *,
        patch: Shape,
        spacing: Spacing,
        device: torch.device,
        perception: PlanarPerception | None = None,
    ) -> None:
        self.recipe, self.images, self.spacing = recipe, recipe.images, spacing
        self.perception = None if perception is None else perception.to(device)
        self.scanner: Scanner = (
            FixedScanner(recipe.acquisition, patch, spacing)
            if recipe.acquisition.random is None
            else RandomScanner(recipe.acquisition, recipe.training.seed)
        )
        torch.manual_seed(recipe.training.seed)
        self.restorer = restorer_for(recipe.network, recipe.acquisition.factor)
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
        restorer_optimizer = self._restorer_optimizer(first.at(0))
        texture_optimizer = self._restorer_optimizer(second.learning_rate.at(0))
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

    def _restorer_optimizer(self, rate: float) -> Optimizer:
        if self.recipe.super_resolution.optimizer == "muon":
            return Muon(self.restorer, rate)
        return Adam(self.restorer.parameters(), lr=rate, betas=(0.9, 0.99))

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

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with the weights for fidelity of a trained model, as its file names them ("fidelity....").

        A conditioned network may have more blocks than the model that it starts from.

        Raises:
            MedganError: they belong to another network.
        """
        own = {name.removeprefix("fidelity."): one for name, one in weights.items() if name.startswith("fidelity.")}
        try:
            for network in (self.restorer, self.fidelity_restorer):
                fitting = network.deepened(own) if isinstance(network, ConditionedNetwork) else own
                network.load_state_dict(fitting)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise MedganError(
                f"the model to start from has another network ({reason})",
                hint="Give network.kind and sizes in the recipe as its config.json says.",
            ) from error

    def restored(self, acquired: Acquired) -> Tensor:
        """What the restorer makes of a batch; see `restored_by`."""
        return restored_by(self.restorer, acquired)

    def _distance(self, acquired: Acquired, restored: Tensor, truth: Tensor) -> Tensor:
        options = self.recipe.super_resolution
        if options.fidelity_loss == "balanced":
            distance = balanced_error(acquired.start, restored, truth)
        else:
            distance = DISTANCES[options.fidelity_loss](restored, truth)
        if options.gradient_weight:
            distance = distance + options.gradient_weight * gradient_distance(restored, truth)
        if options.spectral_weight:
            distance = distance + options.spectral_weight * spectral_distance(restored, truth)
        return distance

    def fidelity_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """Distance between the restored and the true patch, and by how many dB it betters the physics inverse."""
        acquired = self.scanner.acquired(volumes, moment)
        restored = self.restored(acquired)
        return self._distance(acquired, restored, volumes), {"gain_db": gain_db(acquired.start, restored, volumes)}

    def discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """True against restored patches, both seen beside the physics inverse."""
        acquired = self.scanner.acquired(volumes, moment)
        start = acquired.start
        with torch.no_grad():
            restored = self.restored(acquired)
        real = self.discriminator(added_detail(volumes, start), start)
        generated = self.discriminator(added_detail(restored, start), start)
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
        schedule = stages.adversarial.penalty.scheduled()
        return schedule.at((moment.images - stages.pretraining.images) / max(1, stages.adversarial.images))

    def _steepness(self, volumes: Tensor, start: Tensor) -> Tensor:
        """Mean squared gradient of the patch logits' mean, per volume, by what the discriminator is shown."""
        options = self.recipe.super_resolution.adversarial.penalty

        def critic(candidates: Tensor) -> Tensor:
            logits = self.discriminator(candidates, start)
            return logits.mean(dim=(1, 2, 3, 4)) * candidates[0].numel() ** 0.5

        with torch.autocast(volumes.device.type, enabled=False):
            detail = added_detail(volumes, start)
            if options.form == "exact":
                return squared_gradient(critic, detail).mean()
            return squared_difference(critic, detail, sigma=options.sigma).mean()

    def texture_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, dict[str, Tensor]]:
        """Fidelity plus the weighted adversarial loss of the restorer and the distance of the judge's features."""
        acquired = self.scanner.acquired(volumes, moment)
        start, restored = acquired.start, self.restored(acquired)
        generated = self.discriminator.features(added_detail(restored, start), start)
        with torch.no_grad():
            real = self.discriminator.features(added_detail(volumes, start), start)
        options = self.recipe.super_resolution.adversarial
        fidelity = self._distance(acquired, restored, volumes)
        adversarial = self._loss.generator(real[-1].float(), generated[-1].float())
        loss = fidelity + options.weight * adversarial
        reported = {"fidelity": fidelity, "adversarial": adversarial, "gain_db": gain_db(start, restored, volumes)}
        if options.feature_weight:
            # The logits are judged by the adversarial loss already.
            reported["features"] = feature_matching(real[:-1], generated[:-1])
            loss = loss + options.feature_weight * reported["features"]
        if options.energy_weight:
            reported["energy"] = detail_energy_distance(restored, volumes)
            loss = loss + options.energy_weight * reported["energy"]
        if options.band_weight:
            reported["bands"] = band_energy_distance(restored, volumes)
            loss = loss + options.band_weight * reported["bands"]
        if self.perception is not None and options.perceptual_weight:
            reported["perceptual"] = self.perception(restored, volumes)
            loss = loss + options.perceptual_weight * reported["perceptual"]
        return loss, reported

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and weights: "fidelity." and, if texture was trained, "perceptual.", the ends of the dial."""
        trained_texture = self.recipe.super_resolution.adversarial.images > 0
        ends = {"fidelity": self.fidelity_restorer, "perceptual": average} if trained_texture else {"fidelity": average}
        weights = {f"{end}.{name}": value for end, net in ends.items() for name, value in net.state_dict().items()}
        # Written out, so that a later default does not change what a model is given.
        regularisation = self.recipe.acquisition.regularisation or DEFAULT_REGULARISATION
        config = {
            "task": "super_resolution",
            "network": {"name": self.recipe.network.kind, "arguments": self.restorer.arguments},
            "acquisition": self.recipe.acquisition.model_dump(mode="json") | {"regularisation": regularisation},
            "spacing": list(self.spacing),
        }
        return config, weights


def added_detail(volumes: Tensor, start: Tensor) -> Tensor:
    """What volumes hold beyond the physics inverse, brought to the range of intensities: a discriminator with spectral
    normalisation is deaf to a few per cent beside the whole scan.
    """
    return _DETAIL_SCALE * (volumes - start)


def balanced_error(start: Tensor, restored: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of each patch over that of the physics inverse, their mean: what decibels measure.

    With random acquisitions the hardest ones would otherwise rule the mean square. Patches where the inverse is off by
    less than about 2 % of the intensity range count for less, those of air for nothing.
    """
    before = (start - truth).square().mean(dim=(1, 2, 3, 4))
    after = (restored - truth).square().mean(dim=(1, 2, 3, 4))
    return (after / (before + _SMALL_ERROR)).mean()


def restored_by(network: nn.Module, acquired: Acquired) -> Tensor:
    """A network's answer to the physics inverse, (B, 1, X, Y, Z), with what was measured left as it is."""
    told = (acquired.condition,) if isinstance(network, ConditionedNetwork) else ()
    residual = network(acquired.start, *told).float() - acquired.start
    return acquired.start + acquired.acquisitions.unmeasured(residual)


def restorer_for(
    options: SuperResolutionNetwork, factor: Sequence[float]
) -> ConditionedNetwork | ResidualDenseNetwork | WideActivationNetwork:
    """A restoring network with fresh weights, for low-resolution voxels `factor` times longer along each axis.

    Raises:
        MedganError: the network cannot work with this factor.
    """
    if options.kind == "wide_activation":
        return _wide_activation_for(options, factor)
    if options.kind == "conditioned":
        return ConditionedNetwork(
            channels=options.channels,
            blocks=options.blocks,
            expansion=options.expansion,
            conditions=CONDITIONS,
        )
    return ResidualDenseNetwork(
        channels=options.channels,
        growth=options.growth,
        blocks=options.blocks,
        dense_blocks=options.dense_blocks,
        convolutions=options.convolutions,
        packing=options.packing,
        residual_scale=options.residual_scale,
    )


def _wide_activation_for(options: SuperResolutionNetwork, factor: Sequence[float]) -> WideActivationNetwork:
    try:
        return WideActivationNetwork(
            channels=options.channels,
            expansion=options.expansion,
            low_rank=options.low_rank,
            blocks=options.blocks,
            factor=factor,
            weight_normalisation=options.weight_normalisation,
        )
    except ValueError as error:
        raise MedganError(
            f"a wide-activation network cannot be made: {error}", hint="Change acquisition.factor or network.kind."
        ) from error


def gain_db(start: Tensor, restored: Tensor, truth: Tensor) -> Tensor:
    """By how many decibels the restored patches are nearer to the truth than the start was, their mean; patches weigh
    as in `balanced_error`.
    """
    with torch.no_grad():
        before = (start - truth).square().mean(dim=(1, 2, 3, 4)) + _SMALL_ERROR
        after = (restored - truth).square().mean(dim=(1, 2, 3, 4)) + _SMALL_ERROR
        return 10 * torch.log10(before / after).mean()
