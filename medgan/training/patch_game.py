"""The game against discriminators of patches, which see what a candidate was made from beside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medgan.adversarial.losses import LOSSES
from medgan.adversarial.penalties import squared_difference, squared_gradient
from medgan.recipe import PenaltyOptions, Schedule
from medgan.training.game import Reported, fooling_loss
from medgan.training.phases import Moment


class PatchGame:
    """An adversarial loss and a penalty, for any discriminator that takes (candidate, beside).

    Args:
        loss: name of the adversarial loss.
        penalty: the recipe's; an automatic weight falls from its strength to a tenth.
    """

    def __init__(self, loss: str, penalty: PenaltyOptions) -> None:
        self.loss, self.penalty = LOSSES[loss], penalty

    def fooling(self, discriminator: nn.Module, made: Tensor, real: Tensor, beside: Tensor | None) -> Tensor:
        """The generator's adversarial loss.

        Args:
            discriminator: candidates and what they were made from to patch logits.
            made: generated volumes (B, 1, X, Y, Z), in about [-1, 1].
            real: as many real ones.
            beside: what both were made from, (B, C, X, Y, Z), if the discriminator is shown it.
        """
        generated = discriminator(made, beside).float()
        return fooling_loss(self.loss, generated, lambda: discriminator(real, beside))

    def judgement(
        self, discriminator: nn.Module, real: Tensor, made: Tensor, beside: Tensor | None, moment: Moment
    ) -> tuple[Tensor, Reported]:
        """The discriminator's adversarial loss and penalty; arguments as those of `fooling`."""
        true, generated = discriminator(real, beside).float(), discriminator(made, beside).float()
        loss = self.loss.discriminator(true, generated)
        reported = {"adversarial": loss, "real_logit": true.mean(), "generated_logit": generated.mean()}
        options = self.penalty
        if options.kind != "none" and moment.step % options.interval == 0:
            weight = 0.5 * options.interval * options.scheduled().at(moment.progress)
            for name, shown in (("r1", real), ("r2", made)):
                if name in options.kind:
                    reported[name] = self._steepness(discriminator, shown, beside)
                    loss = loss + weight * reported[name]
        return loss, reported

    def _steepness(self, discriminator: nn.Module, shown: Tensor, beside: Tensor | None) -> Tensor:
        """Mean squared gradient of the patch logits' mean, by what the discriminator is shown."""

        def critic(candidates: Tensor) -> Tensor:
            logits = discriminator(candidates, beside)
            return logits.mean(dim=(1, 2, 3, 4)) * candidates[0].numel() ** 0.5

        with torch.autocast(shown.device.type, enabled=False):
            if self.penalty.form == "exact":
                return squared_gradient(critic, shown).mean()
            return squared_difference(critic, shown, sigma=self.penalty.sigma).mean()


def tuned(schedule: Schedule) -> Callable[[Optimizer, Moment], None]:
    """What sets an optimiser's learning rate before each step."""

    def apply(optimizer: Optimizer, moment: Moment) -> None:
        for group in optimizer.param_groups:
            group["lr"] = schedule.at(moment.progress)

    return apply
