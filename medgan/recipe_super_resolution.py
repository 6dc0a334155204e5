"""Recipes that train a network to sharpen scans: the acquisition to undo, the network, the stages."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    model_validator,
)

from medgan.geometry import Shape
from medgan.recipe_options import Options, PenaltyOptions, Schedule, TrackingOptions, TrainingOptions


class RandomAcquisition(Options):
    """Acquisitions drawn anew for each patch, so that one network learns to undo them all."""

    through_plane_share: float = Field(0.45, ge=0, le=1)
    """Share of patches with thick slices along one axis."""
    isotropic_share: float = Field(0.4, ge=0, le=1)
    """Share of patches with equally long voxels along all axes; the rest has factors of its own along two axes."""
    through_plane_factor: tuple[float, float] = (1.5, 6.0)
    """Smallest and largest factor along the axis of thick slices; every other one is a whole number."""
    isotropic_factor: tuple[float, float] = (1.25, 3.0)
    """Smallest and largest factor where several axes are sampled coarsely."""
    thickness: tuple[float, float] = (0.6, 1.2)
    """Thinnest and thickest slices as a share of their distance; half of the patches have slices that touch."""
    profiles: tuple[Literal["gaussian", "rectangular", "shinnar_le_roux"], ...] = Field(("gaussian",), min_length=1)
    """Slice profiles, all equally likely; one named twice is twice as likely."""
    band_limit_share: float = Field(0.15, ge=0, le=1)
    """Share of the coarsely sampled in-plane axes that are limited in k-space instead of averaged."""
    noise: float = Field(0.02, ge=0)
    """Largest standard deviation of the noise, in normalised intensity; half of the patches have none."""


class AcquisitionOptions(Options):
    """The low-resolution scanner that super-resolution learns to undo."""

    random: RandomAcquisition | None = None
    """Draw an acquisition for each patch; the fields below then only describe the scans of the evaluation."""

    factor: tuple[float, float, float] = (1.0, 1.0, 2.0)
    """How many times longer the low-resolution voxels are along each axis of a RAS scan."""
    thickness: float = Field(1.0, gt=0)
    """Slice thickness as a share of the slice spacing; below 1 there is a gap."""
    profile: Literal["gaussian", "band_limit"] = "gaussian"
    """Shape of the sampling along an axis with a factor above 1: slice profile or in-plane band limit."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of the noise in the low-resolution scans, in normalised intensity."""
    regularisation: float | None = Field(None, gt=0)
    """Weight of the smoothness prior in the regularised inverse; the measured default when empty."""


class SuperResolutionNetwork(Options):
    """Kind and sizes of the restoring network."""

    kind: Literal["residual_dense", "conditioned", "wide_activation"] = "residual_dense"
    """residual_dense: residual-in-residual dense blocks; conditioned: plain residual blocks that are told the
    acquisition, which random acquisitions need; wide_activation: light, works on the low-resolution grid.
    """
    expansion: int = Field(1, ge=1)
    """Of a conditioned or wide-activation network: how many times wider its blocks are inside."""
    low_rank: float = Field(0.8, gt=0, le=1)
    """Of a wide-activation network: channels between the linear and the spatial layer of a block, as a share of
    `channels`.
    """
    weight_normalisation: bool = False
    """Of a wide-activation network: whether length and direction of the weights are learned separately."""
    channels: int = Field(64, ge=1)
    """Feature channels."""
    growth: int = Field(32, ge=1)
    """Channels that each dense convolution adds."""
    blocks: int = Field(4, ge=1)
    """Blocks of the body."""
    dense_blocks: int = Field(2, ge=1)
    """Dense blocks in each block of a residual-in-residual network."""
    convolutions: int = Field(4, ge=2)
    """Convolutions in each dense block."""
    packing: int = Field(2, ge=1)
    """Of a residual_dense network: side of the cubes of voxels that are folded into channels, so that convolutions run
    at a lower resolution.
    """
    residual_scale: float = Field(0.2, gt=0, le=1)
    """Factor on the output of every block: 0.2 steadies deep networks, 1 makes shallow ones learn faster."""


class RestorationStage(Options):
    """One stage of a super-resolution training."""

    images: int = Field(..., ge=0)
    """Patches seen in this stage; 0 leaves it out."""
    learning_rate: Schedule
    """Learning rate of the restoring network."""


class PretrainingStage(RestorationStage):
    """Fidelity first: the network learns the expected high-resolution scan."""

    images: int = Field(200_000, ge=0)
    """Patches seen in this stage; 0 leaves it out, for a training that starts from a trained model."""
    learning_rate: Schedule = Schedule(start=2e-4, end=2e-5)
    """Learning rate of the restoring network."""


