"""Where a generator begins that is built around the linear model of its cohort."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medgan.data.principal import (
    MOST_VOXELS,
    SCANS_PER_COMPONENT,
    PrincipalComponents,
    component_count,
    principal_components,
)
from medgan.geometry import Shape, Spacing
from medgan.labels import LabelCoding
from medgan.networks.families import exported_generator
from medgan.networks.labelled import LabelledGenerator
from medgan.networks.principal import PrincipalGenerator
from medgan.networks.principal_styles import PrincipalStyleGenerator
from medgan.networks.resample import Resample
from medgan.networks.stages import stage_shapes
from medgan.networks.stylegan import StyleGenerator
from medgan.recipe import SynthesisNetwork, SynthesisRecipe


def component_grid(shape: Shape, spacing: Spacing) -> Shape:
    """The finest of the shapes that a pyramid over `shape` voxels has on which components are small enough to carry."""
    finest_first = stage_shapes(shape, spacing, base_size=2)[::-1]
    return next((grid for grid in finest_first if math.prod(grid) <= MOST_VOXELS), finest_first[-1])


def linear_start(
    recipe: SynthesisRecipe,
    volumes: Iterable[NDArray[Any]],
    *,
    shape: Shape,
    spacing: Spacing,
    coding: LabelCoding | None = None,
    codes: NDArray[Any] | None = None,
) -> PrincipalComponents | None:
    """The linear model of the training scans that a recipe asks for; None where it asks for none.

    Args:
        recipe: its `network.principal_components` says how many; fewer scans support fewer (`component_count`),
            and each needs a latent number.
        volumes: the training scans (X, Y, Z), normalised to about 0..1; each is looked at once.
        shape: their voxels.
        spacing: their spacing, mm.
        coding: of the labels that the recipe names; None where it names none.
        codes: the scans' labels by it, (N, coding.size): what they add to the mean is part of the model.
    """
    if not recipe.network.principal_components:
        return None
    # The nearest volumes that interpolation between the grid's voxels can make.
    shrink = Resample(shape, component_grid(shape, spacing), least_squares=True)
    small, lowest = [], math.inf
    for volume in volumes:
        small.append(shrink(torch.tensor(volume, dtype=torch.float32)[None, None])[0, 0].numpy())
        lowest = min(lowest, float(volume.min()))
    flip = recipe.synthesis.flip
    wanted = min(recipe.network.principal_components, recipe.network.latent_size)
    count = component_count(len(small), wanted)
    if not count:
        return None
    if coding is None or codes is None:
        start = principal_components(small, count, flip=flip)
    else:
        start = _with_labels(small, count, flip, coding, codes)
    # Shrunk scans undershoot at edges: the bound is that of the scans themselves.
    return replace(start, lowest=lowest)


def _with_labels(
    volumes: list[NDArray[Any]], count: int, flip: bool, coding: LabelCoding, codes: NDArray[Any]
) -> PrincipalComponents:
    """The linear model whose effects are those of a code's numbers; a code of no labels gives the mean scan."""
    # As with components: what few scans of a class have in common could be one person's.
    matrix, offset = coding.deviations(SCANS_PER_COMPONENT)
    start = principal_components(volumes, count, flip=flip, distances=codes @ matrix + offset)
    assert start.effects is not None
    mean, effects = start.mean + np.tensordot(offset, start.effects, 1), np.tensordot(matrix, start.effects, 1)
    return replace(start, mean=mean.astype(np.float32), effects=effects.astype(np.float32))


def around(
    start: PrincipalComponents | None,
    generator: nn.Module,
    options: SynthesisNetwork,
    *,
    shape: Shape,
    spacing: Spacing,
) -> nn.Module:
    """A generator around the linear model of its cohort.

    One that is told labels stays the outermost: its inner generator is the one that is wrapped.

    Args:
        start: the linear model; None leaves the generator as it is.
        generator: made by the options.
        options: the recipe's `network`.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.
    """
    if start is None:
        return generator
    if isinstance(generator, LabelledGenerator):
        wrapped = _wrapped(start, generator.inner, generator.arguments["inner"], shape)
        generator.inner = wrapped
        generator.arguments["inner"] = {"name": wrapped.registered, "arguments": wrapped.arguments}
        return generator
    return _wrapped(start, generator, exported_generator(options, generator, shape=shape, spacing=spacing), shape)


def recorded(options: SynthesisNetwork, generator: nn.Module, *, shape: Shape, spacing: Spacing) -> dict[str, Any]:
    """The entry of a model's configuration that rebuilds a generator, around a linear model or not.

    Args:
        options: the recipe's `network`.
        generator: made by the options, as it is or by `around`.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.
    """
    if isinstance(generator, PrincipalGenerator):
        return {"name": generator.registered, "arguments": generator.arguments}
    return exported_generator(options, generator, shape=shape, spacing=spacing)


def _wrapped(start: PrincipalComponents, inner: nn.Module, record: dict[str, Any], shape: Shape) -> PrincipalGenerator:
    kind = PrincipalStyleGenerator if isinstance(inner, StyleGenerator) else PrincipalGenerator
    whole = kind(
        inner,
        record=record,
        latent_size=int(inner.latent_size),  # type: ignore[arg-type]
        components=len(start.components),
        grid=start.mean.shape,
        out_shape=shape,
        codes=0 if start.effects is None else len(start.effects),
    )
    mean, components = torch.from_numpy(start.mean), torch.from_numpy(start.components)
    # Normalised intensity of 0..1 is [-1, 1] in the networks.
    effects = None if start.effects is None else 2 * torch.from_numpy(start.effects)[:, None]
    whole.begin(2 * mean[None, None] - 1, 2 * components[:, None], lowest=2 * start.lowest - 1, effects=effects)
    return whole
