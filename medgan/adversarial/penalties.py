"""Penalties on how steeply the discriminator changes, as pure functions.

R1 is the mean squared norm of the discriminator's gradient at real volumes, R2 the same at generated ones (Mescheder
et al. 2018). Both come in two forms: exact (double backward) and by finite differences, which needs no second
derivative. WGAN-GP and DRAGAN hold the norm at 1 elsewhere: between real and generated volumes, and around the real
ones. All arithmetic is float32, outside autocast, because a squared gradient underflows in half precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]


def squared_gradient(critic: Critic, volumes: Tensor) -> Tensor:
    """The exact squared gradient norm of the critic at each volume.

    Args:
        critic: volumes (B, C, X, Y, Z) to logits (B, ...); patch logits are summed, so that each volume has one
            gradient.
        volumes: float tensor (B, C, X, Y, Z).

    Returns:
        Shape (B,), differentiable with respect to the critic's weights.
    """
    with torch.autocast(volumes.device.type, enabled=False):
        volumes = volumes.detach().float().requires_grad_(True)
        logits = critic(volumes)
        (gradient,) = torch.autograd.grad(logits.float().sum(), volumes, create_graph=True)
        return gradient.square().flatten(1).sum(1)


def squared_difference(critic: Critic, volumes: Tensor, *, sigma: float, logits: Tensor | None = None) -> Tensor:
    """A finite-difference estimate of the squared gradient norm at each volume.

    The change of the logit under a small Gaussian disturbance of standard deviation `sigma` is, to first order, the
    gradient's component along a random direction times sigma; its square over sigma squared has the squared gradient
    norm as mean.

    Args:
        critic: as in `squared_gradient`.
        volumes: float tensor (B, C, X, Y, Z).
        sigma: standard deviation of the disturbance, in the units of the volumes.
        logits: the critic's logits at `volumes` when they are known already, shape (B, ...).

    Returns:
        Shape (B,), differentiable with respect to the critic's weights.
    """
    volumes = volumes.detach()
    if logits is None:
        logits = critic(volumes)
    disturbed = critic(volumes + sigma * torch.randn_like(volumes))
    change = (disturbed.float() - logits.float()).reshape(len(volumes), -1).sum(1)
    return change.square() / sigma**2


def two_sided(squared: Tensor) -> Tensor:
    """How far gradient norms are from 1, squared, shape (B,), from squared norms (B,): (|g| - 1)^2.

    A gradient that vanishes altogether has no direction in which it could grow, and is left alone.
    """
    return (squared.clamp_min(1e-20).sqrt() - 1).square()


def interpolated(real: Tensor, generated: Tensor) -> Tensor:
    """A random point on the line between each real and generated volume, shape (B, C, X, Y, Z).

    One position per pair, uniform, from PyTorch's random state: where WGAN-GP looks at the gradient (Gulrajani et al.
    2017, algorithm 1).
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    return generated.detach().float().lerp(real.detach().float(), share)


def perturbed(real: Tensor, *, scale: float = 0.5) -> Tensor:
    """Real volumes with Gaussian noise: where DRAGAN looks at the gradient (Kodali et al. 2017, algorithm 1).

    Args:
        real: (B, C, X, Y, Z).
        scale: standard deviation of the noise in units of that of the batch's voxels.
    """
    real = real.detach().float()
    return real + scale * real.std(correction=0) * torch.randn_like(real)


def automatic_weight(voxels: int, batch_size: int) -> float:
    """A starting weight (gamma) for R1 and R2: 2e-4 times the voxels of one volume, over the batch size.

    This carries the rule of StyleGAN2-ADA (pixels over batch) from images to volumes. A discriminator whose logit
    moves by a given amount when every voxel moves by a given amount has a squared gradient norm that falls with the
    number of voxels, and the weight makes up for that. It is a start, not a law: the reported `gradient_norm_real`
    and the penalty beside the adversarial loss tell whether it is too weak or too strong.
    """
    return 2e-4 * voxels / batch_size
