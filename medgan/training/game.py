"""What adversarial objectives share: the generating side of a loss, their optimisers, and what is saved of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan.adversarial.losses import AdversarialLoss
from medgan.geometry import Shape, Spacing
from medgan.recipe import OptimizerOptions, Schedule, SynthesisOptions
from medgan.training.phases import Moment, Phase, PhaseLoss

Reported = dict[str, Tensor]


def fooling_loss(loss: AdversarialLoss, generated: Tensor, real: Callable[[], Tensor]) -> Tensor:
    """The generating side of an adversarial loss.

    Args:
        loss: which.
        generated: logits of what was made.
        real: gives the logits of as many real ones; called without gradients, and only where the loss pairs both sides.
    """
    if not loss.needs_real:
        return loss.generator(torch.zeros_like(generated), generated)
    with torch.no_grad():
        true = real().float()
    return loss.generator(true, generated)


def learning_rate_of(options: OptimizerOptions, *, judges: bool) -> Schedule:
    """The learning rate of discriminators (`judges`) or of generators."""
    if judges and options.discriminator_learning_rate is not None:
        return options.discriminator_learning_rate
    return options.learning_rate


def adam_phase(
    name: str,
    network: nn.Module,
    loss: PhaseLoss,
    options: SynthesisOptions,
    *,
    judges: bool,
    repeats: int = 1,
    before: Callable[[Moment], None] | None = None,
) -> Phase:
    """A phase that trains a network by Adam as the recipe says.

    Args:
        name: of the phase.
        network: what it trains.
        loss: of a batch.
        options: the recipe's game.
        judges: whether it is a discriminator, which may have a learning rate of its own and a lazy penalty.
        repeats: how often it runs in a step.
        before: called before each optimisation.
    """
    adam, interval = options.optimizer, options.penalty.interval
    rate = learning_rate_of(adam, judges=judges)
    # As published, where a penalty at each k-th step makes k + 1 optimisations of k.
    share = interval / (interval + 1) if judges and adam.lazy_rescaling else 1.0

    def tune(optimizer: Optimizer, moment: Moment) -> None:
        if before is not None:
            before(moment)
        for group in optimizer.param_groups:
            group["lr"] = rate.at(moment.progress) * share
            group["betas"] = (adam.beta1**share, adam.beta2.at(moment.progress) ** share)

    optimizer = Adam(network.parameters(), lr=rate.at(0.0), betas=(adam.beta1, adam.beta2.at(0.0)))
    return Phase(name, network, optimizer, loss, tune, repeats=repeats)


def exported_synthesis(
    network: dict[str, Any], average: nn.Module, *, shape: Shape, spacing: Spacing, labels: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of an averaged generator.

    Args:
        network: registered name and arguments.
        average: whose weights are saved.
        shape: voxels of its samples.
        spacing: their spacing, mm.
        labels: names of the labels that it is told.
    """
    config = {
        "task": "synthesis",
        "labels": list(labels),
        "network": network,
        "shape": list(shape),
        "spacing": list(spacing),
    }
    return config, dict(average.state_dict())
