"""Generators and discriminators of other packages.

A package offers a pair by an entry point in the group `medgan.networks`, whose name becomes a `network.kind`:

    [project.entry-points."medgan.networks"]
    my_networks = "my_package:pair"

It leads to a callable `pair(*, shape, spacing, latent_size, **arguments)` that returns a generator and a discriminator:
the generator maps latent vectors (B, latent_size) to volumes (B, 1, *shape) in about [-1, 1], the discriminator such
volumes to unbounded logits (B, 1) or (B, 1, x, y, z). The same call rebuilds the generator of a saved model, so its
weights must fit whenever the arguments are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from medgan.errors import MedganError, nearest
from medgan.geometry import Shape, Spacing
from medgan.recipe_families import third_party_networks


def third_party_pair(
    kind: str, *, shape: Sequence[int], spacing: Sequence[float], latent_size: int, arguments: Mapping[str, Any]
) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator that a package makes for volumes of `shape` voxels and `spacing` mm.

    Raises:
        MedganError: no installed package has such networks, it cannot be loaded, does not take these arguments, or
            returns something else.
    """
    known = third_party_networks()
    if kind not in known:
        raise MedganError(
            f"no installed package has networks '{kind}'",
            hint=f"Install the package that the model was trained with. {nearest(kind, list(known))}",
        )
    where = f"networks '{kind}' ({known[kind].value})"
    try:
        make = known[kind].load()
    except (ImportError, AttributeError) as error:
        raise MedganError(f"{where} cannot be loaded ({error})", hint="Repair that package's installation.") from error
    try:
        pair = make(shape=tuple(shape), spacing=tuple(spacing), latent_size=latent_size, **arguments)
    except (TypeError, ValueError) as error:
        raise MedganError(f"{where} refuse their arguments ({error})", hint="Correct network.arguments.") from error
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, nn.Module) for part in pair)):
        raise MedganError(f"{where} are not a pair of torch modules", hint="Return (generator, discriminator).")
    generator, discriminator = pair
    return generator, discriminator


def check_pair(kind: str, generator: nn.Module, discriminator: nn.Module, *, shape: Shape, latent_size: int) -> None:
    """Try a pair on two latent vectors.

    Raises:
        MedganError: volumes or logits have other shapes than promised.
    """
    for network in (generator, discriminator):
        network.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        volumes = generator(torch.randn(2, latent_size))
        if tuple(volumes.shape) != (2, 1, *shape):
            raise MedganError(
                f"networks '{kind}': the generator makes volumes of shape {tuple(volumes.shape)} from two latent "
                f"vectors, not {(2, 1, *shape)}",
                hint="Derive the sizes of the networks from `shape`.",
            )
        logits = discriminator(volumes)
    for network in (generator, discriminator):
        network.train()
    if logits.shape[:2] != (2, 1):
        raise MedganError(
            f"networks '{kind}': the discriminator makes logits of shape {tuple(logits.shape)} from two volumes",
            hint="Return (B, 1), or (B, 1, x, y, z) for patches.",
        )


def rebuilt_generator(kind: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The generator of a saved model, with fresh weights; `arguments` are those of `generator_record`.

    Raises:
        MedganError: as `third_party_pair` would.
    """
    generator, _ = third_party_pair(kind, **arguments)
    generator.latent_size = arguments["latent_size"]
    return generator


def generator_record(
    *, shape: Shape, spacing: Spacing, latent_size: int, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What a saved model must know to rebuild its generator by `rebuilt_generator`."""
    return {
        "shape": list(shape),
        "spacing": list(spacing),
        "latent_size": latent_size,
        "arguments": dict(arguments),
    }
