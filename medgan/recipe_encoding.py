"""Recipes that train an encoder without labels, for the features of the evaluation card."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from medgan.recipe_options import Options, Schedule, TrackingOptions, TrainingOptions


class EncodingNetwork(Options):
    """Sizes of the encoder."""

    channels: tuple[int, ...] = (24, 48, 96, 96)
    """Feature channels of each stage; every stage works at half the resolution of the one before."""
    hidden: int = Field(192, ge=1)
    """Width of the perceptron between the channels' means and deviations and the descriptor."""
    descriptor: int = Field(96, ge=1)
    """How many numbers describe a volume."""

    @field_validator("channels")
    @classmethod
    def _positive(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        if not channels or min(channels) < 1:
            raise ValueError("every stage needs at least one channel")
        return channels


class EncodingOptions(Options):
    """What the encoder learns to tell apart."""

    images: int = Field(20_000, ge=1)
    """Patches seen in the whole training."""
    patch: int = Field(48, ge=16)
    """Voxels along each side of the patches that are degraded."""
    view: int = Field(32, ge=8)
    """Voxels along each side of what is cut out of a degraded patch and encoded."""
    coarse_share: float = Field(0.3, ge=0, le=1)
    """Share of the steps in which larger views are halved in resolution first, so that anatomy is seen as well."""
    chance: float = Field(0.35, ge=0, le=1)
    """Probability of each kind of degradation in a patch."""
    strength_weight: float = Field(10.0, ge=0)
    """Weight of naming the kinds and strengths of the degradations."""
    contrastive_weight: float = Field(1.0, ge=0)
    """Weight of finding the other view of the same patch, degraded alike, among all others."""
    temperature: float = Field(0.1, gt=0)
    """Of the contrastive loss: lower looks harder at the nearest others."""
    learning_rate: Schedule = Schedule(start=1e-3, end=1e-5)
    """Learning rate of Adam."""
    ema_images: float = Field(1_000, ge=0)
    """Half-life of the averaged encoder, in patches."""
    contrast: float = Field(0.3, ge=0, le=1)
    """Share of the patches that are shown in a random contrast, so that the encoder knows more than one sequence."""

    @field_validator("view")
    @classmethod
    def _even(cls, view: int) -> int:
        if view % 2:
            raise ValueError("the side of a view must be even")
        return view


class EncodingRecipe(Options):
    """Train an encoder that tells scans and their degradations apart."""

    task: Literal["encoding"]
    """Which kind of training this is."""
    description: str = ""
    """One sentence for the list of recipes."""
    network: EncodingNetwork = EncodingNetwork()
    """Sizes of the encoder."""
    encoding: EncodingOptions = EncodingOptions()
    """What it learns."""
    training: TrainingOptions = TrainingOptions(batch_size=8)
    """The loop."""
    tracking: TrackingOptions = TrackingOptions()
    """The record."""

    @property
    def images(self) -> int:
        """Patches of the whole training."""
        return self.encoding.images

    def with_steps(self, steps: int) -> EncodingRecipe:
        """The same recipe shortened or lengthened to `steps` steps; schedules stretch with it."""
        options = self.encoding.model_copy(update={"images": steps * self.training.batch_size})
        return self.model_copy(update={"encoding": options})
