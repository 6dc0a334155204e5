"""Recipes that turn scans of one contrast into scans of another: pix2pix from pairs, CycleGAN without."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medgan.geometry import Shape
from medgan.recipe_options import Options, PenaltyOptions, Schedule, TrackingOptions, TrainingOptions


class TranslationNetwork(Options):
    """Sizes of a translating network: a U-shape of residual blocks."""

    channels: int = Field(16, ge=1)
    """Feature channels at the finest resolution; they double with each halving."""
    levels: int = Field(3, ge=1, le=6)
    """Resolutions, each half as fine as the one before."""
    blocks: int = Field(1, ge=1)
    """Residual blocks at each resolution, once on the way down and once on the way up."""
    haar_head: bool = False
    """Whether the network works on the eight Haar sub-bands at half the resolution, which costs about an eighth."""
    normalisation: Literal["none", "instance"] = "none"
    """instance: feature channels are standardised over the volume, which ties every voxel to all others: such a
    network cannot work in tiles, and sees patches in training differently from whole scans in use.
    """


class TranslationOptions(Options):
    """The games of a translation training, and what keeps the anatomy in place."""

    method: Literal["pix2pix", "cyclegan"] = "pix2pix"
    """pix2pix learns from both contrasts of the same subjects on one grid; cyclegan needs no pairs."""
    images: int = Field(20_000, ge=1)
    """Patches seen in the whole training."""
    patch: Shape = (32, 32, 32)
    """Voxels of the part of a training patch that is judged."""
    margin: int = Field(4, ge=0)
    """Voxels around it that the network sees but that are not judged, so that the cut faces teach nothing."""
    loss: Literal[
        "relativistic",
        "relativistic_average",
        "non_saturating",
        "saturating",
        "least_squares",
        "hinge",
        "wasserstein",
    ] = "least_squares"
    """The adversarial loss."""
    adversarial_weight: float = Field(1.0, ge=0)
    """Weight of the adversarial loss; 0 leaves the game out."""
    pixel_weight: float = Field(100.0, ge=0)
    """Of pix2pix: weight of the mean absolute difference to the paired scan."""
    cycle_weight: float = Field(10.0, ge=0)
    """Of cyclegan: weight of the mean absolute difference after there and back."""
    identity_weight: float = Field(5.0, ge=0)
    """Of cyclegan: weight of the mean absolute change of a scan that has the wanted contrast already."""
    pool_size: int = Field(50, ge=0)
    """Of cyclegan: past patches kept for each discriminator; 0 shows it the newest ones alone."""
    penalty: PenaltyOptions = PenaltyOptions(kind="r1", weight=Schedule(start=1.0, end=1.0), interval=4)
    """The gradient penalty; auto falls from 1 to a tenth."""
    discriminator_width: int = Field(32, ge=1)
    """Feature channels of the first layer of each patch discriminator."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Of the translating networks: muon orthogonalises the momentum of convolutions and learns in fewer steps."""
    learning_rate: Schedule = Schedule(start=5e-4, end=2e-5)
    """Learning rate of the translating networks."""
    discriminator_learning_rate: Schedule = Schedule(start=2e-4, end=2e-5)
    """Learning rate of the discriminators."""
    ema_images: float = Field(1_000, ge=0)
    """Half-life of the averaged networks, in patches."""
    flip: bool = True
    """Whether patches are mirrored at random along each axis, both of a pair alike."""
    source_range: Literal["scan", "cohort"] = "scan"
    """What 0 and 1 of the networks mean: percentiles of each scan, for scans in arbitrary units, or the medians of
    these over all scans, for units that mean the same in each, such as Hounsfield's.
    """
    target_range: Literal["scan", "cohort"] = "scan"
    """The same for the target contrast; say cohort for CT."""

    @model_validator(mode="after")
    def _can_be_trained(self) -> TranslationOptions:
        if self.method == "pix2pix" and not (self.pixel_weight or self.adversarial_weight):
            raise ValueError("pixel_weight and adversarial_weight are both 0: nothing would be learned")
        if self.method == "cyclegan" and not self.adversarial_weight:
            raise ValueError("adversarial_weight is 0: without its game cyclegan learns to change nothing")
        if min(self.patch) < SMALLEST_PATCH:
            raise ValueError(f"patch is {self.patch}: each side needs at least {SMALLEST_PATCH} voxels")
        return self


# The patch discriminators halve twice and judge what is left by a convolution of three voxels.
SMALLEST_PATCH = 8


class TranslationRecipe(Options):
    """Train networks that turn one contrast into another."""

    task: Literal["translation"]
    """Which kind of training this is."""
    description: str = ""
    """One sentence for the list of recipes."""
    source: str = Field("T1w", min_length=1)
    """Contrast of the scans to start from: a BIDS suffix such as T1w, or the last word of the files' names."""
    target: str = Field("T2w", min_length=1)
    """Contrast to make of them."""
    network: TranslationNetwork = TranslationNetwork()
    """Sizes of the translating networks."""
    translation: TranslationOptions = TranslationOptions()
    """Pairs or not, and the losses."""
    training: TrainingOptions = TrainingOptions(batch_size=4)
    """The loop."""
    tracking: TrackingOptions = TrackingOptions()
    """The record."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> TranslationRecipe:
        if self.source.lower() == self.target.lower():
            raise ValueError(f"source and target are both '{self.source}': there is nothing to translate")
        return self

    @property
    def images(self) -> int:
        """Patches of the whole training."""
        return self.translation.images

    def with_steps(self, steps: int) -> TranslationRecipe:
        """The same recipe shortened or lengthened to `steps` steps; schedules stretch with it."""
        options = self.translation.model_copy(update={"images": steps * self.training.batch_size})
        return self.model_copy(update={"translation": options})
