"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

# What batch normalisation calls its buffers.
_BATCH_STATISTICS = ("running_mean", "running_var")


def frozen_copy(network: nn.Module) -> nn.Module:
    """A copy that takes no gradients, in evaluation mode."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, *, images: int, half_life: float) -> None:
    """Move the average towards the network after `images` more images.

    Args:
        average: changed in place.
        network: the one in training.
        images: images seen since the last update.
        half_life: images after which the old average counts half; 0 copies the network.
    """
    decay = 0.5 ** (images / half_life) if half_life > 0 else 0.0
    old: list[Tensor] = list(average.parameters())
    new: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(old, new, 1.0 - decay)
    current = dict(network.named_buffers())
    for name, kept in average.named_buffers():
        if name.rpartition(".")[2] in _BATCH_STATISTICS:
            # Averaged weights make features that no single step's statistics describe.
            kept.lerp_(current[name], 1.0 - decay)
        else:
            kept.copy_(current[name])