class AdversarialStage(RestorationStage):
    """Then texture: adversarial fine-tuning from the pre-trained weights."""

    images: int = Field(100_000, ge=0)
    """Patches seen in this stage; 0 leaves it out."""
    learning_rate: Schedule = Schedule(start=1e-4, end=1e-5)
    """Learning rate of the restoring network."""
    discriminator_learning_rate: Schedule = Schedule(start=1e-4, end=1e-5)
    """Learning rate of the discriminator."""
    weight: float = Field(5e-3, ge=0)
    """Weight of the adversarial loss beside the fidelity loss."""
    feature_weight: float = Field(0.0, ge=0)
    """Weight of the difference between what the discriminator's layers see in the restored and in the true patch."""
    energy_weight: float = Field(0.0, ge=0)
    """Weight of the difference in the local strength of fine detail, wherever it lies; patches need even sides."""
    band_weight: float = Field(0.0, ge=0)
    """Weight of the difference in the strength of each band of the spectrum, wherever the detail lies."""
    perceptual_weight: float = Field(0.0, ge=0)
    """Weight of the difference between what a network for planes sees in slices of both; above 0 that network's
    TorchScript file has to be named by --perceptual-network.
    """
    perceptual_channels: Literal[1, 3] = 1
    """Channels that this network takes: 1, or 3 if it was made for colour pictures."""
    loss: Literal["relativistic", "non_saturating", "saturating", "least_squares", "hinge", "wasserstein"] = (
        "relativistic"
    )
    """The adversarial loss."""
    penalty: PenaltyOptions = PenaltyOptions(kind="r1", weight=Schedule(start=1.0, end=1.0), interval=4)
    """The gradient penalty."""
    discriminator_width: int = Field(32, ge=1)
    """Feature channels of the first layer of the patch discriminator."""


class SuperResolutionOptions(Options):
    """Data and stages of a super-resolution training."""

    patch: Shape = (48, 48, 48)
    """Voxels of a high-resolution training patch; shrunk to the scan along an axis that is shorter."""
    fidelity_loss: Literal["l1", "l2", "charbonnier", "balanced"] = "l1"
    """Distance between restored and true patch; l2 (mean square) is what PSNR measures, l1 keeps edges crisper;
    balanced is l2 over that of the physics inverse, for acquisitions of very different difficulty.
    """
    gradient_weight: float = Field(0.0, ge=0)
    """Weight of the mean absolute difference of the intensity gradients beside it: edges in their place."""
    spectral_weight: float = Field(0.0, ge=0)
    """Weight of the mean absolute difference of the Fourier spectra beside it: weak high frequencies count more."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Of the restoring network: muon orthogonalises the momentum of convolutions and learns in fewer steps; it wants a
    learning rate about three times that of adam.
    """
    pretraining: PretrainingStage = PretrainingStage()
    """The fidelity stage."""
    adversarial: AdversarialStage = AdversarialStage()
    """The adversarial stage."""
    ema_images: float = Field(5_000, ge=0)
    """Half-life of the averaged network, in patches."""
    flip: bool = True
    """Whether patches are mirrored at random along each axis; the simulated acquisition comes after."""
    transpose: bool = False
    """Whether the axes of patches are exchanged at random; scans that are blurred along one axis keep it away from the
    coarsest axis of the acquisition.
    """
    contrast: float = Field(0.0, ge=0, le=1)
    """Share of patches that are shown in a random contrast."""
    sampling: Literal["scans", "detail"] = "scans"
    """scans: all scans equally often; detail: in proportion to their voxels per cubic mm times their size, for scans of
    different sizes and spacings.
    """

    @model_validator(mode="after")
    def _trains_something(self) -> SuperResolutionOptions:
        if self.pretraining.images + self.adversarial.images < 1:
            raise ValueError("both stages have 0 images: nothing would be trained")
        return self


class SuperResolutionRecipe(Options):
    """Train a network that sharpens scans."""

    task: Literal["super_resolution"]
    """Which kind of training this is."""
    description: str = ""
    """One sentence for the list of recipes."""
    acquisition: AcquisitionOptions = AcquisitionOptions()
    """The low-resolution scanner."""
    network: SuperResolutionNetwork = SuperResolutionNetwork()
    """Sizes of the restoring network."""
    super_resolution: SuperResolutionOptions = SuperResolutionOptions()
    """Patches and stages."""
    training: TrainingOptions = TrainingOptions(batch_size=8)
    """The loop."""
    tracking: TrackingOptions = TrackingOptions()
    """The record."""

    @property
    def images(self) -> int:
        """Images of the whole training."""
        return self.super_resolution.pretraining.images + self.super_resolution.adversarial.images

    def with_steps(self, steps: int) -> SuperResolutionRecipe:
        """The same recipe shortened or lengthened to `steps` steps, divided between the stages as before."""
        total, batch = self.images, self.training.batch_size
        stages = self.super_resolution
        first = round(steps * stages.pretraining.images / total)
        first = max(first, 1 if stages.pretraining.images else 0) * batch
        options = stages.model_copy(
            update={
                "pretraining": stages.pretraining.model_copy(update={"images": first}),
                "adversarial": stages.adversarial.model_copy(update={"images": max(0, steps * batch - first)}),
            }
        )
        return self.model_copy(update={"super_resolution": options})
