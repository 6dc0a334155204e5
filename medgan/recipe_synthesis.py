"""Recipes that train a GAN: networks, the adversarial game and its stabilisers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from medgan.recipe_families import FAMILY_FIELDS, fields_of, kinds_with, third_party_networks
from medgan.recipe_options import Options, PenaltyOptions, Schedule, TrackingOptions, TrainingOptions


class SynthesisPenaltyOptions(PenaltyOptions):
    """How the discriminator of whole volumes is kept from becoming too steep."""

    kind: Literal["none", "r1", "r2", "r1+r2", "gradient_penalty", "dragan"] = "r1+r2"  # type: ignore[assignment]
    """Where the squared gradient is penalised: at real volumes (r1), at generated ones (r2), or at both; or where its
    norm is held at 1: between real and generated volumes (gradient_penalty, WGAN-GP) or around the real ones (dragan).
    """
    weight: Schedule | Literal["auto"] = "auto"
    """Gamma of r1 and r2, auto starting at 2e-4 times voxels over batch size and falling to a tenth of it; lambda of
    gradient_penalty and dragan, auto being 10.
    """

    @model_validator(mode="after")
    def _form_fits(self) -> SynthesisPenaltyOptions:
        if self.kind in ("gradient_penalty", "dragan") and self.form == "finite_difference":
            raise ValueError(
                f"form finite_difference estimates the square of the gradient's norm, but {self.kind} needs the norm "
                "of each volume itself; set form: exact"
            )
        return self


class LecamOptions(Options):
    """Holds the discriminator's logits near the running mean of the other side's (LeCam, Tseng et al. 2021)."""

    weight: float = Field(0.0, ge=0)
    """Weight of the term; 0 leaves it out."""
    decay: float = Field(0.99, ge=0, lt=1)
    """What the running means keep of the past at each step."""
    first_image: int = Field(0, ge=0)
    """Images after which the term begins; the running means are kept from the start."""


class PathLengthOptions(Options):
    """Makes steps of one size in a generator's styles change volumes by one amount (Karras et al. 2019, StyleGAN2)."""

    weight: float = Field(0.0, ge=0)
    """Weight of the term; 0 leaves it out, published is 2. Only stylegan networks have styles."""
    interval: int = Field(4, ge=1)
    """Generator steps between two of them; the weight is multiplied by it."""
    decay: float = Field(0.99, ge=0, lt=1)
    """What the running mean of the lengths keeps of the past."""


class AugmentationOptions(Options):
    """Random changes to every volume that the discriminator sees, real or generated, so that few scans last longer.

    Each change happens to each volume with the same probability, and well below 1, so that the generator does not
    learn them.
    """

    kind: Literal["none", "adaptive", "fixed"] = "none"
    """adaptive: the probability follows how much the discriminator overfits (Karras et al. 2020); fixed: it is
    given.
    """
    probability: Schedule = Schedule(start=0.3, end=0.3)
    """Of a fixed augmentation: the probability of each change."""
    target: float = Field(0.6, gt=0, lt=1)
    """Of an adaptive one: the mean sign of the discriminator's output at real volumes that is aimed at."""
    images: int = Field(500_000, ge=1)
    """Of an adaptive one: images over which the probability can move by one."""
    limit: float = Field(0.8, gt=0, le=0.9)
    """The largest probability; near 1 the generator would learn the changes."""
    rotation: float = Field(10.0, ge=0, le=180)
    """Largest rotation about each of the three axes, degrees."""
    scale: float = Field(0.1, ge=0, lt=1)
    """Largest change in size, the same along all axes: 0.1 is about 10 % larger or smaller."""
    shift: float = Field(0.06, ge=0, lt=1)
    """Largest shift along each axis, as a share of the volume."""
    intensity: float = Field(0.2, ge=0, lt=1)
    """Largest change of the intensity scale: 0.2 is about 20 % brighter or darker."""
    gamma: float = Field(0.2, ge=0, lt=1)
    """Largest change of the exponent of intensity: 0.2 is from about 0.8 to 1.2."""
    bias_field: float = Field(0.2, ge=0, lt=1)
    """Root mean square of the logarithm of a smooth shading."""
    noise: float = Field(0.05, ge=0, lt=1)
    """Largest standard deviation of Gaussian noise, in normalised intensity."""
    cutout: float = Field(0.4, ge=0, lt=1)
    """Sides of a box that is emptied, as a share of the volume's."""

    @model_validator(mode="after")
    def _leaks_nothing(self) -> AugmentationOptions:
        highest = max(self.probability.start, self.probability.end)
        if min(self.probability.start, self.probability.end) < 0 or highest > self.limit:
            raise ValueError(f"probability must lie between 0 and the limit of {self.limit:g}")
        return self


