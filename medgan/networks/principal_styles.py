"""A generator with styles around the linear model of its cohort.

The weights of the linear model's components stand behind a style, as if they were more of it: truncation pulls them
towards the mean scan, interpolation and directions of variation move them, and with styles of several vectors the
coarsest layer's count.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medgan.networks.principal import PrincipalGenerator
from medgan.networks.stylegan import Noise, StyleGenerator


class PrincipalStyleGenerator(PrincipalGenerator):
    """As `PrincipalGenerator`, with the members of a `StyleGenerator`, which is the inner network."""

    registered = "principal_style_generator"
    truncates_styles = True
    inner: StyleGenerator

    @property
    def layers(self) -> int:
        """Styles of one volume."""
        return self.inner.layers

    @property
    def held_latents(self) -> int:
        """See `StyleGenerator`."""
        return self.inner.held_latents

    @held_latents.setter
    def held_latents(self, count: int) -> None:
        self.inner.held_latents = count

    @property
    def mean_style(self) -> Tensor:
        """The mean style of the training and the weights of the mean scan, (style_size + components + codes,)."""
        mean = self.inner.mean_style
        return torch.cat((mean, mean.new_zeros(len(self.components) + self.codes)))

    def styles(self, latents: Tensor, *, truncation: float = 1.0, centre: Tensor | None = None) -> Tensor:
        """Latents (B, latent_size + codes) to styles with weights, (B, style_size + components + codes).

        Args:
            latents: standard normal but for the codes.
            truncation: 1 keeps style and weights, 0 gives the centre.
            centre: of the same size as `mean_style`, or one for each sample; `mean_style` when None.
        """
        whole = torch.cat((self.inner.styles(latents[:, : self.latent_size]), self.weights(latents)), dim=1)
        centre = self.mean_style if centre is None else centre
        return whole if truncation == 1.0 else centre.lerp(whole, truncation)

    def forward(
        self,
        latents: Tensor,
        *,
        truncation: float = 1.0,
        seeds: Sequence[int] | None = None,
        centre: Tensor | None = None,
    ) -> Tensor:
        """As `StyleGenerator.forward`, from latents (B, latent_size + codes)."""
        if self.training:
            return super().forward(latents)
        styles = self.styles(latents, truncation=truncation, centre=centre)
        noise = self.inner.noise_of(latents[:, : self.latent_size], seeds)
        return self.synthesise(styles[:, None].expand(-1, self.layers, -1), noise)

    def synthesise(self, styles: Tensor, noise: Noise | None = None) -> Tensor:
        """Styles with weights per layer, (B, layers, style_size + components + codes), to volumes (B, 1, X, Y, Z)."""
        own = styles.shape[2] - len(self.components) - self.codes
        return self._joined(styles[:, 0, own:], self.inner.synthesise(styles[:, :, :own], noise))


AnyStyleGenerator = StyleGenerator | PrincipalStyleGenerator
