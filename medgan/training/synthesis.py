"""The objective of a GAN that makes scans from latent vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medgan.adversarial.augmentation import augmented
from medgan.adversarial.augmentation_control import AugmentationControl, real_signs
from medgan.adversarial.lecam import LecamAnchors
from medgan.adversarial.losses import LOSSES, smoothed_discriminator
from medgan.adversarial.matching import mean_feature_matching
from medgan.adversarial.penalties import Critic
from medgan.data.principal import PrincipalComponents
from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing
from medgan.label_distribution import LabelDistribution
from medgan.networks.families import advance, mixes_batch, pair_for
from medgan.networks.labelled import LabelledGenerator, unlabelled
from medgan.networks.labelled_families import labelled_pair
from medgan.networks.views import views_for
from medgan.recipe import SynthesisRecipe
from medgan.training.batches import LabelledVolumes, parted
from medgan.training.game import Reported, adam_phase, exported_synthesis
from medgan.training.linear_start import around, recorded
from medgan.training.path_regularisation import PathRegularisation, refuse_without_styles
from medgan.training.penalty import GradientPenalty
from medgan.training.phases import Moment, Phase

# Steps between adjustments of the augmentation (Karras et al. 2020, appendix D).
_ADJUST_STEPS = 4


class SynthesisObjective:
    """Generator against discriminator; see `medgan.training.phases.Objective` for the members that the trainer uses.

    Volumes arrive normalised to about [0, 1]; the networks work on about [-1, 1]. Where the recipe names labels,
    batches are `LabelledVolumes`, generated volumes get the labels of the real ones, and some are judged without.

    Args:
        recipe: what to train.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.
        device: where to put the networks.
        labels: those that the recipe names, as the training scans have them.
        start: the linear model that the generator is built around (`medgan.training.linear_start`); None for a
            generator that begins as noise.

    Raises:
        MedganError: the networks cannot be made for such volumes, or do not have what the recipe asks of them.
    """

    averaged = "generator"

    def __init__(
        self,
        recipe: SynthesisRecipe,
        *,
        shape: Shape,
        spacing: Spacing,
        device: torch.device,
        labels: LabelDistribution | None = None,
        start: PrincipalComponents | None = None,
    ) -> None:
        self.recipe, self.images = recipe, recipe.images
        self.shape, self.spacing = shape, spacing
        options = recipe.synthesis
        torch.manual_seed(recipe.training.seed)
        generator, self.discriminator = self._new_pair(labels)
        self.generator = around(start, generator, recipe.network, shape=shape, spacing=spacing)
        if options.feature_weight and not hasattr(unlabelled(self.discriminator), "features"):
            raise MedganError(
                f"synthesis.feature_weight is {options.feature_weight:g}, but the discriminator of "
                f"{recipe.network.kind} networks does not show its features",
                hint="Set synthesis.feature_weight=0, or choose another network.kind.",
            )
        for network in (self.generator, self.discriminator):
            network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._apart = mixes_batch(self.discriminator)
        self._views = views_for(unlabelled(self.discriminator), shape)
        self._loss = LOSSES[options.loss]
        self._discriminator_loss = smoothed_discriminator(options.loss, options.label_smoothing)
        self._penalty = GradientPenalty(
            options.penalty, shape=self._views.judged, batch_size=recipe.training.batch_size
        )
        self._networks = {"generator": self.generator, "discriminator": self.discriminator}
        self._paths = PathRegularisation(options.path_length.decay).to(device) if options.path_length.weight else None
        if self._paths is not None:
            refuse_without_styles(unlabelled(self.generator), recipe.network.kind)
            self._networks["path_length"] = self._paths
        self._anchors = LecamAnchors(options.lecam.decay).to(device) if options.lecam.weight else None
        if self._anchors is not None:
            self._networks["lecam"] = self._anchors
        self._control = self._new_control(device)
        if self._control is not None:
            self._networks["augmentation"] = self._control
        self._phases = (
            adam_phase(
                "discriminator",
                self.discriminator,
                self.discriminator_loss,
                options,
                judges=True,
                repeats=options.discriminator_steps,
                before=self._advance,
            ),
            adam_phase("generator", self.generator, self.generator_loss, options, judges=False, before=self._advance),
        )

    def _new_pair(self, labels: LabelDistribution | None) -> tuple[nn.Module, nn.Module]:
        network, options = self.recipe.network, self.recipe.synthesis.labels
        if bool(options.names) != (labels is not None):
            raise ValueError("labels must be given where the recipe names some, and only there")
        if labels is None:
            return pair_for(network, self.shape, self.spacing)
        return labelled_pair(network, options, labels, shape=self.shape, spacing=self.spacing)

    def _new_control(self, device: torch.device) -> AugmentationControl | None:
        options = self.recipe.synthesis.augmentation
        if options.kind != "adaptive":
            return None
        return AugmentationControl(target=options.target, images=options.images, limit=options.limit).to(device)

    def _advance(self, moment: Moment) -> None:
        for changing in self.networks.values():
            advance(changing, moment.progress)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Generator and discriminator; where in use and with a state, "path_length", "lecam" and "augmentation"."""
        return self._networks

    @property
    def phases(self) -> Sequence[Phase]:
        """Discriminator first."""
        return self._phases

    def half_life(self, moment: Moment) -> float:
        """Half-life of the averaged generator, in images."""
        return self.recipe.synthesis.ema_images.at(moment.progress)

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """The probability of an adaptive augmentation is adjusted now and then."""
        if self._control is not None and moment.step % _ADJUST_STEPS == 0:
            self._control.adjust()

    def discriminator_loss(self, batch: Tensor | LabelledVolumes, moment: Moment) -> tuple[Tensor, Reported]:
        """Adversarial loss, regularisation and penalty, real volumes (B, 1, X, Y, Z) against as many generated."""
        volumes, labels = self._parted(batch)
        with torch.no_grad():
            real = self._views.real(2 * volumes - 1)
            generated = self._sample(real, labels)
            both = self._shown(torch.cat((real, generated)), moment)
        logits = self._judged(both, labels)
        real_logits, generated_logits = logits.float().chunk(2)
        loss = self._discriminator_loss(real_logits, generated_logits)
        reported = {
            "adversarial": loss,
            "real_logit": real_logits.mean(),
            "generated_logit": generated_logits.mean(),
        }
        if self._control is not None:
            reported |= self._observed(self._control, real_logits, generated_logits)
        if self._anchors is not None:
            self._anchors.update(real_logits, generated_logits)
            if moment.images >= self.recipe.synthesis.lecam.first_image:
                reported["lecam"] = self._anchors(real_logits, generated_logits)
                loss = loss + self.recipe.synthesis.lecam.weight * reported["lecam"]
        if self._penalty.due(moment):
            judge = self._judged if self.recipe.synthesis.penalty.kind == "r1+r2" else self._logits
            critic: Critic = partial(judge, labels=labels)
            loss, penalties = self._penalty.added(loss, critic, both, logits, moment)
            reported |= penalties
        return loss, reported

    def _observed(self, control: AugmentationControl, real: Tensor, generated: Tensor) -> Reported:
        signs = real_signs(real, generated, boundary=self._loss.boundary)
        control.observe(signs)
        return {"real_sign": signs.mean(), "augmentation": control.probability.clone()}

    def generator_loss(self, batch: Tensor | LabelledVolumes, moment: Moment) -> tuple[Tensor, Reported]:
        """The generator's side of the adversarial loss, against the same real volumes where the loss pairs them, and
        what the recipe asks for beside it.
        """
        volumes, labels = self._parted(batch)
        weight = self.recipe.synthesis.feature_weight
        with torch.no_grad():
            views = self._views.real(2 * volumes - 1)
        generated = self._seen(self._shown(self._sample(views, labels), moment), labels)
        generated_logits = generated[-1].float()
        if self._loss.needs_real or weight:
            with torch.no_grad():
                real = self._seen(self._shown(views, moment), labels)
                real_logits = real[-1].float()
        else:
            real_logits = torch.zeros_like(generated_logits)
        loss = self._loss.generator(real_logits, generated_logits)
        reported = {"adversarial": loss}
        if weight:
            reported["features"] = mean_feature_matching(real[:-1], generated[:-1])
            loss = loss + weight * reported["features"]
        paths = self.recipe.synthesis.path_length
        if self._paths is not None and moment.step % paths.interval == 0:
            # Half a batch, because the gradient's graph takes much memory (Karras et al. 2019, appendix B).
            half = -(-len(volumes) // 2)
            latents = self._latents(volumes[:half], labels[:half] if labels is not None else None)
            reported["path_length"] = self._paths(unlabelled(self.generator), latents)
            loss = loss + paths.weight * paths.interval * reported["path_length"]
        return loss, reported

    def _parted(self, batch: Tensor | LabelledVolumes) -> tuple[Tensor, Tensor | None]:
        """Volumes, and where the networks are told labels their codes (B, coding.size), some of them dropped."""
        volumes, labels = parted(batch)
        if not isinstance(self.generator, LabelledGenerator):
            return volumes, None
        absent = self.generator.absent
        if labels is None:
            return volumes, absent.expand(len(volumes), -1)
        dropout = self.recipe.synthesis.labels.dropout
        dropped = torch.rand(len(labels), 1, device=labels.device) < dropout
        return volumes, torch.where(dropped, absent, labels)

    def _latents(self, like: Tensor, labels: Tensor | None = None) -> Tensor:
        """Random latent vectors, the embedded labels behind them where there are any."""
        latents = torch.randn(len(like), self.recipe.network.latent_size, device=like.device)
        return self.generator.widened(latents, labels) if isinstance(self.generator, LabelledGenerator) else latents

    def _sample(self, real: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generated volumes, as many, with the same labels and seen in the same way as the real ones."""
        return self._views.generated(unlabelled(self.generator), self._latents(real, labels), real)

    def _shown(self, volumes: Tensor, moment: Moment) -> Tensor:
        """Volumes (B, 1, X, Y, Z) as the discriminator sees them: augmented, with instance noise."""
        options = self.recipe.synthesis.augmentation
        if options.kind != "none":
            fixed = options.probability.at(moment.progress)
            probability: Tensor | float = fixed if self._control is None else self._control.probability
            flip = self.recipe.synthesis.flip
            volumes = augmented(volumes, probability, options, spacing=self.spacing, flip=flip)
        # Twice, because the networks' range of [-1, 1] is twice that of normalised intensity.
        noise = 2 * self.recipe.synthesis.instance_noise.at(moment.progress)
        return volumes + noise * torch.randn_like(volumes) if noise > 0 else volumes

    def _judged(self, both: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits of real volumes and as many generated ones behind them, with the same labels.

        They go in one pass, because larger batches run faster, unless a layer would mix the two kinds.
        """
        if self._apart:
            return torch.cat([self._logits(half, labels) for half in both.chunk(2)])
        return self._logits(both, labels if labels is None else torch.cat((labels, labels)))

    def _logits(self, volumes: Tensor, labels: Tensor | None) -> Tensor:
        return self.discriminator(volumes) if labels is None else self.discriminator(volumes, labels)

    def _seen(self, volumes: Tensor, labels: Tensor | None) -> list[Tensor]:
        """The logits last; before them the discriminator's features where the generator has to match them."""
        if self.recipe.synthesis.feature_weight:
            told = () if labels is None else (labels,)
            return list(self.discriminator.features(volumes, *told))  # type: ignore[operator]
        return [self._logits(volumes, labels)]

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and weights of the averaged generator."""
        names: Sequence[str] = []
        if isinstance(self.generator, LabelledGenerator):
            network = {"name": "labelled_generator", "arguments": self.generator.arguments}
            names = self.generator.coding.names
        else:
            network = recorded(self.recipe.network, self.generator, shape=self.shape, spacing=self.spacing)
        return exported_synthesis(network, average, shape=self.shape, spacing=self.spacing, labels=names)
