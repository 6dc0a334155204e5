"""Recipes that turn label maps into scans, so that synthetic pairs of both can train segmentation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medgan.recipe_options import (
    Options,
    PenaltyOptions,
    Schedule,
    TrackingOptions,
    TrainingOptions,
    refuse_means_over_parts,
)


class MaskToScanNetwork(Options):
    """Sizes of generator and discriminator; shapes derive from the cohort."""

    latent_size: int = Field(64, ge=1)
    """Length of the latent vector, which decides what a label map leaves open."""
    width: int = Field(16, ge=1)
    """Feature channels of the generator's finest stage."""
    max_width: int = Field(128, ge=1)
    """Most feature channels of a stage; channels double towards the coarser stages until they reach it."""
    base_size: int = Field(4, ge=2)
    """Fewest voxels along an axis of the coarsest stage."""
    embedding: int = Field(16, ge=1)
    """Channels into which each stage turns the label map before features are scaled and shifted by it."""
    normalisation: Literal["instance", "pixel"] = "instance"
    """What features are normalised by before that: each channel over the volume (instance, as published), or each
    voxel over the channels (pixel), with which a voxel depends on its surroundings alone.
    """
    haar_head: bool = False
    """Whether the generator works on the eight Haar sub-bands at half the resolution, which costs about an eighth."""
    discriminator_width: int = Field(32, ge=1)
    """Feature channels of the first layer of the patch discriminator."""


class MaskToScanOptions(Options):
    """The game of scans beside their label maps."""

    images: int = Field(100_000, ge=1)
    """Pairs seen in the whole training."""
    loss: Literal[
        "relativistic",
        "relativistic_average",
        "non_saturating",
        "saturating",
        "least_squares",
        "hinge",
        "wasserstein",
    ] = "hinge"
    """The adversarial loss."""
    feature_weight: float = Field(10.0, ge=0)
    """Weight of the difference between the mean features that the discriminator has of real and of generated scans of
    the same label maps.
    """
    pixel_weight: float = Field(0.0, ge=0)
    """Weight of the mean absolute difference to the real scan of the label map. It ties every sample to that one scan:
    samples of one label map become alike.
    """
    penalty: PenaltyOptions = PenaltyOptions(kind="none")
    """The gradient penalty, beside the discriminator's spectral normalisation; auto falls from 1 to a tenth."""
    learning_rate: Schedule = Schedule(start=2e-4, end=2e-5)
    """Learning rate of the generator."""
    discriminator_learning_rate: Schedule = Schedule(start=4e-4, end=4e-5)
    """Learning rate of the discriminator."""
    beta1: float = Field(0.0, ge=0, lt=1)
    """Decay of Adam's first moment."""
    beta2: float = Field(0.99, ge=0, lt=1)
    """Decay of Adam's second moment."""
    ema_images: float = Field(2_000, ge=0)
    """Half-life of the averaged generator, in pairs."""
    flip: bool = True
    """Whether scan and label map are mirrored left to right at random, both alike; say false where labels have a side,
    such as a left and a right hippocampus.
    """
    evaluation_scans: int = Field(16, ge=1)
    """Held-out label maps that are turned into scans for the evaluation after training."""


class MaskToScanRecipe(Options):
    """Train a network that turns label maps into scans."""

    task: Literal["mask_to_scan"]
    """Which kind of training this is."""
    description: str = ""
    """One sentence for the list of recipes."""
    network: MaskToScanNetwork = MaskToScanNetwork()
    """Sizes of generator and discriminator."""
    mask_to_scan: MaskToScanOptions = MaskToScanOptions()
    """The adversarial game."""
    training: TrainingOptions = TrainingOptions(batch_size=4)
    """The loop."""
    tracking: TrackingOptions = TrackingOptions()
    """The record."""

    @model_validator(mode="after")
    def _means_over_whole_batches(self) -> MaskToScanRecipe:
        game = self.mask_to_scan
        refuse_means_over_parts("mask_to_scan", self.training, loss=game.loss, feature_weight=game.feature_weight)
        return self

    @property
    def images(self) -> int:
        """Pairs of the whole training."""
        return self.mask_to_scan.images

    def with_steps(self, steps: int) -> MaskToScanRecipe:
        """The same recipe shortened or lengthened to `steps` steps; schedules stretch with it."""
        options = self.mask_to_scan.model_copy(update={"images": steps * self.training.batch_size})
        return self.model_copy(update={"mask_to_scan": options})
