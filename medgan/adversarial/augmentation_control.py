"""How much augmentation a discriminator needs, judged by how surely it knows the scans it was trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def real_signs(real: Tensor, generated: Tensor, *, boundary: float | None) -> Tensor:
    """For each real logit +1 where the discriminator says "real", -1 where it says "generated", 0 in between.

    Losses that only compare logits have no logit that means "in doubt"; there, the middle between the mean logits of
    the two batches stands for it, so that a constant added to all logits changes nothing.

    Args:
        real: logits of real volumes.
        generated: logits of generated volumes.
        boundary: of `medgan.adversarial.losses.AdversarialLoss`.
    """
    middle = 0.5 * (real.mean() + generated.mean()) if boundary is None else boundary
    return (real - middle).sign()


class AugmentationControl(nn.Module):
    """The probability of augmentation, moved so that the mean sign at real volumes stays at a target.

    Karras et al. 2020 (arXiv:2006.06676, section 3.1): where the discriminator knows the real volumes by heart the mean
    sign nears 1 and the probability rises, where it is in doubt the probability falls. All state is in buffers, so that
    a checkpoint holds it.

    Args:
        target: the mean sign aimed at, in (0, 1).
        images: images over which the probability can move by one.
        limit: the largest probability.
    """

    probability: Tensor
    signs: Tensor
    seen: Tensor

    def __init__(self, *, target: float, images: int, limit: float) -> None:
        super().__init__()
        self.target, self.images, self.limit = target, images, limit
        self.register_buffer("probability", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))

    @torch.no_grad()
    def observe(self, signs: Tensor) -> None:
        """Note the `real_signs` of a batch, shape (B, ...)."""
        volumes = len(signs)
        self.signs += signs.float().mean() * volumes
        self.seen += volumes

    @torch.no_grad()
    def adjust(self) -> None:
        """Move the probability by what was noted since the last time; nothing moves where nothing was noted."""
        # The sign of the difference, times the images that it was seen on.
        step = (self.signs - self.target * self.seen).sign() * self.seen / self.images
        self.probability.copy_((self.probability + step).clamp(0.0, self.limit))
        self.signs.zero_()
        self.seen.zero_()
