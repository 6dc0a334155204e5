"""A training as data: phases that an objective supplies and the trainer runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Moment:
    """Where the training stands.

    Args:
        step: steps done so far.
        images: images seen so far.
        progress: images seen over all images, in [0, 1].
    """

    step: int
    images: int
    progress: float


# What a batch holds is between the objective and the source of its batches.
PhaseLoss = Callable[[Any, Moment], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Phase:
    """One optimisation within a step.

    Args:
        name: appears in metrics, such as "discriminator".
        module: the network that this phase trains; all others are frozen meanwhile.
        optimizer: of the module's parameters.
        loss: (batch, moment) to the scalar loss and detached scalars to report.
        tune: called before the step to set learning rate and momenta for the moment.
        every: run on each n-th step only.
        repeats: optimisation steps within one step of the loop, each on its own batch.
        first_image: the phase sleeps until this many images were seen.
        last_image: and ends when this many were seen; never when None.
    """

    name: str
    module: nn.Module
    optimizer: Optimizer
    loss: PhaseLoss
    tune: Callable[[Optimizer, Moment], None]
    every: int = 1
    repeats: int = 1
    first_image: int = 0
    last_image: int | None = None

    def active(self, moment: Moment) -> bool:
        """Whether the phase runs at this step."""
        awake = self.first_image <= moment.images and (self.last_image is None or moment.images < self.last_image)
        return awake and moment.step % self.every == 0


class Objective(Protocol):
    """What is trained: networks, phases, and which weights to average."""

    images: int
    """Images of the whole training."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """All networks whose weights a checkpoint must hold."""

    @property
    def phases(self) -> Sequence[Phase]:
        """In the order in which they run within a step."""

    @property
    def averaged(self) -> str:
        """Name of the network whose exponential average is the product."""

    def half_life(self, moment: Moment) -> float:
        """Half-life of that average, in images."""

    def after_step(self, moment: Moment, average: nn.Module) -> None:
        """Called after each step with the average so far; `moment` counts the step just done."""

    def export(self, average: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The configuration (network, task, ...) and weights to write to disk."""
