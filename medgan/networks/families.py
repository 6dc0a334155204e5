"""From a recipe's network options and a cohort's grid to a generator and a discriminator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing
from medgan.networks.code_discriminator import CodeDiscriminator
from medgan.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from medgan.networks.discriminators import PatchDiscriminator
from medgan.networks.hagan import FINE_STAGES, HierarchicalDiscriminator, HierarchicalGenerator, total_enlargement
from medgan.networks.labelled import unlabelled
from medgan.networks.layers import as_shape, inner_shape
from medgan.networks.principal import PrincipalGenerator
from medgan.networks.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from medgan.networks.r3gan import R3Discriminator, R3Generator
from medgan.networks.stages import stage_shapes
from medgan.networks.stylegan import ResidualDiscriminator, StyleGenerator
from medgan.networks.third_party import check_pair, generator_record, third_party_pair
from medgan.networks.vqgan import CodeGenerator
from medgan.recipe import SynthesisNetwork

Pair = tuple[nn.Module, nn.Module]

# A growing network must be whole for at least this share of the training.
_WHOLE_SHARE = 0.1
# Of what a plain discriminator first says. Its random slopes would push a generator that begins near the scans away
# from them, all the more where a strong penalty has to flatten them first.
_FIRST_SCORE = 0.01


@dataclass(frozen=True)
class _Family:
    """Registered name of the generator, and how a pair is made of what all families share and the options."""

    generator: str
    make: Callable[[dict[str, Any], SynthesisNetwork], Pair]


def _r3gan(pyramid: dict[str, Any], options: SynthesisNetwork) -> Pair:
    shared: dict[str, Any] = {
        "blocks": options.blocks,
        "group_width": options.group_width,
        "expansion": options.expansion,
    }
    generator = R3Generator(latent_size=options.latent_size, common_pattern=options.common_pattern, **shared, **pyramid)
    if options.discriminator == "plain":
        plain = DCGANDiscriminator(minibatch_statistics=options.minibatch_statistics, **pyramid)
        with torch.no_grad():
            plain.score.weight.mul_(_FIRST_SCORE)  # type: ignore[operator]
        return generator, plain
    return generator, R3Discriminator(minibatch_statistics=options.minibatch_statistics, **shared, **pyramid)


def _dcgan(pyramid: dict[str, Any], options: SynthesisNetwork) -> Pair:
    generator = DCGANGenerator(latent_size=options.latent_size, normalisation=options.normalisation, **pyramid)
    discriminator = DCGANDiscriminator(
        normalisation=options.discriminator_normalisation,
        minibatch_statistics=options.minibatch_statistics,
        **pyramid,
    )
    return generator, discriminator


def _stylegan(pyramid: dict[str, Any], options: SynthesisNetwork) -> Pair:
    generator = StyleGenerator(
        latent_size=options.latent_size,
        style_size=options.style_size,
        mapping_layers=options.mapping_layers,
        noise=options.noise,
        style_mixing=options.style_mixing,
        **pyramid,
    )
    return generator, ResidualDiscriminator(minibatch_statistics=options.minibatch_statistics, **pyramid)


def _progressive(pyramid: dict[str, Any], options: SynthesisNetwork) -> Pair:
    stages = len(pyramid["shapes"])
    grown = (stages - 1) * (options.fading + options.stabilising)
    if grown > 1 - _WHOLE_SHARE:
        raise MedganError(
            f"{stages - 1} stages that fade in for {options.fading:g} and are stabilised for {options.stabilising:g} "
            f"of the training take {grown:.3g} of it: too little is left for the whole network",
            hint=f"Lower network.fading and network.stabilising to {(1 - _WHOLE_SHARE) / (stages - 1):.3g} together.",
        )
    timing: dict[str, Any] = {"fading": options.fading, "stabilising": options.stabilising}
    generator = ProgressiveGenerator(latent_size=options.latent_size, **timing, **pyramid)
    discriminator = ProgressiveDiscriminator(minibatch_statistics=options.minibatch_statistics, **timing, **pyramid)
    return generator, discriminator


def _hagan(pyramid: dict[str, Any], options: SynthesisNetwork) -> Pair:
    shapes, shape = pyramid["shapes"], pyramid["out_shape"]
    coarse = len(shapes) - FINE_STAGES
    if coarse < 1:
        raise MedganError(
            f"volumes of {'x'.join(map(str, shape))} voxels have only {len(shapes)} stages: hagan networks need one "
            f"more than their {FINE_STAGES} fine ones",
            hint="Lower network.base_size, or choose another network.kind: this one is for large volumes.",
        )
    grid, factor = shapes[coarse - 1], total_enlargement(shapes[coarse - 1 :])
    least = [-(-options.base_size // f) for f in factor]
    box = as_shape([max(small, round(options.sub_volume * n)) for n, small in zip(grid, least, strict=True)])
    fine = as_shape([n * f for n, f in zip(box, factor, strict=True)])
    shared = {"shapes": shapes, "channels": pyramid["channels"], "out_shape": shape, "box": box}
    generator = HierarchicalGenerator(latent_size=options.latent_size, **shared)
    discriminator = HierarchicalDiscriminator(
        # The voxels of a box are as long along each axis as the factors make them, whatever their true length.
        box_shapes=stage_shapes(fine, (1.0, 1.0, 1.0), base_size=options.base_size),
        minibatch_statistics=options.minibatch_statistics,
        **shared,
    )
    return generator, discriminator


def _alpha_wgan(pyramid: dict[str, Any], options: SynthesisNetwork) -> Pair:
    generator = DCGANGenerator(latent_size=options.latent_size, normalisation=options.normalisation, **pyramid)
    return generator, DCGANDiscriminator(normalisation=options.discriminator_normalisation, **pyramid)


def _vqgan(pyramid: dict[str, Any], options: SynthesisNetwork) -> Pair:
    shapes, channels = pyramid["shapes"], pyramid["channels"]
    stages = options.halvings + 1
    if len(shapes) < stages:
        raise MedganError(
            f"volumes of {'x'.join(map(str, pyramid['out_shape']))} voxels can be halved {len(shapes) - 1} times "
            f"before an axis has fewer than {options.base_size} codes; network.halvings asks for {options.halvings}",
            hint="Lower network.halvings or network.base_size, or prepare the cohort with a finer spacing.",
        )
    generator = CodeGenerator(
        shapes=[list(shape) for shape in shapes[-stages:]],
        channels=channels[-stages:],
        out_shape=list(pyramid["out_shape"]),
        haar_head=pyramid["haar_head"],
        blocks=options.blocks,
        codebook_size=options.codebook_size,
        code_channels=options.code_channels,
        prior_width=options.prior_width,
        prior_layers=options.prior_layers,
        prior_heads=options.prior_heads,
        prior_dropout=options.prior_dropout,
    )
    return generator, PatchDiscriminator(width=options.discriminator_width, in_channels=1)


FAMILIES: dict[str, _Family] = {
    "hagan": _Family("hierarchical_generator", _hagan),
    "r3gan": _Family("r3_generator", _r3gan),
    "dcgan": _Family("dcgan_generator", _dcgan),
    "stylegan": _Family("style_generator", _stylegan),
    "progressive": _Family("progressive_generator", _progressive),
    "alpha_wgan": _Family("dcgan_generator", _alpha_wgan),
    "vqgan": _Family("code_generator", _vqgan),
}


def pyramid_arguments(options: SynthesisNetwork, shape: Shape, spacing: Spacing) -> dict[str, Any]:
    """What the networks of all families share, derived from the cohort's shape (voxels) and spacing (mm).

    Raises:
        MedganError: the volumes are too small for the coarsest stage.
    """
    inner = inner_shape(shape, haar_head=options.haar_head)
    if options.haar_head and min(inner) < options.base_size:
        raise MedganError(
            f"volumes of {'x'.join(map(str, shape))} voxels are too small: with the Haar head every axis needs at "
            f"least {2 * options.base_size - 1} for a base size of {options.base_size}",
            hint="Set network.haar_head=false or lower network.base_size, or prepare the cohort with a finer spacing.",
        )
    shapes = stage_shapes(inner, spacing, base_size=options.base_size)
    widths = [min(options.max_width, options.width * 2**level) for level in range(len(shapes))]
    return {"shapes": shapes, "channels": widths[::-1], "out_shape": shape, "haar_head": options.haar_head}


def pair_for(options: SynthesisNetwork, shape: Shape, spacing: Spacing) -> Pair:
    """Generator and discriminator of the kind that the options name, with fresh weights.

    Args:
        options: the recipe's `network`.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.

    Returns:
        A generator (B, latent_size) to (B, 1, *shape), and a discriminator of that to logits (B, 1).

    Raises:
        MedganError: the volumes are too small, or another package's networks are not what they should be.
    """
    if options.kind in FAMILIES:
        return FAMILIES[options.kind].make(pyramid_arguments(options, shape, spacing), options)
    size = options.latent_size
    pair = third_party_pair(options.kind, shape=shape, spacing=spacing, latent_size=size, arguments=options.arguments)
    check_pair(options.kind, *pair, shape=shape, latent_size=size)
    pair[0].latent_size = size  # type: ignore[assignment]
    return pair


def encoder_for(options: SynthesisNetwork, shape: Shape, spacing: Spacing) -> Pair:
    """The encoder of an alpha_wgan and the discriminator of its codes, with fresh weights.

    Args:
        options: the recipe's `network`.
        shape: voxels of the cohort's volumes.
        spacing: their spacing, mm.

    Returns:
        Volumes (B, 1, *shape) to codes (B, latent_size), and codes to logits (B, 1).

    Raises:
        MedganError: the volumes are too small.
    """
    pyramid, size = pyramid_arguments(options, shape, spacing), options.latent_size
    encoder = DCGANDiscriminator(normalisation=options.normalisation, outputs=size, **pyramid)
    return encoder, CodeDiscriminator(latent_size=size, width=max(size, options.max_width))


def exported_generator(
    options: SynthesisNetwork, generator: nn.Module, *, shape: Shape, spacing: Spacing
) -> dict[str, Any]:
    """The entry of a model's configuration that rebuilds this generator: registered name and arguments."""
    if options.kind in FAMILIES:
        return {"name": FAMILIES[options.kind].generator, "arguments": generator.arguments}
    arguments = generator_record(
        shape=shape, spacing=spacing, latent_size=options.latent_size, arguments=options.arguments
    )
    return {"name": options.kind, "arguments": arguments}


def advance(network: nn.Module, progress: float) -> None:
    """Tell a network that changes during training where the training stands, in [0, 1]; others stay as they are."""
    network = unlabelled(network)
    network = network.inner if isinstance(network, PrincipalGenerator) else network
    if isinstance(network, ProgressiveGenerator | ProgressiveDiscriminator):
        network.advance(progress)


def mixes_batch(discriminator: nn.Module) -> bool:
    """Whether a logit depends on the other volumes in the batch, so that real and generated ones must go apart.

    Networks that do not say so by an attribute `mixes_batch` are taken to do it.
    """
    return bool(getattr(discriminator, "mixes_batch", True))
