"""LeCam regularisation: the discriminator's logits are held near the running mean of the other side's."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LecamAnchors(nn.Module):
    """Running means of the logits of real and of generated volumes (Tseng et al. 2021, arXiv:2104.03310, section 3.2).

    They are buffers, so that a checkpoint holds them. The first batch sets them.

    Args:
        decay: what a mean keeps of the past at each update, in [0, 1).
    """

    real: Tensor
    generated: Tensor
    updates: Tensor

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("generated", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, real: Tensor, generated: Tensor) -> None:
        """Move the means towards the logits of a batch, float tensors of any shape."""
        kept = torch.where(self.updates > 0, self.decay, 0.0)
        self.real.copy_(kept * self.real + (1 - kept) * real.float().mean())
        self.generated.copy_(kept * self.generated + (1 - kept) * generated.float().mean())
        self.updates += 1

    def forward(self, real: Tensor, generated: Tensor) -> Tensor:
        """The mean squared distance of real logits from the generated ones' mean, plus the reverse: a scalar."""
        return (real.float() - self.generated).square().mean() + (generated.float() - self.real).square().mean()
