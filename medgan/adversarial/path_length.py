"""Path-length regularisation (Karras et al. 2019, StyleGAN2, section 3.2), as pure functions.

A step of fixed size in the space of styles shall change the volume by a fixed amount, whatever the style and the
direction. The change is measured by the gradient of random directions in the space of volumes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def path_lengths(volumes: Tensor, styles: Tensor, *, directions: Tensor | None = None) -> Tensor:
    """The length of the gradient of each volume, along a random direction, with respect to its styles.

    Args:
        volumes: (B, 1, X, Y, Z), made from `styles` by a differentiable generator that keeps volumes apart.
        styles: (B, S), or (B, layers, S) with one style per layer, of which the root of the mean square length over
            the layers is taken; they require gradients.
        directions: (B, 1, X, Y, Z), standard normal; drawn from PyTorch's random state when None.

    Returns:
        Shape (B,), float32, differentiable. Its expected square is the squared Frobenius norm of the Jacobian over the
        number of voxels (and over that of the layers), so that it does not depend on the resolution.
    """
    if directions is None:
        directions = torch.randn_like(volumes)
    voxels = math.prod(volumes.shape[1:])
    projected = (volumes.float() * directions.float()).sum() / math.sqrt(voxels)
    (gradient,) = torch.autograd.grad(projected, styles, create_graph=True)
    squares = gradient.float().square().sum(dim=-1)
    if squares.ndim > 1:
        squares = squares.flatten(1).mean(dim=1)
    # The root is not differentiable at zero.
    return (squares + 1e-12).sqrt()


def path_length_penalty(lengths: Tensor, mean: Tensor, *, decay: float = 0.99) -> tuple[Tensor, Tensor]:
    """How far path lengths are from their running mean.

    Args:
        lengths: shape (B,), of `path_lengths`.
        mean: the running mean so far, a scalar; 0 before the first batch.
        decay: what it keeps of the past.

    Returns:
        The mean squared difference from the new running mean, and that mean, detached.
    """
    updated = (decay * mean + (1 - decay) * lengths.detach().mean()).detach()
    return (lengths - updated).square().mean(), updated
