"""What recipes of autoencoding GANs add to the adversarial game: reconstruction, codes, and the prior over codes."""

from __future__ import annotations

from pydantic import Field, model_validator

from medgan.recipe_options import Options, Schedule


class AutoencodingOptions(Options):
    """How a scan is turned into a code and back, and what is learned of the codes.

    A recipe may only name fields that its kind of network has, and only these are saved.
    """

    reconstruction_weight: float = Field(10.0, gt=0)
    """Weight of the mean absolute difference between scans and their reconstructions, in the networks' range of -1
    to 1, beside the adversarial loss.
    """
    code_weight: float = Field(1.0, gt=0)
    """Of alpha_wgan: weight in the encoder's loss of what the code discriminator says of its codes."""
    commitment_weight: float = Field(1.0, gt=0)
    """Of vqgan: weight of the distance between what the encoder gives and the codes that stand for it."""
    feature_weight: float = Field(0.0, ge=0)
    """Of vqgan: weight of the difference between what the discriminator sees in a scan and in its reconstruction."""
    adversarial_start: float = Field(0.25, ge=0, le=1)
    """Of vqgan: share of the autoencoder's training after which the discriminator joins; 1 trains without one."""
    codebook_decay: float = Field(0.95, ge=0, lt=1)
    """Of vqgan: what the codebook keeps of the past at each step."""
    prior_share: float = Field(0.5, gt=0, lt=1)
    """Of vqgan: share of the images that the prior over codes is trained on, after the autoencoder is done."""
    prior_learning_rate: Schedule = Schedule(start=3e-4, end=3e-5)
    """Of vqgan: learning rate of the prior."""

    @model_validator(mode="after")
    def _features_have_a_discriminator(self) -> AutoencodingOptions:
        if self.feature_weight and self.adversarial_start == 1:
            raise ValueError(
                "feature_weight compares what the discriminator sees, but with adversarial_start 1 there is none"
            )
        return self
