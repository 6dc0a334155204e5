"""Which objective trains which kind of networks for synthesis."""

from __future__ import annotations

import torch

from medgan.data.principal import PrincipalComponents
from medgan.geometry import Shape, Spacing
from medgan.label_distribution import LabelDistribution
from medgan.recipe import SynthesisRecipe
from medgan.training.alpha_wgan import AlphaGANObjective
from medgan.training.synthesis import SynthesisObjective
from medgan.training.vqgan import CodeObjective

GeneratorObjective = SynthesisObjective | AlphaGANObjective | CodeObjective
"""All of these have the generator in training as their attribute `generator`."""


def synthesis_objective(
    recipe: SynthesisRecipe,
    *,
    shape: Shape,
    spacing: Spacing,
    device: torch.device,
    labels: LabelDistribution | None = None,
    start: PrincipalComponents | None = None,
) -> GeneratorObjective:
    """The objective that trains a recipe's networks.

    Args:
        recipe: what to train.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.
        device: where to put the networks.
        labels: those that the recipe names; kinds that are told none refuse the names when the recipe is loaded.
        start: the linear model of the training scans that a recipe with principal components begins from.

    Raises:
        MedganError: the networks cannot be made for such volumes, or do not have what the recipe asks of them.
    """
    if recipe.network.kind == "alpha_wgan":
        return AlphaGANObjective(recipe, shape=shape, spacing=spacing, device=device, start=start)
    if recipe.network.kind == "vqgan":
        return CodeObjective(recipe, shape=shape, spacing=spacing, device=device)
    return SynthesisObjective(recipe, shape=shape, spacing=spacing, device=device, labels=labels, start=start)
