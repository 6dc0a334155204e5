"""The objectives of networks that translate between contrasts: from pairs (pix2pix) or without them (CycleGAN).

Batches hold a patch of the source contrast in channel 0 and one of the target contrast in channel 1, normalised to
about [0, 1]. The outermost voxels of a patch, `translation.margin` of them, are seen but not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from medgan.geometry import Spacing
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.translation import ResidualUNet
from medgan.recipe_translation import TranslationRecipe
from medgan.training.image_pool import ImagePool
from medgan.training.muon import Muon
from medgan.training.patch_game import PatchGame, Reported, tuned
from medgan.training.phases import Moment, Phase

# Names of the two directions, in networks and in the weights on disk.
THERE, BACK = "there", "back"
_BETAS = (0.5, 0.99)
_AVERAGED_SHARE = 0.1


class _TranslationObjective:
    """What both objectives share; see `medgan.training.phases.Objective` for the members that the trainer uses.

    Args:
        recipe: what to train.
        spacing: of the cohort, mm.
        device: where to put the networks.
    """

    averaged = "translators"
    _directions: tuple[str, ...]
    _judge_channels: int

    def __init__(self, recipe: TranslationRecipe, *, spacing: Spacing, device: torch.device) -> None:
        self.recipe, self.images, self.spacing = recipe, recipe.images, spacing
        options = recipe.translation
        torch.manual_seed(recipe.training.seed)
        self.translators = nn.ModuleDict({way: translator_for(recipe) for way in self._directions})
        self.discriminators = nn.ModuleDict(
            {
                way: PatchDiscriminator(width=options.discriminator_width, in_channels=self._judge_channels)
                for way in self._directions
            }
        )
        for module in (self.translators, self.discriminators):
            module.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._game = PatchGame(options.loss, options.penalty)
        self._phases = self._make_phases()

    def _make_phases(self) -> tuple[Phase, ...]:
        options = self.recipe.translation
        rate, judge_rate = options.learning_rate, options.discriminator_learning_rate
        network = self.translators
        optimizer: Optimizer
        if options.optimizer == "muon":
            optimizer = Muon(network, rate.at(0))
        else:
            optimizer = Adam(network.parameters(), lr=rate.at(0), betas=_BETAS)
        phases = [Phase("translator", network, optimizer, self.translator_loss, tuned(rate))]
        if options.adversarial_weight:
            judges = self.discriminators
            judge_optimizer = Adam(judges.parameters(), lr=judge_rate.at(0), betas=_BETAS)
            phases.append(Phase("discriminator", judges, judge_optimizer, self.discriminator_loss, tuned(judge_rate)))
        return tuple(phases)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Everything that a checkpoint must hold."""
        return {"translators": self.translators, "discriminators": self.discriminators}

    @property
    def phases(self) -> Sequence[Phase]:
        """Translators first, then discriminators."""
        return self._phases

    def half_life(self, moment: Moment) -> float:
        """Half-life of the averaged networks in images, short at the beginning so that the start is forgotten."""
        return min(self.recipe.translation.ema_images, _AVERAGED_SHARE * moment.images)

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """Nothing is kept between steps but the pools."""

    def translator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """The translators' side, volumes (B, 2, X, Y, Z)."""
        raise NotImplementedError

    def discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """The discriminators' side, volumes (B, 2, X, Y, Z)."""
        raise NotImplementedError

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and averaged weights, "there." for source to target and, if trained, "back."."""
        config = {
            "task": "translation",
            "network": {"name": "residual_u_net", "arguments": self._translator(THERE).arguments},
            "source": self.recipe.source,
            "target": self.recipe.target,
            "directions": list(self._directions),
            "margin": self.recipe.translation.margin,
            "spacing": list(self.spacing),
        }
        return config, dict(average.state_dict())

    def _translator(self, way: str) -> ResidualUNet:
        network = self.translators[way]
        assert isinstance(network, ResidualUNet)
        return network

    def _inner(self, volumes: Tensor) -> Tensor:
        """The part of patches (B, C, X, Y, Z) that is judged."""
        margin = self.recipe.translation.margin
        inside = slice(margin, -margin if margin else None)
        return volumes[..., inside, inside, inside]

    def _fooling(self, way: str, made: Tensor, real: Tensor, condition: Tensor | None) -> Tensor:
        """The translator's adversarial loss."""
        beside = None if condition is None else _signed(condition)
        return self._game.fooling(self.discriminators[way], _signed(made), _signed(real), beside)

    def _judgement(
        self, way: str, real: Tensor, made: Tensor, condition: Tensor | None, moment: Moment
    ) -> tuple[Tensor, Reported]:
        """A discriminator's adversarial loss and penalty."""
        beside = None if condition is None else _signed(condition)
        return self._game.judgement(self.discriminators[way], _signed(real), _signed(made), beside, moment)


