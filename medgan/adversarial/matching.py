"""Feature matching for generators without pairs: the mean of what the discriminator sees, real against generated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Layers that see nothing must not divide by nothing.
_LEAST_SCALE = 1e-6


def mean_feature_matching(real: Sequence[Tensor], generated: Sequence[Tensor]) -> Tensor:
    """Squared difference of the mean features of two batches, layer by layer in units of the real features' scale.

    The idea of Salimans et al. 2016 (arXiv:1606.03498, section 3.1): means over the batch are compared because a
    generated volume has no real one that it should equal. The units make layers of any width and scale count alike.

    Args:
        real: features of the real volumes, one tensor (B, ...) per layer; no gradient goes through them.
        generated: of the generated volumes, the same shapes but for B.

    Returns:
        A float32 scalar: 0 for equal means.

    Raises:
        ValueError: there are no layers, or not as many of one as of the other.
    """
    if len(real) != len(generated) or not real:
        raise ValueError(f"{len(real)} layers of real and {len(generated)} of generated features cannot be matched")
    distances = []
    for true, made in zip(real, generated, strict=True):
        true = true.detach().float()
        scale = true.square().mean().clamp_min(_LEAST_SCALE)
        distances.append((made.float().mean(0) - true.mean(0)).square().mean() / scale)
    return torch.stack(distances).mean()
