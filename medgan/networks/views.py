"""What of a volume a discriminator judges: all of it, or views that a hierarchical pair of networks takes."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from medgan.geometry import Shape
from medgan.networks.hagan import BoxedViews


class Views(Protocol):
    """Real and generated volumes as the discriminator takes them."""

    judged: Shape
    """Voxels that it sees of one volume."""

    def real(self, volumes: Tensor) -> Tensor:
        """Views of real volumes (B, 1, X, Y, Z) in about [-1, 1]."""

    def generated(self, generator: nn.Module, latents: Tensor, real: Tensor) -> Tensor:
        """Views of what a generator makes of latent vectors (B, latent_size), taken as those of `real` were."""


class WholeViews:
    """The volumes themselves.

    Args:
        shape: their voxels.
    """

    def __init__(self, shape: Shape) -> None:
        self.judged = shape

    def real(self, volumes: Tensor) -> Tensor:
        """The same."""
        return volumes

    def generated(self, generator: nn.Module, latents: Tensor, real: Tensor) -> Tensor:
        """What the generator makes."""
        return generator(latents)


def views_for(discriminator: nn.Module, shape: Shape) -> Views:
    """How this discriminator takes volumes of `shape` voxels."""
    views = getattr(discriminator, "views", None)
    return views if isinstance(views, BoxedViews) else WholeViews(shape)
