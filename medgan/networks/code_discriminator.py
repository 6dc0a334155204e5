"""A discriminator of codes, which keeps an encoder's codes as the latent vectors that samples are drawn from."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from medgan.networks.layers import ACTIVATION_GAIN, activated, linear


class CodeDiscriminator(nn.Module):
    """Codes to one logit each, by three layers (Rosca et al. 2017, arXiv:1706.04987, section 2.3).

    Args:
        latent_size: length of a code.
        width: features of the inner layers.
    """

    mixes_batch = False

    def __init__(self, *, latent_size: int, width: int) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"latent_size": latent_size, "width": width}
        self.layers = nn.ModuleList(
            [linear(latent_size, width, gain=ACTIVATION_GAIN), linear(width, width, gain=ACTIVATION_GAIN)]
        )
        self.score = linear(width, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (B, latent_size) to logits (B, 1)."""
        for layer in self.layers:
            codes = activated(layer(codes))
        return self.score(codes)
