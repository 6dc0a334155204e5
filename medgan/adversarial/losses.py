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
        boundary: the logit at which real and generated are equally likely; None where only differences of logits count.
    """

    discriminator: LogitLoss
    generator: LogitLoss
    needs_real: bool = False
    boundary: float | None = None


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


def _relativistic_average_discriminator(real: Tensor, generated: Tensor) -> Tensor:
    return softplus(generated.mean() - real).mean() + softplus(generated - real.mean()).mean()


def _relativistic_average_generator(real: Tensor, generated: Tensor) -> Tensor:
    return _relativistic_average_discriminator(generated, real)


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
    "saturating": AdversarialLoss(_logistic_discriminator, _saturating_generator, boundary=0.0),
    "non_saturating": AdversarialLoss(_logistic_discriminator, _non_saturating_generator, boundary=0.0),
    # Mao et al. 2017, with labels 0 and 1.
    "least_squares": AdversarialLoss(_least_squares_discriminator, _least_squares_generator, boundary=0.5),
    # Lim and Ye 2017; Miyato et al. 2018: the generator's side is linear.
    "hinge": AdversarialLoss(_hinge_discriminator, _wasserstein_generator, boundary=0.0),
    # Arjovsky et al. 2017.
    "wasserstein": AdversarialLoss(_wasserstein_discriminator, _wasserstein_generator),
    # Relativistic pairing: Jolicoeur-Martineau 2018; the form of Huang et al. 2024 (R3GAN).
    "relativistic": AdversarialLoss(_relativistic_discriminator, _relativistic_generator, needs_real=True),
    # Jolicoeur-Martineau 2018 (RaGAN): each volume against the mean logit of the other side.
    "relativistic_average": AdversarialLoss(
        _relativistic_average_discriminator, _relativistic_average_generator, needs_real=True
    ),
}


def _smoothed_logistic(real: Tensor, generated: Tensor, smoothing: float) -> Tensor:
    doubt = smoothing * softplus(real).mean()
    return (1 - smoothing) * softplus(-real).mean() + doubt + softplus(generated).mean()


def _smoothed_least_squares(real: Tensor, generated: Tensor, smoothing: float) -> Tensor:
    return 0.5 * (real - (1 - smoothing)).square().mean() + 0.5 * generated.square().mean()


_SMOOTHED: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "saturating": _smoothed_logistic,
    "non_saturating": _smoothed_logistic,
    "least_squares": _smoothed_least_squares,
}


def smoothed_discriminator(name: str, smoothing: float) -> LogitLoss:
    """The discriminator's side of a loss when real volumes are labelled 1 - `smoothing` instead of 1.

    One-sided (Salimans et al. 2016, section 3.4): generated volumes keep the label 0, because a discriminator that is
    told to doubt them too holds the generator where it is.

    Args:
        name: of the loss in `LOSSES`.
        smoothing: in [0, 1); 0 is the plain loss.

    Raises:
        ValueError: the loss has no labels that could be smoothed.
    """
    if smoothing == 0:
        return LOSSES[name].discriminator
    if name not in _SMOOTHED:
        raise ValueError(f"the loss '{name}' has no labels to smooth; {', '.join(sorted(_SMOOTHED))} have")
    loss = _SMOOTHED[name]
    return lambda real, generated: loss(real, generated, smoothing)
