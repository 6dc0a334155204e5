"""What to change when a training goes wrong: the fields of the recipe that act on each failure, by what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medgan.recipe import AnyRecipe, SuperResolutionRecipe, SynthesisRecipe
from medgan.recipe_mask_to_scan import MaskToScanRecipe
from medgan.recipe_translation import TranslationRecipe


@dataclass(frozen=True)
class Game:
    """Where a kind of adversarial training has its fields.

    Args:
        section: of the loss and the penalty.
        rates: of the learning rates.
        penalised: whether discriminators have a gradient penalty.
        against_victory: what helps besides against a discriminator that wins.
    """

    section: str
    rates: str
    penalised: bool = True
    against_victory: str = ""

    @property
    def judge_rate(self) -> str:
        """The field of the discriminators' learning rate."""
        return f"{self.rates}.discriminator_learning_rate"


GAMES: Mapping[str, Game] = {
    "synthesis": Game("synthesis", "synthesis.optimizer", against_victory="lower synthesis.discriminator_steps"),
    "alpha_wgan": Game(
        "synthesis",
        "synthesis.optimizer",
        against_victory="raise synthesis.autoencoding.code_weight where it is the one of codes",
    ),
    "vqgan": Game(
        "synthesis",
        "synthesis.optimizer",
        penalised=False,
        against_victory="raise synthesis.autoencoding.adversarial_start, so that reconstructions are better before the "
        "discriminator joins",
    ),
    "translation": Game("translation", "translation"),
    "mask_to_scan": Game("mask_to_scan", "mask_to_scan", against_victory="raise mask_to_scan.feature_weight"),
    "super_resolution": Game("super_resolution.adversarial", "super_resolution.adversarial"),
}
"""All kinds by name."""


def game_of(recipe: AnyRecipe) -> Game | None:
    """The game that a recipe trains by; None for a training without one."""
    if isinstance(recipe, SynthesisRecipe):
        return GAMES.get(recipe.network.kind, GAMES["synthesis"])
    if isinstance(recipe, TranslationRecipe | MaskToScanRecipe | SuperResolutionRecipe):
        return GAMES[recipe.task]
    return None


def remedy(kind: str, game: Game) -> str:
    """What to change against a failure, a kind of `medgan.training.watchdogs.WATCHDOGS`."""
    if kind == "vanishing_gradient":
        penalty = "add a gradient penalty, " if game.penalised else ""
        return (
            f"Use a loss that does not saturate ({game.section}.loss=relativistic or non_saturating), {penalty}or "
            f"lower {game.judge_rate}."
        )
    if kind == "discriminator_wins":
        penalty = f"{game.section}.penalty"
        raised = f"Raise {penalty}.strength, or a weight that is given (where {penalty}.kind is none, set r1)"
        begin = f"{raised}, lower" if game.penalised else "Lower"
        further = f"{game.against_victory}, " if game.against_victory else ""
        return f"{begin} {game.judge_rate}, {further}or give more scans."
    if kind == "exploding_penalty":
        penalty = f"{game.section}.penalty"
        return f"Lower the learning rates or {penalty}.weight, set training.gradient_clip, or set {penalty}.interval=1."
    return _REMEDIES[kind]


# Of failures that only one kind of training knows.
_REMEDIES: Mapping[str, str] = {
    "mode_collapse": "Use synthesis.loss=relativistic with synthesis.penalty.kind=r1+r2, lower the learning rates, or "
    "begin again with another training.seed.",
    "codebook_collapse": "Lower synthesis.optimizer.learning_rate or synthesis.autoencoding.commitment_weight, or "
    "lower synthesis.autoencoding.codebook_decay so that the codebook follows faster.",
    "memorisation": "Give more scans, train for fewer synthesis.images, or make the networks smaller (network.width); "
    "audit the samples with `medgan evaluate synthesis` before any of them leaves the house.",
    "unchanged_scans": "Raise translation.adversarial_weight or translation.discriminator_learning_rate; of cyclegan "
    "lower translation.identity_weight, then translation.cycle_weight.",
    "inverted_intensities": "Of cyclegan raise translation.identity_weight and begin again with another training.seed; "
    "with pairs check that both contrasts of a subject lie on each other.",
    "hidden_information": "Lower translation.cycle_weight or network.channels, or train pix2pix where there are pairs; "
    "a small cycle error proves nothing here.",
    "ignored_labels": "Check in a viewer that label maps lie on their scans; raise mask_to_scan.feature_weight, or "
    "give mask_to_scan.pixel_weight a small value.",
    "ignored_latents": "Lower mask_to_scan.pixel_weight and mask_to_scan.feature_weight; until then, one scan for each "
    "label map is all that the model can make.",
}
