"""What recipes of all kinds have in common: quantities that change, the loop, the record, the penalty on steepness."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)


class Options(BaseModel):
    """Common behaviour: unknown fields are refused, values are frozen, docstrings describe the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Schedule(Options):
    """A quantity that changes along half a cosine from `start` to `end`; a plain number in YAML is a constant."""

    start: float
    """Value at the first image."""
    end: float
    """Value at the last image."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"start": float(value), "end": float(value)}
        return value

    def at(self, progress: float) -> float:
        """Value at `progress` in [0, 1] of the training; held outside."""
        progress = min(max(progress, 0.0), 1.0)
        return self.end + 0.5 * (self.start - self.end) * (1 + math.cos(math.pi * progress))


class WatchdogOptions(Options):
    """What looks out for a training that goes wrong."""

    mode: Literal["warn", "stop", "off"] = "warn"
    """warn: say so, in the run's record, report and tags too; stop: end the training as well; off: do not look."""
    samples: int = Field(16, ge=4)
    """Samples drawn at each checkpoint to look for collapsed modes and memorised scans; at most 8 patches or label maps
    where scans are made from others.
    """

    @field_validator("mode", mode="before")
    @classmethod
    def _off_is_a_word(cls, mode: Any) -> Any:
        # YAML reads a bare off as false.
        return "off" if mode is False else mode


class StopOptions(Options):
    """When a training ends before its last image."""

    metric: Literal["kid", "error"] = "kid"
    """What is evaluated at each checkpoint, lower is better. kid: of synthesis, as in the evaluation after training;
    error: of pix2pix, mean absolute difference to the paired scans, in normalised intensity.
    """
    below: float | None = None
    """The training ends when the metric falls below this."""
    patience: int | None = Field(None, ge=1)
    """The training ends after this many evaluations in a row without a new best one."""
    scans: Literal["train", "validation"] | None = None
    """The real scans that it is held against; when empty, train for kid and validation for error."""
    samples: int = Field(64, ge=4)
    """Samples drawn, or patches translated, for each evaluation."""

    @property
    def split(self) -> str:
        """The split of these scans."""
        return self.scans or ("train" if self.metric == "kid" else "validation")


class TrainingOptions(Options):
    """How the loop runs, whatever it trains."""

    batch_size: int = Field(16, ge=1)
    """Volumes or patches per step."""
    accumulation: int = Field(1, ge=1)
    """Parts into which a batch is split to save memory; their gradients add up to that of the whole batch."""
    seed: int = Field(0, ge=0)
    """Seed of weights, latents, batches and augmentation."""
    mode: Literal["fast", "exact"] = "fast"
    """fast: bfloat16 and tuned kernels where the device profits; exact: deterministic, bit-identical on one machine."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16: networks compute in half precision, with weights, losses and gradient penalties in float32; refused
    where the device only emulates it and on CPUs, which get gradients wrong in it. auto: bfloat16 in fast mode on GPUs
    that compute it, else float32.
    """
    recompute: bool = False
    """Whether features inside the networks' blocks are computed again for the gradient instead of being kept: the same
    results with less memory, in about a third more time.
    """
    tick_steps: int = Field(50, ge=1)
    """Steps between ticks, at which metrics are reported and previews drawn."""
    checkpoint_ticks: int = Field(1, ge=1)
    """Ticks between checkpoints."""
    gradient_clip: float | None = Field(None, gt=0)
    """Largest norm of a phase's gradient; longer ones are scaled down. No limit when empty."""
    workers: int = Field(1, ge=0)
    """Background threads that prepare batches; 0 prepares them inside the loop."""
    watchdogs: WatchdogOptions = WatchdogOptions()
    """Warnings of a training that goes wrong."""
    stop: StopOptions | None = None
    """When to end early; never when empty."""
    keep: Literal["best", "last"] = "best"
    """With `stop`: which weights are exported, those of the best evaluation or the last ones."""

    @model_validator(mode="after")
    def _consistent(self) -> TrainingOptions:
        if self.accumulation > self.batch_size:
            raise ValueError(f"accumulation {self.accumulation} splits a batch of {self.batch_size} into empty parts")
        if self.stop is not None and self.keep == "last" and self.stop.below is None and self.stop.patience is None:
            raise ValueError("stop needs below or patience: it would never end anything")
        return self


class TrackingOptions(Options):
    """What is recorded in MLflow."""

    enabled: bool = True
    """Whether to record at all; without it, training works where MLflow is not installed."""
    experiment: str = "medgan"
    """Name of the MLflow experiment."""


class PenaltyOptions(Options):
    """How the discriminator is kept from becoming too steep."""

    kind: Literal["none", "r1", "r2", "r1+r2"] = "r1+r2"
    """Where the squared gradient is penalised: at real volumes (r1), at generated ones (r2), or at both."""
    form: Literal["exact", "finite_difference"] = "exact"
    """exact differentiates twice; finite_difference estimates the same by a small disturbance, without double
    backward.
    """
    weight: Schedule | Literal["auto"] = "auto"
    """Gamma; auto starts at 2e-4 times voxels over batch size, at 1 for discriminators of patches, and falls to a tenth
    of it.
    """
    strength: float = Field(1.0, gt=0)
    """Factor on an automatic weight: 10 and more for dozens of scans, which a discriminator soon knows by heart."""
    interval: int = Field(1, ge=1)
    """Steps between penalties (lazy regularisation); the weight is multiplied by it."""
    sigma: float = Field(0.02, gt=0)
    """Standard deviation of the disturbance of the finite-difference form, in normalised intensity."""

    @model_validator(mode="after")
    def _strength_is_of_an_automatic_weight(self) -> Self:
        if self.strength != 1 and self.weight != "auto":
            raise ValueError(f"strength {self.strength:g} is a factor on weight: auto; change the given weight itself")
        return self

    def scheduled(self, automatic: float = 1.0) -> Schedule:
        """The weight over the training; one that is auto begins at `automatic` times strength and falls to a tenth."""
        if isinstance(self.weight, Schedule):
            return self.weight
        return Schedule(start=self.strength * automatic, end=self.strength * automatic / 10)


def refuse_means_over_parts(game: str, training: TrainingOptions, *, loss: str, feature_weight: float) -> None:
    """Refuse to split batches for a game that compares means over them.

    Args:
        game: the recipe's section, for the message.
        training: the loop.
        loss: the adversarial loss of that section.
        feature_weight: its weight of mean feature matching.

    Raises:
        ValueError: a field of the game does not go with the loop.
    """
    averages = {"loss relativistic_average": loss == "relativistic_average", "feature_weight": feature_weight > 0}
    for field in (name for name, used in averages.items() if used and training.accumulation > 1):
        raise ValueError(
            f"training.accumulation splits batches, but {game}.{field} compares means over a whole batch; set "
            "training.accumulation: 1"
        )
