"""Path-length regularisation of a generator with styles, and the running mean that it keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medgan.adversarial.path_length import path_length_penalty, path_lengths
from medgan.errors import MedganError


class PathRegularisation(nn.Module):
    """How unevenly a generator answers to steps in its space of styles; the running mean is a buffer.

    Args:
        decay: what the mean keeps of the past.
    """

    mean: Tensor

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, generator: nn.Module, latents: Tensor) -> Tensor:
        """The penalty, a scalar, for latent vectors (B, latent_size); moves the mean. Computed in float32."""
        with torch.autocast(latents.device.type, enabled=False):
            styles = generator.styles(latents)  # type: ignore[operator]
            repeated = styles[:, None].expand(-1, generator.layers, -1)
            volumes = generator.synthesise(repeated)  # type: ignore[operator]
            penalty, mean = path_length_penalty(path_lengths(volumes, repeated), self.mean, decay=self.decay)
        self.mean.copy_(mean)
        return penalty


def refuse_without_styles(generator: nn.Module, kind: str) -> None:
    """Refuse a generator that has no space of styles.

    Raises:
        MedganError: it has none.
    """
    if not all(hasattr(generator, name) for name in ("styles", "synthesise", "layers")):
        raise MedganError(
            f"synthesis.path_length regularises the styles of a generator, and {kind} networks have none",
            hint="Set synthesis.path_length.weight=0 or network.kind=stylegan.",
        )