class PairedTranslationObjective(_TranslationObjective):
    """Pix2pix (Isola et al. 2017): near the paired scan voxel by voxel, and beside its source not to be told from it.

    The translator is deterministic: without noise that it could ignore, it makes one answer, the likeliest.
    """

    _directions = (THERE,)
    _judge_channels = 2

    def translator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """Mean absolute difference to the pair and the adversarial loss; volumes (B, 2, X, Y, Z)."""
        options = self.recipe.translation
        source, target = (self._inner(part) for part in volumes.split(1, dim=1))
        made = self._inner(self.translators[THERE](volumes[:, :1])).float()
        reported = {"pixel": F.l1_loss(made, target)}
        loss = options.pixel_weight * reported["pixel"]
        if options.adversarial_weight:
            reported["adversarial"] = self._fooling(THERE, made, target, source)
            loss = loss + options.adversarial_weight * reported["adversarial"]
        return loss, reported

    def discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """True against translated patches, both beside their source; volumes (B, 2, X, Y, Z)."""
        source, target = (self._inner(part) for part in volumes.split(1, dim=1))
        with torch.no_grad():
            made = self._inner(self.translators[THERE](volumes[:, :1])).float()
        return self._judgement(THERE, target, made, source, moment)


class UnpairedTranslationObjective(_TranslationObjective):
    """CycleGAN (Zhu et al. 2017): two translators, each judged by what its contrast looks like, that undo each other.

    Nothing here ties a voxel's tissue to its place but the cycle and the small networks; a cohort whose contrasts
    differ in anatomy teaches to change anatomy (Cohen et al. 2018, arXiv:1805.08841).
    """

    _directions = (THERE, BACK)
    _judge_channels = 1

    def __init__(self, recipe: TranslationRecipe, *, spacing: Spacing, device: torch.device) -> None:
        super().__init__(recipe, spacing=spacing, device=device)
        options = recipe.translation
        self.pools = nn.ModuleDict({way: ImagePool(options.pool_size, options.patch) for way in self._directions}).to(
            device
        )

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Translators, discriminators, and the past patches that these are shown."""
        return {**super().networks, "pools": self.pools}

    def translator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """Adversarial, cycle and identity loss of both directions; volumes (B, 2, X, Y, Z)."""
        options = self.recipe.translation
        parts = dict(zip(self._directions, volumes.split(1, dim=1), strict=True))
        zero = volumes.new_zeros(())
        reported = {"adversarial": zero, "cycle": zero, "identity": zero}
        for way, other in ((THERE, BACK), (BACK, THERE)):
            start, wanted = parts[way], parts[other]
            made = self.translators[way](start)
            again = self.translators[other](made).float()
            fooling = self._fooling(way, self._inner(made).float(), self._inner(wanted), None)
            reported["adversarial"] = reported["adversarial"] + fooling
            reported["cycle"] = reported["cycle"] + F.l1_loss(self._inner(again), self._inner(start))
            if options.identity_weight:
                same = self._inner(self.translators[way](wanted)).float()
                reported["identity"] = reported["identity"] + F.l1_loss(same, self._inner(wanted))
        loss = (
            options.adversarial_weight * reported["adversarial"]
            + options.cycle_weight * reported["cycle"]
            + options.identity_weight * reported["identity"]
        )
        return loss, reported

    def discriminator_loss(self, volumes: Tensor, moment: Moment) -> tuple[Tensor, Reported]:
        """True patches of each contrast against translated ones, new and past; volumes (B, 2, X, Y, Z)."""
        parts = dict(zip(self._directions, volumes.split(1, dim=1), strict=True))
        loss = volumes.new_zeros(())
        reported: Reported = {}
        for way, other in ((THERE, BACK), (BACK, THERE)):
            with torch.no_grad():
                made = self._inner(self.translators[way](parts[way])).float()
            pool = self.pools[way]
            assert isinstance(pool, ImagePool)
            judged, told = self._judgement(way, self._inner(parts[other]), pool.exchanged(made), None, moment)
            loss = loss + judged
            reported |= {f"{name}_{way}": value for name, value in told.items()}
        return loss, reported


TranslationObjective = PairedTranslationObjective | UnpairedTranslationObjective


def translation_objective(recipe: TranslationRecipe, *, spacing: Spacing, device: torch.device) -> TranslationObjective:
    """The objective that a recipe's method comes to."""
    if recipe.translation.method == "pix2pix":
        return PairedTranslationObjective(recipe, spacing=spacing, device=device)
    return UnpairedTranslationObjective(recipe, spacing=spacing, device=device)


def translator_for(recipe: TranslationRecipe) -> ResidualUNet:
    """A translating network with fresh weights."""
    options = recipe.network
    return ResidualUNet(
        channels=options.channels,
        levels=options.levels,
        blocks=options.blocks,
        haar_head=options.haar_head,
        normalisation=options.normalisation,
    )


def _signed(volumes: Tensor) -> Tensor:
    """Intensities of about [0, 1] as about [-1, 1], which discriminators work on."""
    return 2 * volumes - 1