class OptimizerOptions(Options):
    """Adam for generator and discriminator."""

    learning_rate: Schedule = Schedule(start=2e-4, end=5e-5)
    """Learning rate of the generator."""
    discriminator_learning_rate: Schedule | None = None
    """Learning rate of the discriminator; the generator's when empty."""
    beta1: float = Field(0.0, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: Schedule = Schedule(start=0.9, end=0.99)
    """Decay of the second moment."""
    lazy_rescaling: bool = False
    """Whether a penalty at every k-th step lowers the discriminator's learning rate and betas by k / (k + 1), as
    published with lazy regularisation (Karras et al. 2019, StyleGAN2, appendix B).
    """


class SynthesisNetwork(Options):
    """Kind and sizes of generator and discriminator; shapes derive from the cohort.

    A recipe may only name fields that its kind has (`medgan.recipe_families`), and only these are saved.
    """

    kind: str = "r3gan"
    """r3gan: residual networks without normalisation; dcgan: plain convolutions; stylegan: modulated convolutions and
    noise; progressive: networks that grow during training; hagan: trained on sub-volumes, for large volumes; or a name
    that another package registered.
    """
    latent_size: int = Field(64, ge=1)
    """Length of the latent vector."""
    width: int = Field(48, ge=1)
    """Feature channels of the finest stage."""
    max_width: int = Field(384, ge=1)
    """Most feature channels of a stage; channels double towards the coarser stages until they reach it."""
    blocks: int = Field(2, ge=1)
    """Of r3gan: residual blocks per stage."""
    group_width: int = Field(16, ge=0)
    """Of r3gan: channels per group of the inner convolutions; 0 for dense blocks, which are faster on a CPU."""
    expansion: int = Field(2, ge=1)
    """Of r3gan: how many times wider a grouped block is inside."""
    base_size: int = Field(4, ge=2)
    """Fewest voxels along an axis of the coarsest stage."""
    haar_head: bool = False
    """Whether the networks work on the eight Haar sub-bands at half the resolution, which costs about an eighth."""
    normalisation: Literal["batch", "instance", "none", "spectral"] = "batch"
    """Of dcgan: what the generator is normalised by; spectral normalises weights instead of features."""
    discriminator_normalisation: Literal["batch", "instance", "none", "spectral"] = "none"
    """Of dcgan: what the discriminator is normalised by."""
    minibatch_statistics: Literal["none", "deviation", "discrimination"] = "none"
    """Of all but r3gan: what the discriminator sees of the other volumes in the batch: how much they
    differ (deviation), or their learned distances (discrimination).
    """
    style_size: int = Field(64, ge=1)
    """Of stylegan: length of a style."""
    mapping_layers: int = Field(4, ge=1)
    """Of stylegan: layers of the network that turns latent vectors into styles."""
    noise: bool = True
    """Of stylegan: whether convolutions get noise for what differs between scans of one style."""
    style_mixing: float = Field(0.5, ge=0, le=1)
    """Of stylegan: share of the training samples that are made of two styles."""
    fading: float = Field(0.08, gt=0, le=1)
    """Of progressive: share of the training in which each stage fades in."""
    stabilising: float = Field(0.08, ge=0, le=1)
    """Of progressive: share of the training for which each stage is trained before the next one fades in."""
    sub_volume: float = Field(0.5, gt=0, le=1)
    """Of hagan: share of each axis that the sub-volumes span on which the full resolution is trained."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Of another package's networks: what they are made with."""

    @field_validator("kind")
    @classmethod
    def _kind_exists(cls, kind: str) -> str:
        if kind not in FAMILY_FIELDS and kind not in third_party_networks():
            known = ", ".join([*FAMILY_FIELDS, *third_party_networks()])
            raise ValueError(f"neither medgan nor an installed package has such networks; there are {known}")
        return kind

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> SynthesisNetwork:
        for field in sorted(self.model_fields_set - fields_of(self.kind)):
            raise ValueError(f"'{field}' is a field of {', '.join(kinds_with(field))} networks, not of {self.kind}")
        if "group_width" in fields_of(self.kind) and self.group_width:
            for field in ("width", "max_width"):
                inner = getattr(self, field) * self.expansion
                if inner % self.group_width:
                    raise ValueError(
                        f"{field} times expansion is {inner}, which does not divide into groups of group_width "
                        f"{self.group_width}; choose a multiple, or 0 for dense blocks"
                    )
        return self

    @model_serializer(mode="wrap")
    def _fields_that_count(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {field: value for field, value in dump(self).items() if field in fields_of(self.kind)}


class SynthesisOptions(Options):
    """Games and averages of a synthesis training."""

    images: int = Field(200_000, ge=1)
    """Real volumes shown to the discriminator in the whole training, repeats counted."""
    loss: Literal[
        "relativistic",
        "relativistic_average",
        "non_saturating",
        "saturating",
        "least_squares",
        "hinge",
        "wasserstein",
    ] = "relativistic"
    """The adversarial loss."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """How far the label of real volumes lies below 1 (one-sided; Salimans et al. 2016); for losses with labels, which
    are non_saturating, saturating and least_squares.
    """
    instance_noise: Schedule = Schedule(start=0, end=0)
    """Standard deviation of noise on every volume that the discriminator sees, in normalised intensity; it must end
    at 0.
    """
    feature_weight: float = Field(0.0, ge=0)
    """Weight of the difference between the mean features that the discriminator has of real and of generated volumes,
    beside the generator's adversarial loss (feature matching; Salimans et al. 2016).
    """
    lecam: LecamOptions = LecamOptions()
    """A regularisation for few scans."""
    path_length: PathLengthOptions = PathLengthOptions()
    """A regularisation of generators with styles."""
    augmentation: AugmentationOptions = AugmentationOptions()
    """Changes to the volumes that the discriminator sees."""
    penalty: SynthesisPenaltyOptions = SynthesisPenaltyOptions()
    """The gradient penalty."""
    optimizer: OptimizerOptions = OptimizerOptions()
    """Learning rates and momenta."""
    discriminator_steps: int = Field(1, ge=1)
    """Discriminator steps per generator step."""
    ema_images: Schedule = Schedule(start=0, end=10_000)
    """Half-life of the averaged generator, in images."""
    flip: bool = True
    """Whether volumes are mirrored left to right at random (sensible for brains, wrong where the side matters)."""
    evaluation_samples: int = Field(64, ge=4)
    """Synthetic volumes drawn for the evaluation after training."""

    @model_validator(mode="after")
    def _parts_fit(self) -> SynthesisOptions:
        if self.penalty.kind == "gradient_penalty" and self.loss != "wasserstein":
            raise ValueError(
                "penalty gradient_penalty holds the gradient's norm at 1, which the Wasserstein distance asks for and "
                f"no other loss; with loss {self.loss} use penalty r1, r1+r2 or dragan"
            )
        if self.label_smoothing and self.loss not in ("non_saturating", "saturating", "least_squares"):
            raise ValueError(
                "label_smoothing needs a loss with labels (non_saturating, saturating, least_squares); loss "
                f"{self.loss} has none"
            )
        if self.instance_noise.end != 0 or self.instance_noise.start < 0:
            raise ValueError("instance_noise must begin at 0 or more and end at 0, or the samples stay noisy")
        if self.optimizer.lazy_rescaling and (self.penalty.kind == "none" or self.penalty.interval < 2):
            raise ValueError("optimizer.lazy_rescaling needs a penalty with an interval of 2 or more")
        return self


class SynthesisRecipe(Options):
    """Train a GAN on a cohort."""

    task: Literal["synthesis"]
    """Which kind of training this is."""
    description: str = ""
    """One sentence for the list of recipes."""
    network: SynthesisNetwork = SynthesisNetwork()
    """Sizes of generator and discriminator."""
    synthesis: SynthesisOptions = SynthesisOptions()
    """The adversarial game."""
    training: TrainingOptions = TrainingOptions()
    """The loop."""
    tracking: TrackingOptions = TrackingOptions()
    """The record."""

    @model_validator(mode="after")
    def _game_fits_parts_of_batches(self) -> SynthesisRecipe:
        averages = {"loss relativistic_average": self.synthesis.loss == "relativistic_average"}
        averages["feature_weight"] = self.synthesis.feature_weight > 0
        for field in (name for name, used in averages.items() if used and self.training.accumulation > 1):
            raise ValueError(
                f"training.accumulation splits batches, but synthesis.{field} compares means over a whole batch; set "
                "training.accumulation: 1"
            )
        return self

    @model_validator(mode="after")
    def _game_fits_networks(self) -> SynthesisRecipe:
        fields, penalty = fields_of(self.network.kind), self.synthesis.penalty.kind
        batch = self.network.discriminator_normalisation == "batch" and "discriminator_normalisation" in fields
        if self.network.kind == "hagan" and (self.synthesis.augmentation.kind != "none" or penalty == "dragan"):
            part = "penalty dragan" if penalty == "dragan" else "augmentation"
            raise ValueError(f"{part} works on whole volumes, but hagan networks are trained on views of them")
        if batch and penalty != "none":
            raise ValueError(
                f"penalty {penalty} limits the gradient at each volume, but with network.discriminator_normalisation "
                "batch a logit depends on the other volumes too; choose instance, spectral or none"
            )
        batch = batch or (self.network.normalisation == "batch" and "normalisation" in fields)
        if batch and self.training.batch_size == 1:
            raise ValueError(
                "batch normalisation needs a training.batch_size of 2 or more; or choose network.normalisation instance"
            )
        statistics = self.network.minibatch_statistics if "minibatch_statistics" in fields else "none"
        if statistics != "none" and self.training.batch_size // self.training.accumulation < 2:
            raise ValueError(
                f"network.minibatch_statistics {statistics} compares the volumes of a batch: it needs a "
                "training.batch_size of 2 or more"
            )
        return self

    @property
    def images(self) -> int:
        """Images of the whole training."""
        return self.synthesis.images

    def with_steps(self, steps: int) -> SynthesisRecipe:
        """The same recipe shortened or lengthened to `steps` steps; schedules stretch with it."""
        seen = self.training.batch_size * self.synthesis.discriminator_steps
        options = self.synthesis.model_copy(update={"images": steps * seen})
        return self.model_copy(update={"synthesis": options})
