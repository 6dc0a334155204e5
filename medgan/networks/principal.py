"""A generator around the linear model of a cohort: what the network makes is added to a random combination of the
cohort's principal components and to what a linear regression says of the labels.

An untrained network makes noise, and a short training spends most of its time on the mean scan. The linear model has
that at once, with the ways in which scans differ most, and cannot lose them to mode collapse. What it cannot do, sharp
edges at new places, is left to the network. (EigenGAN, He et al. 2021, arXiv:2104.12476, lets a generator learn linear
subspaces of its features; here one of the volumes themselves is given.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medgan.geometry import Shape
from medgan.networks.layers import as_shape
from medgan.networks.resample import Resample

# The network's share of the first samples (LayerScale, Touvron et al. 2021): noise beside the linear model.
_FIRST_SHARE = 0.1


class _Floor(torch.autograd.Function):
    """The larger of a volume and a number. Where the volume is cut off, a gradient that would raise it still passes:
    a generator that has once sunk below everywhere could not learn otherwise.
    """

    @staticmethod
    def forward(context: Any, volume: Tensor, lowest: Tensor) -> Tensor:
        context.save_for_backward(volume >= lowest)
        return torch.maximum(volume, lowest)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (free,) = context.saved_tensors
        (gradient,) = gradients
        return torch.where(free | (gradient < 0), gradient, torch.zeros_like(gradient)), None


class PrincipalGenerator(nn.Module):
    """Latent vectors to volumes; the first latent numbers are those of the components, label codes stand behind all.

    Mean, components and effects of the codes are zero until `begin` sets them, and are not trained. A linear model
    knows no lower bound; what it makes of air is cut off where scans end, so that the discriminator sees what is
    written to files.

    Args:
        inner: a generator of volumes.
        record: registered name and arguments that rebuild it.
        latent_size: length of its latent vectors.
        components: how many principal components, at most `latent_size`.
        grid: voxels of the components, at most those of the volumes; they are interpolated between.
        out_shape: voxels of the volumes.
        codes: length of a label code, which is not for the inner network; 0 for a model without labels.
    """

    registered = "principal_generator"
    """Its name in a model's configuration."""
    mean: Tensor
    components: Tensor
    effects: Tensor
    lowest: Tensor

    def __init__(
        self,
        inner: nn.Module,
        *,
        record: Mapping[str, Any],
        latent_size: int,
        components: int,
        grid: Sequence[int],
        out_shape: Sequence[int],
        codes: int = 0,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "inner": dict(record),
            "latent_size": latent_size,
            "components": components,
            "grid": list(grid),
            "out_shape": list(out_shape),
            "codes": codes,
        }
        if not 0 < components <= latent_size:
            raise ValueError(f"{components} components need as many latent numbers; there are {latent_size}")
        self.inner, self.latent_size, self.codes = inner, latent_size, codes
        self.grid: Shape = as_shape(grid)
        self.share = nn.Parameter(torch.tensor(_FIRST_SHARE))
        self.register_buffer("mean", torch.zeros(1, 1, *self.grid))
        self.register_buffer("components", torch.zeros(components, 1, *self.grid))
        if codes:
            self.register_buffer("effects", torch.zeros(codes, 1, *self.grid))
        self.register_buffer("lowest", torch.tensor(-math.inf))
        self.enlarge = Resample(self.grid, as_shape(out_shape))

    def begin(self, mean: Tensor, components: Tensor, *, lowest: float, effects: Tensor | None = None) -> None:
        """Set the linear model.

        Args:
            mean: (1, 1, x, y, z) of the grid, in the networks' range of about [-1, 1].
            components: (components, 1, x, y, z), each as long as the standard deviation along it.
            lowest: the lowest intensity of the scans, in the same range.
            effects: (codes, 1, x, y, z), what each number of a label code adds; None for a model without labels.

        Raises:
            ValueError: the shapes are others.
        """
        if mean.shape != self.mean.shape or components.shape != self.components.shape:
            raise ValueError(
                f"mean {tuple(mean.shape)} and components {tuple(components.shape)} are not of the shapes "
                f"{tuple(self.mean.shape)} and {tuple(self.components.shape)}"
            )
        self.mean.copy_(mean)
        self.components.copy_(components)
        self.lowest.fill_(lowest)
        if self.codes:
            if effects is None or effects.shape != self.effects.shape:
                raise ValueError(f"effects are of the shape {tuple(self.effects.shape)}")
            self.effects.copy_(effects)

    def linear(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_size + codes), standard normal but for the codes, to samples of the linear model,
        (B, 1, X, Y, Z).
        """
        return self._cut(self._unbounded(self.weights(latents)))

    def weights(self, latents: Tensor) -> Tensor:
        """How much of each component and effect latents (B, latent_size + codes) add: (B, components + codes)."""
        return torch.cat((latents[:, : len(self.components)], latents[:, self.latent_size :]), dim=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_size + codes), standard normal but for the codes, to volumes (B, 1, X, Y, Z) in about
        [-1, 1].
        """
        return self._joined(self.weights(latents), self.inner(latents[:, : self.latent_size]))

    def _joined(self, weights: Tensor, made: Tensor) -> Tensor:
        """The linear model with the share of what the inner network made."""
        return self._cut(self._unbounded(weights).to(made.dtype) + self.share.to(made.dtype) * made)

    def _unbounded(self, weights: Tensor) -> Tensor:
        directions = torch.cat((self.components, self.effects)) if self.codes else self.components
        added = weights.to(directions.dtype) @ directions.flatten(1)
        return self.enlarge(self.mean + added.unflatten(1, (1, *self.grid)))

    def _cut(self, volumes: Tensor) -> Tensor:
        return _Floor.apply(volumes, self.lowest.to(volumes.dtype))
