"""The gradient penalty of a synthesis training: where the gradient is looked at, how, and how strongly it counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medgan.adversarial.penalties import (
    Critic,
    automatic_weight,
    interpolated,
    perturbed,
    squared_difference,
    squared_gradient,
    two_sided,
)
from medgan.geometry import Shape
from medgan.recipe import PenaltyOptions, Schedule, SynthesisPenaltyOptions
from medgan.training.phases import Moment

# Published for both penalties that hold the norm at 1.
_UNIT_NORM_WEIGHT = 10.0
_UNIT_NORM = ("gradient_penalty", "dragan")
_SIDES = {"r1": "real", "r2": "generated"}


def resolved_weight(options: PenaltyOptions, shape: Shape, batch_size: int) -> Schedule:
    """The penalty's weight over the training, with "auto" made explicit."""
    if options.weight == "auto" and options.kind in _UNIT_NORM:
        weight = options.strength * _UNIT_NORM_WEIGHT
        return Schedule(start=weight, end=weight)
    return options.scheduled(automatic_weight(math.prod(shape), batch_size))


class GradientPenalty:
    """What a recipe's penalty comes to.

    Args:
        options: the recipe's.
        shape: voxels of the volumes.
        batch_size: real volumes per step.
    """

    def __init__(self, options: SynthesisPenaltyOptions, *, shape: Shape, batch_size: int) -> None:
        self.options = options
        self._weight = resolved_weight(options, shape, batch_size)

    def due(self, moment: Moment) -> bool:
        """Whether the penalty is computed at this step."""
        return self.options.kind != "none" and moment.step % self.options.interval == 0

    def factor(self, moment: Moment) -> float:
        """What a penalty is multiplied by: its weight, halved for R1 and R2, times the steps that it stands for."""
        half = 1.0 if self.options.kind in _UNIT_NORM else 0.5
        return half * self.options.interval * self._weight.at(moment.progress)

    def added(
        self, loss: Tensor, critic: Critic, both: Tensor, logits: Tensor, moment: Moment
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A discriminator's loss with the penalties of a step at which they are due, and what `reported` says of them.

        Args:
            loss: without them.
            critic: see `measured`.
            both: see there.
            logits: see there.
            moment: where the training stands.
        """
        penalties = self.measured(critic, both, logits)
        for penalty in penalties.values():
            loss = loss + self.factor(moment) * penalty
        return loss, self.reported(penalties, moment)

    def measured(self, critic: Critic, both: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """The penalties of a batch, by name, without their factor.

        Args:
            critic: volumes (B, 1, X, Y, Z) to logits; given real and generated volumes it may judge them apart.
            both: what the discriminator was shown, real volumes first, then as many generated ones.
            logits: the critic's of these.
        """
        if self.options.kind in _UNIT_NORM:
            real, generated = both.chunk(2)
            places = interpolated(real, generated) if self.options.kind == "gradient_penalty" else perturbed(real)
            return {self.options.kind: two_sided(squared_gradient(critic, places)).mean()}
        return self._steepness(critic, both, logits)

    def _steepness(self, critic: Critic, both: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """The mean squared gradients: "r1" at the real half of `both`, "r2" at the generated one."""
        options, half = self.options, len(both) // 2
        chosen = {"r1": slice(0, half), "r2": slice(half, None), "r1+r2": slice(None)}[options.kind]
        volumes = both[chosen]
        if options.form == "exact":
            squared = squared_gradient(critic, volumes)
        else:
            # Logits from half precision are too coarse to be subtracted.
            usable = None if torch.is_autocast_enabled(both.device.type) else logits[chosen]
            with torch.autocast(both.device.type, enabled=False):
                squared = squared_difference(critic, volumes, sigma=options.sigma, logits=usable)
        if options.kind == "r1+r2":
            return {"r1": squared[:half].mean(), "r2": squared[half:].mean()}
        return {options.kind: squared.mean()}

    def reported(self, penalties: dict[str, Tensor], moment: Moment) -> dict[str, Tensor]:
        """What a user reads off: the penalties, the gradient's root mean square norm, and the share of the loss.

        A weighted penalty far below the adversarial loss holds nothing back, one far above it leaves nothing to learn.
        """
        weighted = self.factor(moment) / self.options.interval * torch.stack(list(penalties.values())).sum()
        norms = {
            f"gradient_norm_{_SIDES[name]}": penalty.detach().clamp_min(0).sqrt()
            for name, penalty in penalties.items()
            if name in _SIDES
        }
        return {**penalties, **norms, "weighted_penalty": weighted.detach()}
