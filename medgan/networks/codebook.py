"""A codebook that follows the features it stands for (van den Oord et al. 2017, arXiv:1711.00937, appendix A.1).

Two things are added, without which most codes are never used: the codebook begins with features of the first batch
instead of random vectors, and a code that hardly anything is nearest to is replaced by a feature of the batch (Dhariwal
et al. 2020, arXiv:2005.00341, section 3.1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Of the features that each code would stand for if all were used alike: below it a code counts as dead.
_DEAD_SHARE = 0.05
_SMALLEST = 1e-5


class Quantised(NamedTuple):
    """Features as codes.

    Args:
        features: (B, C, X, Y, Z), the vectors of the nearest codes; gradients go to what was quantised.
        codes: (B, X, Y, Z), whole numbers.
        commitment: mean squared distance of the features from their codes' vectors; its gradient goes to the features.
    """

    features: Tensor
    codes: Tensor
    commitment: Tensor


class Codebook(nn.Module):
    """Vectors for codes; they are averages of features, so no optimiser moves them.

    Args:
        size: how many codes there are.
        channels: numbers of a vector.
        decay: what the averages keep of the past at each batch.
    """

    # Which vectors there are depends on whole batches.
    mixes_batch = True
    sizes: Tensor
    sums: Tensor

    def __init__(self, size: int, channels: int, *, decay: float = 0.95) -> None:
        super().__init__()
        self.size, self.decay = size, decay
        # A parameter, so that it is averaged like the networks around it.
        self.vectors = nn.Parameter(torch.randn(size, channels), requires_grad=False)
        self.register_buffer("sizes", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, channels))

    def nearest(self, features: Tensor) -> Tensor:
        """Features (B, C, X, Y, Z) to the codes nearest to them, (B, X, Y, Z)."""
        with torch.autocast(features.device.type, enabled=False), torch.no_grad():
            rows = features.detach().float().movedim(1, -1)
            distances = self.vectors.square().sum(1) - 2 * rows @ self.vectors.t()
            return distances.argmin(dim=-1)

    def looked_up(self, codes: Tensor) -> Tensor:
        """Codes (B, X, Y, Z) to their vectors, (B, C, X, Y, Z)."""
        return F.embedding(codes, self.vectors.detach()).movedim(-1, 1)

    def forward(self, features: Tensor, *, learn: bool = False) -> Quantised:
        """Quantise features (B, C, X, Y, Z).

        Args:
            features: of an encoder.
            learn: whether the codebook follows them; random numbers are drawn then.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            if learn:
                self._revive(features.detach())
            codes = self.nearest(features)
            if learn:
                self._follow(features.detach(), codes)
            vectors = self.looked_up(codes)
            commitment = F.mse_loss(features, vectors)
            return Quantised(features + (vectors - features).detach(), codes, commitment)

    @torch.no_grad()
    def _revive(self, features: Tensor) -> None:
        """Replace dead codes by features drawn from the batch; all of them before the first batch."""
        rows = features.movedim(1, -1).flatten(0, -2)
        share = len(rows) / self.size
        drawn = rows[torch.randint(len(rows), (self.size,), device=rows.device)]
        dead = self.sizes < _DEAD_SHARE * share
        self.vectors.copy_(torch.where(dead[:, None], drawn, self.vectors))
        self.sums.copy_(torch.where(dead[:, None], share * drawn, self.sums))
        self.sizes.masked_fill_(dead, share)

    @torch.no_grad()
    def _follow(self, features: Tensor, codes: Tensor) -> None:
        """Move every vector towards the mean of the features that it stands for."""
        rows = features.movedim(1, -1).flatten(0, -2)
        # A product instead of sums by index, which are not deterministic on GPUs.
        members = F.one_hot(codes.flatten(), self.size).to(rows.dtype)
        self.sizes.lerp_(members.sum(0), 1 - self.decay)
        self.sums.lerp_(members.t() @ rows, 1 - self.decay)
        self.vectors.copy_(self.sums / self.sizes.clamp_min(_SMALLEST)[:, None])

    def perplexity(self, codes: Tensor) -> Tensor:
        """How many codes a batch uses, as if all were used alike: 1 for a single one, `size` at most."""
        # In float64 counts are exact, and equal shares give whole numbers.
        members = F.one_hot(codes.flatten(), self.size).sum(0).double()
        shares = members / members.sum()
        return torch.exp(-torch.special.xlogy(shares, shares).sum()).float()
