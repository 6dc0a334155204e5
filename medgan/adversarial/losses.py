"""Adversarial losses as pure functions of discriminator logits.

Each takes the logits of real and of generated volumes, float tensors of one shape (B, ...) (patch discriminators have
spatial axes too), and returns the mean loss. Logits are unbounded: no loss here expects or applies a sigmoid or tanh
beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu, softplus

LogitLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class AdversarialLoss:
    """The two sides of the game.

    Args:
        discriminator: (real logits, generated logits) to the loss that the discriminator minimises.
        generator: (real logits, generated logits) to the loss that the generator minimises.
        needs_real: whether the generator's side depends on the real logits.
    """

    discriminator: LogitLoss
    generator: LogitLoss
    needs_real: bool = False


def _logistic_discriminator(real: Tensor, generated: Tensor) -> Tensor:
    return softplus(-real).mean() + softplus(generated).mean()


def _non_saturating_generator(real: Tensor, generated: Tensor) -> Tensor:
    return softplus(-generated).mean()


def _saturating_generator(real: Tensor, generated: Tensor) -> Tensor:
    return -softplus(generated).mean()


def _relativistic_discriminator(real: Tensor, generated: Tensor) -> Tensor:
    return softplus(generated - real).mean()


def _relativistic_generator(real: Tensor, generated: Tensor) -> Tensor:
    return softplus(real - generated).mean()


def _hinge_discriminator(real: Tensor, generated: Tensor) -> Tensor:
    return relu(1 - real).mean() + relu(1 + generated).mean()


def _least_squares_discriminator(real: Tensor, generated: Tensor) -> Tensor:
    return 0.5 * (real - 1).square().mean() + 0.5 * generated.square().mean()


def _least_squares_generator(real: Tensor, generated: Tensor) -> Tensor:
    return 0.5 * (generated - 1).square().mean()


def _wasserstein_discriminator(real: Tensor, generated: Tensor) -> Tensor:
    return generated.mean() - real.mean()


def _wasserstein_generator(real: Tensor, generated: Tensor) -> Tensor:
    return -generated.mean()


LOSSES: dict[str, AdversarialLoss] = {
    # Goodfellow et al. 2014, section 3: the minimax game, and the variant with strong early gradients.
    "saturating": AdversarialLoss(_logistic_discriminator, _saturating_generator),
    "non_saturating": AdversarialLoss(_logistic_discriminator, _non_saturating_generator),
    # Mao et al. 2017, with labels 0 and 1.
    "least_squares": AdversarialLoss(_least_squares_discriminator, _least_squares_generator),
    # Lim and Ye 2017; Miyato et al. 2018: the generator's side is linear.
    "hinge": AdversarialLoss(_hinge_discriminator, _wasserstein_generator),
    # Arjovsky et al. 2017.
    "wasserstein": AdversarialLoss(_wasserstein_discriminator, _wasserstein_generator),
    # Relativistic pairing: Jolicoeur-Martineau 2018; the form of Huang et al. 2024 (R3GAN).
    "relativistic": AdversarialLoss(_relativistic_discriminator, _relativistic_generator, needs_real=True),
}
